"""The mel front-end: against its definition, against librosa's numbers, and differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.registry import LimenError
from bench.spaces import MelSpectrogram
from bench.spaces.mel import hertz_to_mel, mel_filters, mel_to_hertz


def tone(hertz: float, *, rate: int = 8000, samples: int = 2048) -> Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(samples) / rate).reshape(1, 1, -1)


def slow_log_mel(wave: np.ndarray, *, n_fft: int, hop: int, bands: np.ndarray, floor: float) -> np.ndarray:
    """Compute the spectrogram of one waveform frame by frame, with the discrete Fourier sum written out."""
    padded = np.concatenate([wave[1 : n_fft // 2 + 1][::-1], wave, wave[-n_fft // 2 - 1 : -1][::-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft)
    starts = range(0, len(padded) - n_fft + 1, hop)
    power = [np.abs(turns @ (window * padded[start : start + n_fft])) ** 2 for start in starts]
    return np.log(bands @ np.array(power).T + floor)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area", [True, False])
def test_a_spectrogram_is_what_its_definition_says(scale: str, area: bool) -> None:
    waves = torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(0))
    front = MelSpectrogram(8000, 128, 40, 16, scale=scale, area=area, floor=1e-4)
    found = front(waves)
    assert found.shape == (2, 3, 16, 11)
    bands = mel_filters(8000, 128, 16, scale=scale, area=area)
    expected = [
        slow_log_mel(wave, n_fft=128, hop=40, bands=bands, floor=1e-4) for wave in waves.double().flatten(0, 1).numpy()
    ]
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), expected, atol=1e-4)


def test_bands_are_those_of_librosa() -> None:
    # librosa 0.11.0: filters.mel(sr=44100, n_fft=1024, n_mels=128) and (sr=16000, n_fft=512, n_mels=40, htk, no norm).
    slaney = mel_filters(44_100, 1024, 128, scale="slaney", area=True)
    assert slaney.shape == (128, 513)
    np.testing.assert_allclose(slaney[10][slaney[10] > 0], [0.02862461], atol=5e-9)
    np.testing.assert_allclose(
        slaney[100][slaney[100] > 0][:4], [0.00022619, 0.00075366, 0.00128114, 0.00180861], atol=5e-9
    )
    htk = mel_filters(16_000, 512, 40, scale="htk", area=False)
    expected = [
        *(0.16903713, 0.37503213, 0.58102714, 0.78702214, 0.99301714),
        *(0.81285149, 0.61913639, 0.42542128, 0.23170618, 0.03799108),
    ]
    np.testing.assert_allclose(htk[20][htk[20] > 0], expected, atol=5e-9)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mels_and_hertz_are_inverse_and_agree_at_a_thousand_hertz(scale: str) -> None:
    hertz = np.array([0.0, 40.0, 999.0, 1000.0, 1001.0, 8000.0, 22_050.0])
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz, scale), scale), hertz, atol=1e-8)
    # Both scales were made so that 1 kHz is a landmark: 15 of Slaney's mels, 1000 of HTK's.
    assert hertz_to_mel(np.array([1000.0]), scale)[0] == pytest.approx({"slaney": 15, "htk": 1000}[scale], abs=0.02)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_around_it(hertz: float) -> None:
    front = MelSpectrogram(8000, 512, mels=40, area=False)
    loudest = int(front(tone(hertz))[0, 0].mean(dim=1).argmax())
    edges = mel_to_hertz(np.linspace(0, hertz_to_mel(np.array([4000.0]), "slaney")[0], 42), "slaney")
    assert edges[loudest] < hertz < edges[loudest + 2]


def test_the_slope_is_that_of_small_steps() -> None:
    front = MelSpectrogram(8000, 64, mels=8, floor=1e-2).double()
    waves = torch.randn(1, 1, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(front, waves)


def test_silence_has_a_finite_level_and_slope() -> None:
    silence = torch.zeros(1, 1, 2048, requires_grad=True)
    level = MelSpectrogram()(silence)
    torch.testing.assert_close(level, torch.full_like(level, float(np.log(1e-6))))
    level.sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MelSpectrogram(scale="bark"), "mel spectrogram, scale: unknown name 'bark'"),
        (lambda: MelSpectrogram(mels=0), "mel spectrogram, mels: given 0, allowed is more than 0"),
        (
            lambda: MelSpectrogram()(torch.zeros(1, 1, 512)),
            r"given \(1, 1, 512\), allowed are waveforms .* 512 samples",
        ),
        (lambda: MelSpectrogram()(torch.zeros(4, 4096)), r"given \(4, 4096\), allowed are waveforms \(N, C, T\)"),
    ],
)
def test_a_fault_is_one_sentence(call, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        call()

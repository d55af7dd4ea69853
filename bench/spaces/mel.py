"""A differentiable mel front-end: put before a classifier of spectrograms, it makes one of waveforms."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..registry import LimenError, unknown

Scale = Literal["slaney", "htk"]
_LINEAR_HERTZ, _BREAK_HERTZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27
"""Slaney's scale: so many hertz a mel up to the break, then so many natural logs of the frequency."""


class MelSpectrogram(nn.Module):
    """Logarithm of the mel power spectrogram of waveforms, as a picture for a convolutional classifier.

    `nn.Sequential(MelSpectrogram(), classifier)` is a network of waveforms (N, C, T) that every gradient and every mask
    of this package passes through; its wavelet credit says when and in which octave.

    Parameters
    ----------
    sample_rate : samples a second
    n_fft : samples of the window, a periodic Hann
    hop : samples from one frame to the next; None is half a window
    mels : number of bands, from 0 Hz to half the sample rate
    scale : 'slaney' (linear to 1 kHz, then logarithmic) or 'htk' (2595 log10(1 + f / 700))
    area : bands of equal area, 2 over their width in hertz, else of equal height 1
    floor : added to the power before its natural logarithm is taken, so that silence has one, and a slope

    Notes
    -----
    Frames are centred on their samples, edges reflected. `scale='slaney', area=True` are the defaults of librosa,
    `scale='htk', area=False` those of torchaudio.

    References
    ----------
    Davis, Mermelstein 1980, doi:10.1109/TASSP.1980.1163420; Slaney 1998, Auditory Toolbox, version 2.
    """

    window: Tensor
    bands: Tensor

    def __init__(
        self,
        sample_rate: int = 44_100,
        n_fft: int = 1024,
        hop: int | None = None,
        mels: int = 128,
        *,
        scale: Scale = "slaney",
        area: bool = True,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise unknown("mel spectrogram, scale", scale, get_args(Scale))
        for name, value in {"sample_rate": sample_rate, "n_fft": n_fft, "mels": mels, "floor": floor}.items():
            if value <= 0:
                raise LimenError(f"mel spectrogram, {name}: given {value}, allowed is more than 0.")
        self.n_fft, self.hop, self.floor = n_fft, n_fft // 2 if hop is None else hop, floor
        filters = mel_filters(sample_rate, n_fft, mels, scale=scale, area=area)
        self.register_buffer("window", torch.hann_window(n_fft))
        self.register_buffer("bands", torch.from_numpy(filters).float())

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return log mel power (N, C, mels, frames) of waveforms (N, C, T).

        Raises
        ------
        LimenError
            If they have another shape, or are too short for half a window to be reflected.
        """
        if waveforms.ndim != 3 or waveforms.shape[2] <= self.n_fft // 2:
            raise LimenError(
                f"mel spectrogram: given {tuple(waveforms.shape)}, allowed are waveforms (N, C, T) of more than "
                f"{self.n_fft // 2} samples."
            )
        frames = torch.stft(
            waveforms.flatten(0, 1), self.n_fft, self.hop, window=self.window, center=True, return_complex=True
        )
        power = frames.real.square() + frames.imag.square()
        return torch.log(self.bands @ power + self.floor).unflatten(0, waveforms.shape[:2])


def mel_filters(sample_rate: int, n_fft: int, mels: int, *, scale: Scale, area: bool) -> np.ndarray:
    """Return triangular bands over the frequencies of a spectrum, float64 (mels, n_fft // 2 + 1).

    Band i rises from edge i to edge i + 1 and falls to edge i + 2; the mels + 2 edges are equally spaced on the scale.
    """
    top = hertz_to_mel(np.array([sample_rate / 2]), scale)[0]
    edges = mel_to_hertz(np.linspace(0, top, mels + 2), scale)
    frequencies = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None] if area else triangles


def hertz_to_mel(hertz: np.ndarray, scale: Scale) -> np.ndarray:
    """Return mels of frequencies."""
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    above = np.log(np.maximum(hertz, _BREAK_HERTZ) / _BREAK_HERTZ) / _LOG_STEP
    return np.minimum(hertz, _BREAK_HERTZ) / _LINEAR_HERTZ + above


def mel_to_hertz(mels: np.ndarray, scale: Scale) -> np.ndarray:
    """Return frequencies of mels."""
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    at_break = _BREAK_HERTZ / _LINEAR_HERTZ
    return np.minimum(mels, at_break) * _LINEAR_HERTZ * np.exp(_LOG_STEP * np.maximum(mels - at_break, 0))

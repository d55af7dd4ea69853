"""WAM and WCAM: equal to their parts, closed forms, planted octaves, places and volumes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bench.api import explain
from bench.engine import Engine
from bench.registry import ATTRIBUTIONS, LimenError
from bench.spaces import MelSpectrogram, Pixels, Wavelets
from bench.spaces.mel import hertz_to_mel, mel_to_hertz

TARGETS = torch.tensor([3, 0, 1, 4])
RATE = 8000


def weights_of(engine: Engine, target: int, images: Tensor) -> Tensor:
    """Return d logit / d pixels of the linear classifier, (1, 3, H, W)."""
    return engine.network.module.fc.weight[target].reshape(1, *images.shape[1:])


def test_the_gradient_variant_is_the_gradient_in_wavelet_space(engine: Engine, images: Tensor) -> None:
    space = Wavelets("db2", 2)
    found = explain("wam", engine, images, TARGETS, space=space, variant="gradient")
    expected = space.credit(engine.gradients(images, TARGETS, space=space))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", ["smoothgrad", "integrated_gradients"])
@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_a_variant_is_the_method_of_its_name_in_wavelet_space(
    engine: Engine, images: Tensor, variant: str, baseline: str
) -> None:
    space = Wavelets("haar", 3, baseline=baseline)
    ours, theirs = ATTRIBUTIONS.load("wam"), ATTRIBUTIONS.load(variant)
    found = ours(engine, images, TARGETS, space=space, draws=engine.draws(5), variant=variant, samples=6)
    if variant == "smoothgrad":
        expected = theirs(engine, images, TARGETS, space=space, draws=engine.draws(5), samples=6, sigma=0.25)
    else:
        expected = theirs(engine, images, TARGETS, space=space, steps=6)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_integrated_gradients_sum_to_the_change_of_the_score(engine: Engine, images: Tensor, baseline: str) -> None:
    space = Wavelets("sym4", 2, baseline=baseline)
    found = explain("wam", engine, images, 3, space=space, variant="integrated_gradients", samples=200)
    start = engine.scores(Pixels(baseline).baseline(images))
    difference = (engine.scores(images) - start)[:, 3]
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), difference, atol=2e-3, rtol=0.01)


def test_variants_of_a_linear_network_have_their_closed_forms(linear_engine: Engine, small_images: Tensor) -> None:
    space = Wavelets("haar", 2)
    weights = space.transform(weights_of(linear_engine, 1, small_images))
    coefficients = space.transform(small_images)
    smooth, path = (
        explain("wam", linear_engine, small_images, 1, space=space, variant=variant, samples=3)
        for variant in ("smoothgrad", "integrated_gradients")
    )
    torch.testing.assert_close(smooth, weights.sum(1, keepdim=True).expand(4, 1, 8, 8), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(path, (weights * coefficients).sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_a_map_of_pixels_is_the_coefficients_drawn_over_all_scales(engine: Engine, images: Tensor) -> None:
    space = Wavelets("haar", 3)
    credit = explain("wam", engine, images, TARGETS, space=space, seed=2, samples=3)
    drawn = explain("wam", engine, images, TARGETS, seed=2, samples=3)
    torch.testing.assert_close(drawn, space.scales(credit).sum(dim=1, keepdim=True))
    assert (drawn >= 0).all()
    assert (credit < 0).any()


def test_a_change_of_one_scale_is_credited_to_that_scale() -> None:
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 2, bias=False))
    module[1].weight.data.copy_(torch.stack([torch.zeros(256), checks.flatten()]))
    engine = Engine(module, device="cpu", precision="fp32")
    space = Wavelets("haar", 3)
    credit = explain("wam", engine, checks[None, None], 1, space=space, variant="integrated_gradients")
    shares = {band.name: float(credit[0, 0][band.region].sum()) / 256 for band in space.bands((16, 16))}
    assert shares.pop("hh1") == pytest.approx(1)
    assert all(share == pytest.approx(0, abs=1e-6) for share in shares.values())


def test_normalised_sub_bands_reach_one_each_in_each_image(engine: Engine, images: Tensor) -> None:
    space = Wavelets("haar", 2)
    plain, found = (
        explain("wam", engine, images, TARGETS, space=space, variant="gradient", normalise=normalise)
        for normalise in (False, True)
    )
    for band in space.bands((16, 16)):
        region = (slice(None), slice(None), *band.region)
        largest = plain[region].abs().amax(dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close(found[region], plain[region] / largest)
    alone = explain("wam", engine, images[1:2], TARGETS[1:2], space=space, variant="gradient", normalise=True)
    torch.testing.assert_close(alone, found[1:2], atol=1e-5, rtol=1e-4)


def test_a_band_without_credit_stays_so_when_normalised() -> None:
    engine = Engine(nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(1, 2)), device="cpu", precision="fp32")
    space = Wavelets("haar", 3)
    credit = explain("wam", engine, torch.rand(1, 1, 8, 8), 1, space=space, variant="gradient", normalise=True)
    # The mean reads the approximation alone.
    assert credit[0, 0, 0, 0].abs() == 1
    assert credit.abs().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("preset", ["wam", "wam_audio", "wam_volume"])
def test_a_preset_sets_the_published_options(engine: Engine, images: Tensor, preset: str) -> None:
    options = {
        "wam": {"sigma": 0.25, "levels": 3},
        "wam_audio": {"sigma": 0.001, "levels": 3},
        "wam_volume": {"sigma": 0.25, "levels": 1},
    }[preset]
    found = explain("wam", engine, images[:1], 0, preset=preset)
    by_hand = explain("wam", engine, images[:1], 0, samples=25, wavelet="haar", normalise=True, **options)
    assert torch.equal(found, by_hand)


class Listener(nn.Module):
    """Says 'yes' by the power that a mel spectrogram has between two frequencies."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        edges = mel_to_hertz(
            torch.linspace(0, float(hertz_to_mel(torch.tensor([RATE / 2]).numpy(), "slaney")[0]), 42).numpy(), "slaney"
        )
        centres = torch.as_tensor(edges[1:-1])
        self.register_buffer("heard", ((centres > low) & (centres < high)).float().reshape(1, 1, -1, 1))

    def forward(self, spectrogram: Tensor) -> Tensor:
        heard = (spectrogram * self.heard).sum(dim=2).mean(dim=(1, 2)) / self.heard.sum()
        return torch.stack([torch.zeros_like(heard), heard], dim=1)


def tones(count: int = 3) -> Tensor:
    """Waveforms (N, 1, 4096) of four tones, one in the middle of each of the finest four octaves, and a little noise."""
    times = torch.arange(4096) / RATE
    draws = torch.Generator().manual_seed(0)
    phases = 2 * math.pi * torch.rand(count, 4, 1, generator=draws)
    pitches = torch.tensor([2800.0, 1400.0, 700.0, 350.0])[:, None]
    waves = torch.sin(2 * math.pi * pitches * times + phases).sum(dim=1, keepdim=True)
    return waves + 0.05 * torch.randn(count, 1, 4096, generator=draws)


@pytest.mark.parametrize(("octave", "low", "high"), [(1, 2000, 4000), (2, 1000, 2000), (3, 500, 1000)])
@pytest.mark.parametrize("variant", ["smoothgrad", "integrated_gradients"])
def test_the_octave_a_listener_hears_gets_the_credit(octave: int, low: float, high: float, variant: str) -> None:
    module = nn.Sequential(MelSpectrogram(RATE, 512, mels=40), Listener(low, high))
    engine = Engine(module, device="cpu", precision="fp32")
    space = Wavelets("db8", 4)
    credit = explain("wam", engine, tones(), 1, space=space, variant=variant, samples=8, sigma=0.01)
    assert credit.shape == (3, 1, 4096)
    shares = torch.stack([
        credit[:, 0, band.region[0]].square().sum(dim=1) for band in space.bands((4096,))
    ])  # fmt: skip
    shares = shares / shares.sum(dim=0)
    assert (shares.argmax(dim=0) == octave - 1).all()
    assert shares[octave - 1].min() > 0.5


def test_the_moment_a_listener_attends_to_gets_the_credit() -> None:
    class Attentive(nn.Module):
        def forward(self, waves: Tensor) -> Tensor:
            power = waves[..., 1024:1280].square().sum(dim=(1, 2))
            return torch.stack([0 * power, power], dim=1)

    engine = Engine(Attentive(), device="cpu", precision="fp32")
    for method, options in (("wam", {}), ("wcam", {"side": 32, "samples": 8, "levels": 1})):
        drawn = explain(method, engine, tones(), 1, **options)
        assert drawn.shape == (3, 1, 4096)
        inside = drawn[..., 1024:1280].sum(dim=(1, 2)) / drawn.sum(dim=(1, 2))
        assert inside.min() > 0.95


class Cube(nn.Module):
    """Sees a cube of 4 x 4 x 4 voxels of a volume and nothing else."""

    place = (slice(8, 12), slice(4, 8), slice(0, 4))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1, bias=False)
        self.conv.weight.data.copy_(torch.rand(4, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, volumes: Tensor) -> Tensor:
        window = torch.zeros_like(volumes)
        window[(..., *self.place)] = 1
        seen = self.conv(volumes * window).relu().mean(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(seen), 10 * seen], dim=1)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("wam", {"variant": "smoothgrad", "samples": 4, "levels": 2}),
        ("wam", {"variant": "integrated_gradients", "samples": 8, "levels": 2}),
        ("wcam", {"side": 8, "samples": 2, "levels": 1}),
        ("occlusion", {"patch": 4}),
        ("integrated_gradients", {"steps": 4}),
        ("sobol", {"side": 4, "samples": 8, "upsampling": "nearest"}),
    ],
)
def test_a_cube_in_a_volume_is_found(method: str, options: dict) -> None:
    volumes = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    engine = Engine(Cube(), device="cpu", precision="fp32", batch_size=256)
    drawn = explain(method, engine, volumes, 1, **options)
    assert drawn.shape == (1, 1, 16, 16, 16)
    inside = drawn[(..., *Cube.place)].mean(dim=(1, 2, 3, 4))
    outside = (drawn.sum(dim=(1, 2, 3, 4)) - 64 * inside) / (16**3 - 64)
    assert (inside > 20 * outside.abs()).all()


def test_wcam_is_sobol_in_wavelet_space(engine: Engine, images: Tensor) -> None:
    space = Wavelets("haar", 2)
    found, expected = (
        ATTRIBUTIONS.load(name)(
            engine, images, TARGETS, space=space, draws=engine.draws(1), side=8, samples=4, **options
        )
        for name, options in (("wcam", {}), ("sobol", {"upsampling": "nearest"}))
    )
    assert torch.equal(found, expected)
    drawn = explain("wcam", engine, images, TARGETS, side=8, samples=4, levels=2)
    assert drawn.shape == (4, 1, 16, 16)
    assert (drawn >= 0).all()


def test_wcam_of_a_linear_network_is_the_squared_share_of_each_block(
    linear_engine: Engine, small_images: Tensor
) -> None:
    space = Wavelets("haar", 2)
    products = space.transform(weights_of(linear_engine, 2, small_images)) * space.transform(small_images)
    squares = space.pool(space.credit(products), 4).square()
    engine = Engine(linear_engine.network, device="cpu", precision="fp32", batch_size=1024)
    found = explain("wcam", engine, small_images, 2, space=space, side=4, samples=512)
    share = squares / squares.sum(dim=1, keepdim=True)
    torch.testing.assert_close(space.pool(found, 4) / 4, share, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("method", ["wam", "wcam"])
def test_options_that_contradict_the_space_are_refused(engine: Engine, images: Tensor, method: str) -> None:
    message = f"attribution '{method}': given the space 'wavelets .haar, 2 levels, zero.' and wavelet db2, levels None"
    with pytest.raises(LimenError, match=message):
        explain(method, engine, images, 0, space=Wavelets("haar", 2), wavelet="db2")
    with pytest.raises(LimenError, match="levels 3; they must agree"):
        explain(method, engine, images, 0, space=Wavelets("haar", 2), levels=3)
    with pytest.raises(LimenError, match="levels: given 5 for inputs with an axis of 16 places, allowed is 1 to 4"):
        explain(method, engine, images, 0, levels=5)


def test_an_image_network_refuses_waveforms_and_others_say_what_they_take(engine: Engine) -> None:
    with pytest.raises(
        LimenError, match=r"allowed are uint8 pictures \(N, H, W, 3\) or normalised floats \(N, C, H, W\)\."
    ):
        explain("wam", engine, torch.zeros(2, 3, 64), 0)
    free = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), device="meta")
    with pytest.raises(LimenError, match=r"given float32 \(2, 3\), allowed .* \(N, C, T\) or \(N, C, D, H, W\)"):
        explain("wam", free, torch.zeros(2, 3), 0)

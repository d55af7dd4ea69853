"""Feature visualisation: exact spectra, seeds that come back, pictures of their own, and a planted pattern that returns."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bench
from bench.engine import Draws, Engine, Network
from bench.registry import VISUALIZATIONS, LimenError
from bench.spaces.natural import Natural, natural, neutral, square_pictures
from bench.visualizations._phases import buffer_of, phases
from bench.visualizations._views import Crops
from bench.zoo import load_images

SIZE = 24
SHORT = {"steps": 6, "crops": 3}


class Stripes(nn.Module):
    """Class 0 answers to upright red stripes of period 4, class 1 to level ones, class 2 to their absence."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, 2, 4, bias=False)
        self.act = nn.Softplus(beta=4)
        wave = torch.tensor([1.0, 1.0, -1.0, -1.0])
        with torch.no_grad():
            self.edges.weight.zero_()
            self.edges.weight[0, 0] = wave[None, :].expand(4, 4) / 16
            self.edges.weight[1, 0] = wave[:, None].expand(4, 4) / 16

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.edges(images))
        pooled = maps.mean(dim=(2, 3))
        return torch.cat([10 * pooled, -5 * pooled.sum(dim=1, keepdim=True)], dim=1)


@pytest.fixture(scope="module")
def engine() -> Engine:
    network = Network(
        name="stripes",
        module=Stripes(),
        classes=("upright", "level", "none"),
        size=SIZE,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        layer="act",
    )
    return Engine(network, device="cpu", batch_size=12)


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return load_images("scenes", n=24).pictures


@pytest.fixture(scope="module")
def look(engine: Engine, scenes: np.ndarray) -> Natural:
    return natural(engine, scenes, 32)


def options(method: str) -> dict:
    return {"noise": 0.0} if method == "accentuation" else {}


def make(method: str, engine: Engine, targets, look: Natural, scenes: np.ndarray, **more):
    asked = inspect.signature(VISUALIZATIONS.load(method)).parameters
    count = len(np.atleast_1d(targets))
    seeds = {"seeds": scenes[:count]} if "seeds" in asked else {}
    return bench.visualize(method, engine, targets, pictures=look, **seeds, **{**SHORT, **more})


@pytest.mark.parametrize("size", [16, 17, 32])
def test_a_real_pictures_phases_keep_the_magnitude_exact_in_every_bin(size: int) -> None:
    draws = Draws(0, "noise")
    magnitude = torch.fft.rfft2(draws.normal(3, size, size)).abs()
    buffer = buffer_of(draws.normal(2, 3, size, size), magnitude)
    assert torch.allclose(torch.fft.rfft2(buffer).abs(), magnitude.expand(2, -1, -1, -1), atol=2e-5, rtol=1e-4)


def test_free_phases_would_lose_magnitude_in_the_hermitian_columns() -> None:
    free = torch.polar(torch.ones(3, 32, 17), 6.28 * Draws(0).uniform(3, 32, 17))
    kept = torch.fft.rfft2(torch.fft.irfft2(free, s=(32, 32))).abs()
    assert torch.allclose(kept[..., 1:-1], torch.ones(3, 32, 15), atol=1e-4)
    assert (kept[..., 0] - 1).abs().mean() > 0.2
    exact = torch.fft.rfft2(torch.fft.irfft2(phases(Draws(1).normal(3, 32, 32)), s=(32, 32))).abs()
    assert torch.allclose(exact, torch.ones(3, 32, 17), atol=1e-4)


def test_painting_is_undone_by_unpainting(look: Natural, engine: Engine, scenes: np.ndarray) -> None:
    pictures = square_pictures(engine, scenes[:4], look.size).clamp(0.011, 0.989)
    assert torch.allclose(look.paint(look.unpaint(pictures)), pictures, atol=1e-5)


def test_buffers_of_the_image_set_are_white_in_colour(look: Natural, engine: Engine, scenes: np.ndarray) -> None:
    buffers = look.unpaint(square_pictures(engine, scenes, look.size)).movedim(1, 0).flatten(1)
    assert torch.allclose(torch.cov(buffers), torch.eye(3), atol=2e-3)
    assert torch.allclose(buffers.mean(dim=1), torch.zeros(3), atol=1e-3)


def test_the_spectrum_is_the_mean_over_pictures_by_numpy(look: Natural, engine: Engine, scenes: np.ndarray) -> None:
    buffers = look.unpaint(square_pictures(engine, scenes, look.size)).numpy().astype(np.float64)
    twin = np.abs(np.fft.rfft2(buffers)).mean(axis=0)
    np.testing.assert_allclose(look.magnitude.numpy(), twin, rtol=2e-4, atol=1e-3)


def test_without_pictures_the_spectrum_falls_as_one_over_frequency(engine: Engine) -> None:
    plain = neutral(engine, 32)
    assert plain.count == 0
    assert plain.magnitude[0, 0, 1] / plain.magnitude[0, 0, 4] == pytest.approx(4, rel=1e-5)


def test_maco_keeps_the_natural_spectrum_and_fourier_does_not(
    engine: Engine, look: Natural, scenes: np.ndarray
) -> None:
    maco = make("maco", engine, [0, 1], look, scenes)
    fourier = make("fourier", engine, [0, 1], look, scenes)
    assert float(maco.spectrum_error.max()) < 0.05
    assert float(fourier.spectrum_error.min()) > 0.5


@pytest.mark.parametrize("method", VISUALIZATIONS.names())
def test_the_logit_rises_above_that_of_the_start_on_views_that_no_step_used(method, engine, look, scenes) -> None:
    found = make(method, engine, [0, 1], look, scenes, steps=25)
    assert bool((found.reached > found.null).all())
    assert found.history.shape == (2, 25)


@pytest.mark.parametrize("method", ["maco", "fourier"])
def test_minimising_goes_below_the_start(method, engine, look, scenes) -> None:
    found = make(method, engine, [0, 1], look, scenes, steps=25, minimise=True)
    assert bool((found.reached < found.null).all())


@pytest.mark.parametrize("method", VISUALIZATIONS.names())
def test_a_picture_does_not_depend_on_its_batch_mates(method, engine, look, scenes) -> None:
    together = make(method, engine, [1, 0, 2], look, scenes)
    first = make(method, engine, [1], look, scenes)
    assert torch.allclose(together.pictures[:1], first.pictures, atol=2e-4)
    small = Engine(engine.network, device="cpu", batch_size=3)
    assert torch.allclose(make(method, small, [1, 0, 2], look, scenes).pictures, together.pictures, atol=2e-4)


@pytest.mark.parametrize("method", VISUALIZATIONS.names())
def test_the_same_seed_gives_the_same_picture_and_another_seed_another(method, engine, look, scenes) -> None:
    one, two = (make(method, engine, [0], look, scenes, seed=3) for _ in range(2))
    assert torch.equal(one.pictures, two.pictures)
    assert not torch.equal(make(method, engine, [0], look, scenes, seed=4).pictures, one.pictures)


@pytest.mark.parametrize("method", VISUALIZATIONS.names())
def test_pictures_and_opacity_lie_between_0_and_1_and_the_network_is_not_changed(method, engine, look, scenes) -> None:
    before = [parameter.clone() for parameter in engine.network.module.parameters()]
    found = make(method, engine, [0, 2], look, scenes)
    for part, shape in ((found.pictures, (2, 3, 32, 32)), (found.opacity, (2, 32, 32))):
        assert part.shape == shape
        assert 0 <= float(part.min()) <= float(part.max()) <= 1
    after = list(engine.network.module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_planted_pattern_comes_back(engine: Engine, look: Natural, scenes: np.ndarray) -> None:
    """Class 0 answers to red stripes that change from left to right: that is what its pictures hold more of."""
    found = make("fourier", engine, [0, 1], look, scenes, steps=60, side=(0.75, 0.75))
    red = found.pictures[:, 0] - found.pictures[:, 0].mean(dim=(1, 2), keepdim=True)
    energy = torch.fft.fft2(red).abs().square()
    across, down = energy[:, 0, 3:9].sum(dim=1), energy[:, 3:9, 0].sum(dim=1)
    assert float(across[0] / down[0]) > 3
    assert float(down[1] / across[1]) > 3


@pytest.mark.parametrize("space", ["phase", "fourier", "pixels"])
def test_accentuation_without_steps_returns_its_seed(space, engine, look, scenes) -> None:
    found = make("accentuation", engine, [0, 1], look, scenes, steps=0, parametrisation=space)
    seeds = square_pictures(engine, scenes[:2], look.size).clamp(0.01, 0.99)
    assert torch.allclose(found.pictures, seeds, atol=1e-5)
    assert torch.equal(found.reached, found.null)


def test_a_stronger_anchor_holds_the_picture_nearer_to_its_seed(
    engine: Engine, look: Natural, scenes: np.ndarray
) -> None:
    seeds = square_pictures(engine, scenes[:2], look.size)
    apart = [
        float((make("accentuation", engine, [0, 1], look, scenes, steps=30, alpha=alpha).pictures - seeds).abs().mean())
        for alpha in (0.0, 3.0, 100.0)
    ]
    assert apart[0] > apart[1] > 0
    assert apart[2] < 0.6 * apart[0]


def test_accentuation_stops_where_the_logit_is_reached(engine: Engine, look: Natural, scenes: np.ndarray) -> None:
    free = make("accentuation", engine, [0], look, scenes, steps=30)
    goal = float(free.history[0, 10])
    held = make("accentuation", engine, [0], look, scenes, steps=30, stop_at=goal)
    assert float(held.history[0, -1]) < float(free.history[0, -1])
    assert float(held.history.max()) >= goal


def test_phase_accentuation_keeps_the_seeds_own_magnitudes(engine: Engine, look: Natural, scenes: np.ndarray) -> None:
    found = make("accentuation", engine, [0], look, scenes, steps=10, parametrisation="phase")
    seed = square_pictures(engine, scenes[:1], look.size)
    given, kept = (torch.fft.rfft2(look.unpaint(part)).abs() for part in (seed, found.pictures))
    assert float((given - kept).abs().mean() / given.mean()) < 0.05


def test_crops_lie_inside_the_picture_and_have_the_asked_sides(engine: Engine) -> None:
    crops = Crops(
        count=400,
        size=8,
        side=(0.2, 0.5),
        last=None,
        spread=0.0,
        centre="uniform",
        centre_sd=0.15,
        noise=0.0,
        steps=5,
        keys=(0,),
        draws=Draws(0),
    )
    boxes = crops._boxes(Draws(5), 0)
    side, centre = boxes[:, 0, 0], boxes[:, :, 2]
    assert 0.2 <= float(side.min()) <= float(side.max()) <= 0.5
    assert bool(((centre.abs() + side[:, None]) <= 1 + 1e-6).all())
    assert float(side.mean()) == pytest.approx(0.35, abs=0.02)


def test_a_crop_shows_the_very_part_of_the_picture() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    crops = Crops(
        count=5,
        size=16,
        side=(0.25, 0.25),
        last=None,
        spread=0.0,
        centre="uniform",
        centre_sd=0.15,
        noise=0.0,
        steps=5,
        keys=(7,),
        draws=Draws(0),
    )
    views = crops(ramp, range(1), 2)
    centre = crops._boxes(Draws(0).spawn("view", 7, 2), 2)[:, 0, 2]
    assert torch.allclose(views.mean(dim=(1, 2, 3)), (centre + 1) / 2, atol=0.01)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"method": "macco"}, "did you mean 'maco'"),
        ({"method": "maco", "targets": [3]}, "allowed are class numbers from 0 to 2"),
        ({"method": "maco", "step": 3}, "did you mean 'steps'"),
        ({"method": "maco", "seeds": np.zeros((1, 8, 8, 3), np.uint8)}, "begins with noise"),
        ({"method": "accentuation"}, "needs the pictures it begins with"),
        ({"method": "maco", "pictures": np.zeros((3, 8, 8, 3), np.uint8)}, "one colour"),
        ({"method": "maco", "preset": "lucent"}, "allowed are xplique, horama"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(call, sentence, engine) -> None:
    given = {"targets": [0], "size": 32, **call}
    method, targets = given.pop("method"), given.pop("targets")
    with pytest.raises(LimenError, match=sentence):
        bench.visualize(method, engine, targets, **given)


def test_presets_run(engine: Engine, look: Natural) -> None:
    for method, presets in (("maco", ("xplique", "horama")), ("fourier", ("lucent", "horama"))):
        for preset in presets:
            found = bench.visualize(method, engine, [0], pictures=look, preset=preset, steps=2)
            assert bool(torch.isfinite(found.pictures).all())

"""FORGrad: the filter against its definition, and the choice of the cut-off against a planted one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import explain, score
from bench.attributions.forgrad import choose_cutoff, default_cutoff, low_pass
from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Wavelets

SIZES = [(8, 8), (7, 7), (9, 5), (6, 11), (1, 13), (12, 16)]


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(5))


def by_definition(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Sum the cosines and sines of every frequency inside the radius, one at a time."""
    height, width = plane.shape
    rows, columns = np.mgrid[:height, :width]
    total = np.zeros_like(plane)
    for down in range(-((height - 1) // 2), height // 2 + 1):
        for right in range(-((width - 1) // 2), width // 2 + 1):
            if math.hypot(down, right) <= sigma:
                wave = np.exp(2j * np.pi * (down * rows / height + right * columns / width))
                total += (wave * (np.abs(plane) * wave.conj()).mean()).real
    return np.abs(total)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.3, 4.0])
def test_the_filter_equals_its_definition(height: int, width: int, sigma: float) -> None:
    plane = np.random.default_rng(0).normal(size=(height, width))
    found = low_pass(torch.from_numpy(plane).float()[None, None], sigma)[0, 0].numpy()
    np.testing.assert_allclose(found, by_definition(plane, sigma), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_cutoff_beyond_all_frequencies_leaves_the_absolute_map(height: int, width: int) -> None:
    maps = torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    for sigma in (math.hypot(height // 2, width // 2), float("inf")):
        torch.testing.assert_close(low_pass(maps, sigma), maps.abs(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_a_constant_map_stays(height: int, width: int, sigma: float) -> None:
    maps = torch.full((1, 1, height, width), -2.5)
    torch.testing.assert_close(low_pass(maps, sigma), maps.abs())


def test_what_lies_on_the_circle_stays_where_its_radius_was_rounded() -> None:
    maps = torch.randn(1, 1, 6, 10, generator=torch.Generator().manual_seed(0))
    # The corner of the spectrum is at the root of 34, 5.8309518948...
    torch.testing.assert_close(low_pass(maps, 5.830951894), maps.abs(), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(low_pass(maps, 5.8309), maps.abs(), atol=1e-3)


def test_a_wave_passes_below_the_cutoff_and_not_above() -> None:
    place = torch.arange(32.0) / 32
    wave = 2 + torch.cos(2 * math.pi * 5 * place).expand(32, 32)
    torch.testing.assert_close(low_pass(wave[None, None], 5.0)[0, 0], wave)
    torch.testing.assert_close(low_pass(wave[None, None], 4.9)[0, 0], torch.full((32, 32), 2.0))


@pytest.mark.parametrize(("height", "cutoff"), [(224, 15), (64, 4), (32, 2), (299, 20), (8, 1)])
def test_the_default_cutoff_is_in_proportion_to_the_height(height: int, cutoff: int) -> None:
    assert default_cutoff(height) == cutoff
    maps = torch.randn(1, 1, height, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(low_pass(maps), low_pass(maps, cutoff))


def test_filtering_twice_is_filtering_once(maps: Tensor) -> None:
    once = low_pass(maps.abs() + 3, 2.0)
    torch.testing.assert_close(low_pass(once, 2.0), once)


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_a_cutoff_that_is_no_radius_is_refused(maps: Tensor, sigma: float) -> None:
    with pytest.raises(LimenError, match=r"low-pass filter, 'sigma': given .*, allowed is 0 or more"):
        low_pass(maps, sigma)


def test_maps_that_are_no_images_are_refused() -> None:
    with pytest.raises(LimenError, match=r"low-pass filter: given maps \(2, 1, 9\)"):
        low_pass(torch.zeros(2, 1, 9))


@pytest.mark.parametrize("of", ["saliency", "grad_cam", "occlusion"])
def test_forgrad_filters_the_maps_of_another_method(engine: Engine, images: Tensor, of: str) -> None:
    plain = explain(of, engine, images, 2)
    torch.testing.assert_close(explain("forgrad", engine, images, 2, of=of, sigma=3), low_pass(plain, 3.0))
    torch.testing.assert_close(explain("forgrad", engine, images, 2, of=of), low_pass(plain, 1.0))


def test_forgrad_takes_the_options_of_the_other_method(engine: Engine, images: Tensor) -> None:
    plain = explain("grad_cam", engine, images, 2, layer="stem")
    found = explain("forgrad", engine, images, 2, of="grad_cam", of_options={"layer": "stem"}, sigma=3)
    torch.testing.assert_close(found, low_pass(plain, 3.0))


def test_forgrad_names_the_nearest_method(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"unknown name 'grad_cum'.*did you mean 'grad_cam'"):
        explain("forgrad", engine, images, 2, of="grad_cum")


def test_forgrad_refuses_coefficients_that_look_like_an_image(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"attribution 'forgrad', space: given 'wavelets.*', allowed is pixels"):
        explain("forgrad", engine, images, 2, space=Wavelets())


def closeness(truth: Tensor) -> object:
    """Score each map by its correlation with a truth."""

    def run(maps: Tensor) -> np.ndarray:
        pairs = zip(maps.flatten(1).numpy(), truth.flatten(1).numpy(), strict=True)
        return np.array([np.corrcoef(one, other)[0, 1] for one, other in pairs])

    return run


def test_the_choice_finds_the_cutoff_that_was_planted() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = low_pass(torch.rand(8, 1, 32, 32, generator=generator), 4.0)
    noise = torch.randn(8, 1, 32, 32, generator=generator)
    noisy = truth + 0.02 * (noise - low_pass_signed(noise, 4.0))
    chosen = choose_cutoff(noisy, closeness(truth), sigmas=[1, 2, 3, 4, 6, 10, float("inf")])
    assert chosen.best == 4
    assert chosen.sigmas.tolist() == [1, 2, 3, 4, 6, 10, float("inf")]
    assert chosen.values.shape == (7, 8)
    assert chosen.counts.tolist() == [8] * 7
    assert (chosen.lows <= chosen.means).all()
    assert (chosen.means <= chosen.highs).all()
    np.testing.assert_allclose(chosen.means, chosen.values.mean(axis=1))


def low_pass_signed(maps: Tensor, sigma: float) -> Tensor:
    """Filter signed maps: shifted above 0, the absolute value does nothing."""
    return low_pass(maps + 100, sigma) - 100


def test_equal_cutoffs_give_the_one_that_filters_least(maps: Tensor) -> None:
    chosen = choose_cutoff(maps, lambda filtered: np.ones(len(filtered)), sigmas=[2, 1])
    assert chosen.best == 2
    assert chosen.lows.tolist() == chosen.highs.tolist() == [1, 1]


def test_a_score_that_is_not_finite_is_left_out_of_the_mean(maps: Tensor) -> None:
    chosen = choose_cutoff(maps, lambda filtered: torch.tensor([1.0, float("nan"), 3.0]), sigmas=[1])
    assert chosen.means.tolist() == [2]
    assert chosen.counts.tolist() == [2]


def test_candidates_reach_from_the_coarsest_to_no_filter(maps: Tensor) -> None:
    chosen = choose_cutoff(maps, closeness(maps.abs()))
    assert chosen.sigmas.tolist() == [1, 3, 5, 7, float("inf")]
    assert chosen.best == float("inf")
    assert chosen.means[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("scoring", "sigmas", "sentence"),
    [
        (lambda filtered: np.ones(2), [1], r"given scores \(2,\) of 3 maps, allowed is one number a map"),
        (lambda filtered: np.full(3, np.nan), [1, 4], r"given no finite score at 1.0 cycles per image"),
        (lambda filtered: np.ones(3), [], r"'sigmas': given none, allowed is one or more"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    maps: Tensor, scoring: object, sigmas: list[float], sentence: str
) -> None:
    with pytest.raises(LimenError, match=sentence):
        choose_cutoff(maps, scoring, sigmas=sigmas)


def test_the_choice_takes_a_registered_metric(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    plain = explain("saliency", engine, images, targets)

    def insertion(maps: Tensor) -> np.ndarray:
        return score("insertion", engine, images, maps, targets, null=np.zeros(4)).gains

    chosen = choose_cutoff(plain, insertion, sigmas=[1, 4, 8])
    assert chosen.best in (1, 4, 8)
    assert chosen.means.max() == chosen.means[chosen.sigmas.tolist().index(chosen.best)]

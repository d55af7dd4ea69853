"""The space of wavelets: an orthonormal transform of lines, images and volumes, and what is drawn from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Pixels, Space, Wavelets
from bench.spaces._filters import WAVELETS, filters

SHAPES = ((2, 3, 32, 48), (2, 1, 64), (1, 2, 8, 16, 24), (2, 3, 29, 33), (2, 2, 101), (1, 1, 9, 11, 14))
EVEN = ((2, 3, 32, 48), (2, 1, 64), (1, 2, 8, 16, 24))
SAME_IN_PYWT = ("haar", "db2", "db3", "db4", "db7", "sym2", "sym3", "sym7")
"""The other symlets of PyWavelets are these read backwards."""


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_filters_are_orthonormal_with_their_shifts_and_vanish_on_polynomials(wavelet: str) -> None:
    low, high = filters(wavelet)
    taps = len(low)
    for shift in range(0, taps, 2):
        expected = 1.0 if shift == 0 else 0.0
        assert low[shift:] @ low[: taps - shift] == pytest.approx(expected, abs=1e-11)
        assert high[shift:] @ high[: taps - shift] == pytest.approx(expected, abs=1e-11)
        assert low[shift:] @ high[: taps - shift] == pytest.approx(0, abs=1e-11)
        assert high[shift:] @ low[: taps - shift] == pytest.approx(0, abs=1e-11)
    assert low.sum() == pytest.approx(math.sqrt(2), abs=1e-12)
    moments = [high @ np.linspace(-1, 1, taps) ** power for power in range(taps // 2)]
    assert moments == pytest.approx([0] * len(moments), abs=1e-9)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_filters_are_those_of_pywavelets(wavelet: str) -> None:
    low = filters(wavelet)[0]
    known = np.array(pywt.Wavelet(wavelet).rec_lo)
    assert min(np.abs(low - known).max(), np.abs(low - known[::-1]).max()) < 1e-11


def test_daubechies_two_has_its_closed_form() -> None:
    root = math.sqrt(3)
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * math.sqrt(2))
    np.testing.assert_allclose(filters("db2")[0], expected, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4", "db10"])
@pytest.mark.parametrize("levels", [1, 3])
def test_the_inverse_gives_the_input_back_and_the_norm_is_kept(
    shape: tuple[int, ...], wavelet: str, levels: int
) -> None:
    space, images = Wavelets(wavelet, levels), values(*shape)
    coefficients = space.transform(images)
    assert coefficients.shape == images.shape
    torch.testing.assert_close(space.inputs(coefficients), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(coefficients.square().sum(), images.square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("places", [(8, 8), (7, 9), (13,), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_the_transform_is_an_orthogonal_matrix(places: tuple[int, ...], wavelet: str) -> None:
    size = math.prod(places)
    units = torch.eye(size, dtype=torch.float64).reshape(size, 1, *places)
    matrix = Wavelets(wavelet, 2).transform(units).reshape(size, size)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.filterwarnings("ignore:Level value of")
@pytest.mark.parametrize("shape", EVEN, ids=str)
@pytest.mark.parametrize("wavelet", SAME_IN_PYWT)
@pytest.mark.parametrize("levels", [1, 3])
def test_coefficients_and_their_order_are_those_of_pywavelets(
    shape: tuple[int, ...], wavelet: str, levels: int
) -> None:
    images = values(*shape)
    axes = tuple(range(2, len(shape)))
    parts = pywt.wavedecn(images.double().numpy(), wavelet, "periodization", levels, axes=axes)
    expected, _ = pywt.coeffs_to_array(parts, axes=axes)
    found = Wavelets(wavelet, levels).transform(images.double())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def slow_line(line: list[float], wavelet: str) -> list[float]:
    """Transform one line once, sample by sample, as the definition says."""
    low, high = filters(wavelet)
    taps, even = len(low), len(line) - len(line) % 2
    found = [
        [sum(taps_[m] * line[(2 * k + m - taps // 2 + 1) % even] for m in range(taps)) for k in range(even // 2)]
        for taps_ in (low, high)
    ]
    return found[0] + line[even:] + found[1]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(some.integers(2, 17), some.sampled_from(["haar", "db2", "sym4"]))
def test_a_line_of_any_length_is_transformed_as_defined(length: int, wavelet: str) -> None:
    line = values(length, seed=length).double()
    found = Wavelets(wavelet, 1).transform(line.reshape(1, 1, -1)).flatten()
    torch.testing.assert_close(found, torch.tensor(slow_line(line.tolist(), wavelet), dtype=torch.float64))


def test_haar_of_a_constant_is_the_approximation_alone() -> None:
    coefficients = Wavelets("haar", 2).transform(torch.full((1, 1, 8, 8), 3.0))
    expected = torch.zeros(1, 1, 8, 8)
    expected[..., :2, :2] = 3.0 * 4
    torch.testing.assert_close(coefficients, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("wavelet", ["haar", "sym4"])
def test_both_directions_are_differentiable_and_each_is_the_others_adjoint(
    shape: tuple[int, ...], wavelet: str
) -> None:
    space = Wavelets(wavelet, 2)
    for there, back in ((space.transform, space.inputs), (space.inputs, space.transform)):
        leaf, slope = values(*shape).requires_grad_(), values(*shape, seed=1)
        there(leaf).backward(slope)
        torch.testing.assert_close(leaf.grad, back(slope), atol=1e-5, rtol=0)


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_a_gradient_in_this_space_is_the_transform_of_the_gradient_in_pixels(
    engine: Engine, images: Tensor, wavelet: str
) -> None:
    targets, space = torch.tensor([0, 1, 2, 3]), Wavelets(wavelet, 3)
    found = engine.gradients(images, targets, space=space)
    expected = space.transform(engine.gradients(images, targets, space=Pixels()))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_an_engine_reads_the_same_scores_through_the_coefficients(engine: Engine, images: Tensor) -> None:
    space = Wavelets("db2", 2)
    found = engine.scores(space.inputs(space.coordinates(engine, images)))
    torch.testing.assert_close(found, engine.scores(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["zero", "mean", "blur", "min", "max"])
@pytest.mark.parametrize("shape", [(2, 3, 12, 16), (2, 1, 33), (2, 1, 8, 9, 10)], ids=str)
def test_a_baseline_is_the_transform_of_the_baseline_in_pixels(kind: str, shape: tuple[int, ...]) -> None:
    space, images = Wavelets("haar", 2, baseline=kind), values(*shape)
    found = space.baseline(space.transform(images))
    torch.testing.assert_close(found, space.transform(Pixels(kind).baseline(images)), atol=1e-5, rtol=0)
    torch.testing.assert_close(Wavelets("haar", 2).rebased(kind).baseline(space.transform(images)), found)


def test_cells_a_multiple_of_two_to_the_levels_lie_each_in_one_band() -> None:
    space, places = Wavelets("haar", 2), (16, 24)
    for side in (4, 8):
        numbers = torch.arange(side * side, dtype=torch.float32)[None]
        laid = space.spread(numbers, values(1, 3, *places), side)[0, 0]
        owners = [set(laid[band.region].flatten().tolist()) for band in space.bands(places)]
        assert sum(len(owner) for owner in owners) == side * side == len(set.union(*owners))


@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (2, 1, 64), (2, 1, 8, 8, 16)], ids=str)
def test_pooling_is_the_adjoint_of_spreading_in_one_two_and_three_dimensions(shape: tuple[int, ...]) -> None:
    space, side = Wavelets("haar", 2), 4
    credit = values(1, 1, *shape[2:]).double()
    weights = values(1, space.cells(credit, side), seed=1).double()
    spread = space.spread(weights, credit, side)
    assert spread.shape == credit.shape
    torch.testing.assert_close((spread * credit).sum(), (weights * space.pool(credit, side)).sum())
    assert space.spread(weights, credit, side, mode="bilinear").shape == credit.shape
    assert space.spread(values(1, math.prod(shape[2:])), credit, None).shape == credit.shape
    torch.testing.assert_close(space.pool(credit, None), credit.flatten(1))


@pytest.mark.parametrize("places", [(16, 24), (64,), (8, 8, 16), (13, 21), (7,)], ids=str)
def test_the_bands_tile_the_array(places: tuple[int, ...]) -> None:
    covered = torch.zeros(places)
    for band in Wavelets("haar", 2).bands(places):
        covered[band.region] += 1
    assert (covered == 1).all()


def test_bands_are_named_by_level_and_axis() -> None:
    names = [[band.name for band in Wavelets("haar", 2).bands(places)] for places in ((8,), (8, 8), (8, 8, 8))]
    assert names[0] == ["d1", "d2", "a2"]
    assert names[1] == ["lh1", "hl1", "hh1", "lh2", "hl2", "hh2", "a2"]
    assert names[2] == [
        f"{axes}{level}" for level in "12" for axes in ["llh", "lhl", "lhh", "hll", "hlh", "hhl", "hhh"]
    ] + ["a2"]


@pytest.mark.parametrize("places", [(16, 24), (64,), (8, 8, 16), (13, 21), (9,)], ids=str)
def test_a_coefficient_is_drawn_over_the_places_its_haar_wavelet_lives_on(places: tuple[int, ...]) -> None:
    space = Wavelets("haar", 2)
    for band in space.bands(places):
        credit = torch.zeros(1, 1, *places)
        corner = tuple(part.stop - 1 for part in band.region)
        if any(part.start >= part.stop for part in band.region):
            continue
        credit[(0, 0, *corner)] = -2.0
        scale = band.level - 1 if any(band.details) else space.levels
        drawn = space.scales(credit)
        assert drawn.shape == (1, 3, *places)
        wave = space.inputs(credit)[0, 0] != 0
        shown = drawn[0, scale] == 2
        if all(length % 4 == 0 for length in places):
            assert torch.equal(shown, wave)
        # Where a length is odd, a sample that was passed on stands for its remainder of a block.
        assert (shown | ~wave).all()
        assert drawn.sum() == 2 * shown.sum()


def test_a_map_adds_the_scales_and_is_drawn_at_any_size() -> None:
    space, credit = Wavelets("haar", 2), values(2, 1, 8, 12)
    scales = space.scales(credit)
    torch.testing.assert_close(space.map(credit, (8, 12)), scales.sum(dim=1, keepdim=True))
    assert space.map(credit, 16).shape == (2, 1, 16, 16)
    assert space.scales(values(1, 1, 64), 32).shape == (1, 3, 32)
    assert space.scales(values(1, 1, 8, 8, 8), (4, 8, 16)).shape == (1, 3, 4, 8, 16)
    assert (scales >= 0).all()


def test_an_edge_is_seen_at_every_scale_and_where_it_is() -> None:
    images = torch.zeros(1, 1, 32, 32)
    images[..., 13:] = 1
    space = Wavelets("haar", 3)
    scales = space.scales(space.transform(images))[0, :3]
    for scale, drawn in enumerate(scales, start=1):
        columns = drawn.sum(dim=0).nonzero().flatten()
        assert 13 in columns
        assert len(columns) == 2**scale


def test_wavelets_is_a_space_that_says_what_it_is() -> None:
    space = Wavelets("db2", levels=2, baseline="mean")
    assert isinstance(space, Space)
    assert space.layer is None
    assert space.name == "wavelets (db2, 2 levels, mean)"
    assert repr(space) == "Wavelets('db2', levels=2, baseline='mean')"
    assert torch.equal(space.credit(values(2, 3, 8, 8)), values(2, 3, 8, 8).sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Wavelets("db22"), "space 'wavelets', wavelet: unknown name 'db22'; .* did you mean 'db2'"),
        (lambda: Wavelets(levels=0), "space 'wavelets', levels: given 0, allowed is 1 or more"),
        (lambda: Wavelets(baseline="grey"), "baseline: unknown name 'grey'"),
        (
            lambda: Wavelets().transform(values(1, 3, 16, 7)),
            "given 3 for inputs with an axis of 7 .* allowed is 1 to 2",
        ),
        (lambda: Wavelets().inputs(values(4, 16)), r"given shape \(4, 16\), allowed are waveforms"),
        (lambda: Wavelets().cells(values(1, 3, 8, 8), 9), "space 'wavelets': given 9 cells a side for 8 x 8 places"),
    ],
)
def test_a_fault_is_one_sentence(call, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        call()


def test_nothing_is_made_beside_the_device() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 13 * 16, 2)), device="meta")
    images = torch.zeros(2, 3, 13, 16)
    space = Wavelets("db2", 2, baseline="blur")
    slopes = engine.gradients(images, torch.tensor([0, 1]), space=space)
    assert slopes.is_meta
    assert space.map(space.credit(slopes), 16).is_meta
    assert space.baseline(space.coordinates(engine, images)).is_meta

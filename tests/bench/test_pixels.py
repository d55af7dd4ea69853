"""The space of pixels: cells, spreading, pooling and baselines for any height and width."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor
from torch.nn import functional

from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Pixels, Space

PIXELS = Pixels()
SHAPES = some.tuples(some.integers(1, 23), some.integers(1, 23)).flatmap(
    lambda shape: some.tuples(some.just(shape), some.integers(1, min(shape)))
)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_spread(weights: Tensor, height: int, width: int, side: int) -> Tensor:
    """Give each pixel the weight of its cell, one pixel after the other."""
    found = torch.empty(len(weights), 1, height, width)
    for row in range(height):
        for column in range(width):
            found[:, 0, row, column] = weights[:, row * side // height * side + column * side // width]
    return found


@settings(deadline=None, max_examples=40, derandomize=True)
@given(SHAPES)
def test_weights_are_spread_in_blocks(case: tuple[tuple[int, int], int]) -> None:
    (height, width), side = case
    weights = values(2, side * side)
    found = PIXELS.spread(weights, values(2, 3, height, width), side)
    assert torch.equal(found, slow_spread(weights, height, width, side))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(SHAPES)
def test_pooling_is_the_adjoint_of_spreading(case: tuple[tuple[int, int], int]) -> None:
    (height, width), side = case
    weights, credit = values(1, side * side).double(), values(1, 1, height, width, seed=1).double()
    spread = PIXELS.spread(weights, credit, side)
    torch.testing.assert_close((spread * credit).sum(), (weights * PIXELS.pool(credit, side)).sum())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(SHAPES)
def test_every_cell_holds_pixels_and_every_pixel_one_cell(case: tuple[tuple[int, int], int]) -> None:
    (height, width), side = case
    sizes = PIXELS.pool(torch.ones(1, 1, height, width), side)
    assert sizes.sum() == height * width
    assert sizes.min() >= 1
    assert sizes.max() <= -(-height // side) * -(-width // side)


@pytest.mark.parametrize("side", [1, 3, 5, None])
def test_pooling_keeps_the_sum_of_credit(side: int | None) -> None:
    credit = values(2, 1, 11, 7)
    pooled = PIXELS.pool(credit, side)
    assert pooled.shape == (2, PIXELS.cells(credit, side))
    torch.testing.assert_close(pooled.sum(1), credit.sum((1, 2, 3)))


def test_bilinear_spreading_is_that_of_the_library_and_stays_within_the_weights() -> None:
    weights = values(2, 9)
    found = PIXELS.spread(weights, values(2, 3, 13, 10), 3, mode="bilinear")
    expected = functional.interpolate(weights.reshape(2, 1, 3, 3), (13, 10), mode="bilinear", align_corners=False)
    assert torch.equal(found, expected)
    assert weights.min() <= found.min() <= found.max() <= weights.max()


def test_the_number_of_cells_a_side_is_read_from_the_weights() -> None:
    weights = values(2, 16)
    assert torch.equal(PIXELS.spread(weights, values(2, 3, 9, 9), None), slow_spread(weights, 9, 9, 4))


def test_one_weight_a_pixel_is_laid_out_row_by_row() -> None:
    weights = values(2, 15)
    assert torch.equal(PIXELS.spread(weights, values(2, 3, 3, 5), None), weights.reshape(2, 1, 3, 5))


def test_credit_is_the_signed_sum_over_channels() -> None:
    gradients = values(2, 3, 4, 5)
    assert torch.equal(PIXELS.credit(gradients), gradients.sum(1, keepdim=True))


def test_a_map_is_drawn_at_the_size_asked_for() -> None:
    credit = values(2, 1, 8, 8)
    assert PIXELS.map(credit, 8) is credit
    assert PIXELS.map(credit, 16).shape == (2, 1, 16, 16)
    assert PIXELS.map(credit, (4, 6)).shape == (2, 1, 4, 6)
    torch.testing.assert_close(PIXELS.map(torch.full((1, 1, 3, 3), 2.0), 7), torch.full((1, 1, 7, 7), 2.0))


def test_the_baselines_are_what_they_say() -> None:
    images = values(2, 3, 20, 20)
    assert not Pixels("zero").baseline(images).any()
    mean = Pixels("mean").baseline(images)
    assert mean.shape == images.shape
    torch.testing.assert_close(mean[1, 2], images[1, 2].mean().expand(20, 20))
    places = torch.arange(11) - 5
    line = torch.exp(-(places**2) / 50.0)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = functional.pad(images, (5, 5, 5, 5), mode="replicate")
    blurred = functional.conv2d(padded.reshape(6, 1, 30, 30), kernel[None, None]).reshape(2, 3, 20, 20)
    torch.testing.assert_close(Pixels("blur").baseline(images), blurred)


def test_a_blurred_constant_is_itself_even_at_the_edge_of_a_small_image() -> None:
    images = torch.full((1, 3, 2, 3), 0.7)
    torch.testing.assert_close(Pixels("blur").baseline(images), images)


@pytest.mark.parametrize("kind", ["zero", "mean", "blur"])
def test_a_baseline_does_not_depend_on_batch_mates(kind: str) -> None:
    images = values(3, 3, 9, 9)
    together = Pixels(kind).baseline(images)
    torch.testing.assert_close(Pixels(kind).baseline(images[1:2]), together[1:2])


def test_the_coordinates_of_an_image_are_its_pixels(engine: Engine, images: Tensor) -> None:
    coordinates = PIXELS.coordinates(engine, images)
    assert torch.equal(coordinates, images)
    assert PIXELS.inputs(coordinates) is coordinates


def test_pixels_is_a_space() -> None:
    assert isinstance(PIXELS, Space)
    assert PIXELS.layer is None
    assert (Pixels("blur").name, repr(Pixels("blur"))) == ("pixels (blur)", "Pixels(baseline='blur')")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Pixels("blurr"), "space 'pixels', baseline: unknown name 'blurr'; .* did you mean 'blur'"),
        (lambda: PIXELS.cells(values(1, 3, 4, 6), 5), "given 5 cells a side for 4 x 6 places, allowed is 1"),
        (lambda: PIXELS.pool(values(1, 1, 4, 6), 0), "given 0 cells a side"),
        (lambda: PIXELS.spread(values(1, 9), values(1, 3, 8, 8), 4), "given 9 weights for 4 x 4 cells"),
        (lambda: PIXELS.spread(values(1, 10), values(1, 3, 8, 8), None), "given 10 weights for 3 x 3 cells"),
        (lambda: PIXELS.spread(values(1, 9), values(1, 3, 8, 8), 3, mode="cubic"), "mode: unknown name 'cubic'"),
    ],
)
def test_a_fault_is_one_sentence(call, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        call()

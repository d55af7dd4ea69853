"""ROAD: the imputation against a sparse direct solve, the metric against a loop, by hand and on a planted network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor, nn

from bench.api import ScoreResult, score
from bench.engine import Engine
from bench.metrics.faithfulness import _imputation
from bench.metrics.faithfulness._imputation import impute
from bench.registry import LimenError
from bench.spaces import Pixels


class Bright(nn.Module):
    """Logit 1 is how bright one patch is; nothing else is seen."""

    def forward(self, images: Tensor) -> Tensor:
        seen = 8 * images[:, :, 2:8, 6:14].mean(dim=(1, 2, 3)) - 4
        return torch.stack([torch.zeros_like(seen), seen], dim=1)


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Pictures with structure at several scales."""
    height, width = shape[-2:]
    wide = torch.randn(*shape[:-2], height + 4, width + 4, generator=torch.Generator().manual_seed(seed))
    return 3 * nn.functional.avg_pool2d(wide, 5, 1) + 0.2 * wide[..., 2:-2, 2:-2]


def holes(maps: Tensor, share: float) -> Tensor:
    """Remove a share of the places, largest first."""
    count = int(share * maps[0].numel())
    rank = maps.flatten(1).argsort(dim=1, descending=True).argsort(dim=1)
    return (rank < count).reshape(maps.shape)


def direct(picture: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Solve the same system as a sparse matrix, in float64."""
    _, height, width = picture.shape
    number = np.cumsum(removed).reshape(removed.shape) - 1
    matrix = lil_matrix((int(removed.sum()),) * 2)
    right = np.zeros((int(removed.sum()), len(picture)))
    for row, column in np.argwhere(removed):
        here = number[row, column]
        for down, across in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            y, x = row + down, column + across
            if not (0 <= y < height and 0 <= x < width):
                continue
            weight = 1 / 12 if down and across else 1 / 6
            matrix[here, here] += weight
            if removed[y, x]:
                matrix[here, number[y, x]] -= weight
            else:
                right[here] += weight * picture[:, y, x]
    filled = picture.astype(np.float64)
    filled[:, removed] = spsolve(matrix.tocsc(), right).reshape(-1, len(picture)).T
    return filled


def error_of(found: Tensor, expected: np.ndarray, removed: Tensor) -> float:
    """Return the error over the removed places, relative to the standard deviation of the solution."""
    where = np.broadcast_to(removed.numpy(), expected.shape)
    return float(np.sqrt(((found.double().numpy() - expected)[where] ** 2).mean()) / expected[where].std())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("shape", ["scattered", "coherent"])
def test_imputation_equals_a_sparse_direct_solve(share: float, shape: str) -> None:
    pictures = smooth(2, 3, 24, 19)
    noise = torch.rand(2, 1, 24, 19, generator=torch.Generator().manual_seed(1))
    removed = holes(noise if shape == "scattered" else smooth(2, 1, 24, 19, seed=2), share)
    expected = np.stack(
        [direct(one.double().numpy(), gone[0].numpy()) for one, gone in zip(pictures, removed, strict=True)]
    )
    assert error_of(impute(pictures, removed, rtol=1e-4), expected, removed) < 2e-3
    assert error_of(impute(pictures, removed, rtol=1e-6), expected, removed) < 2e-5


@pytest.mark.parametrize(("height", "width"), [(1, 9), (2, 3), (7, 7), (12, 16), (33, 18), (5, 41)])
def test_the_cycle_is_the_transpose_of_itself_and_positive(height: int, width: int) -> None:
    """Conjugate gradients are only as good as that."""
    left, right = torch.randn(2, 20, 1, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gone = (
        torch.rand(20, 1, height, width, generator=torch.Generator().manual_seed(4))
        < torch.linspace(0.1, 0.95, 20)[:, None, None, None]
    )
    grid = _imputation._Grid(left.shape, gone.double())

    def cycled(values: Tensor) -> Tensor:
        grid.right.copy_(values * gone)
        return grid.cycle().clone()

    inner = [(first * gone * cycled(second)).sum(dim=(1, 2, 3)) for first, second in ((left, right), (right, left))]
    torch.testing.assert_close(*inner, atol=1e-12, rtol=1e-10)
    assert ((left * cycled(left)).sum(dim=(1, 2, 3)) > 0)[gone.flatten(1).any(dim=1)].all()


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("shape", ["scattered", "coherent"])
def test_the_steps_do_not_grow_with_the_picture(side: int, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_imputation, "_LIMIT", 16)
    like = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(5))
    order = like if shape == "scattered" else smooth(1, 1, side, side, seed=6)
    removed = torch.cat([holes(order, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)])
    assert torch.isfinite(impute(smooth(1, 3, side, side).expand(6, -1, -1, -1), removed, rtol=1e-4)).all()


def test_kept_pixels_stay_and_removed_ones_forget_what_they_were() -> None:
    pictures, removed = smooth(3, 3, 12, 12), holes(torch.rand(3, 1, 12, 12), 0.4)
    found = impute(pictures, removed, rtol=1e-4)
    assert torch.equal(found.masked_fill(removed, 0), pictures.masked_fill(removed, 0))
    assert torch.equal(impute(pictures.masked_fill(removed, 9.0), removed, rtol=1e-4), found)
    assert torch.equal(impute(pictures, torch.zeros_like(removed), rtol=1e-4), pictures)


def test_a_removed_pixel_in_the_corner_takes_the_mean_of_the_neighbours_it_has() -> None:
    picture = torch.tensor([[0.0, 1.0, 5.0], [2.0, 3.0, 5.0], [5.0, 5.0, 5.0]]).reshape(1, 1, 3, 3)
    removed = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    removed[..., 0, 0] = True
    found = impute(picture, removed, rtol=1e-6)[0, 0, 0, 0]
    assert float(found) == pytest.approx((1 / 6 + 2 / 6 + 3 / 12) / (1 / 6 + 1 / 6 + 1 / 12), abs=1e-5)


def test_a_slope_is_carried_across_a_hole() -> None:
    slope = (torch.arange(11.0)[:, None] + 2 * torch.arange(13.0)).reshape(1, 1, 11, 13)
    removed = torch.zeros(1, 1, 11, 13, dtype=torch.bool)
    removed[..., 2:8, 3:11] = True
    torch.testing.assert_close(impute(slope, removed, rtol=1e-6), slope, atol=1e-3, rtol=0)


def test_imputation_moves_with_the_scale_and_the_level_of_a_picture() -> None:
    pictures, removed = smooth(2, 3, 16, 16), holes(smooth(2, 1, 16, 16, seed=3), 0.7)
    plain = impute(pictures, removed, rtol=1e-5)
    torch.testing.assert_close(impute(4 * pictures + 8, removed, rtol=1e-5), 4 * plain + 8, atol=1e-3, rtol=0)


def test_batch_mates_that_take_longer_do_not_move_a_solved_system() -> None:
    pictures = smooth(4, 3, 20, 20)
    removed = torch.cat([holes(smooth(1, 1, 20, 20, seed=index), 0.1 + 0.28 * index) for index in range(4)])
    together = impute(pictures, removed, rtol=1e-2)
    for index in range(4):
        alone = impute(pictures[index : index + 1], removed[index : index + 1], rtol=1e-2)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-6, rtol=0)


def test_a_system_that_does_not_converge_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_imputation, "_LIMIT", 1)
    with pytest.raises(LimenError, match=r"imputation: \d+ systems of \(40, 2\) pixels did not converge"):
        impute(smooth(2, 3, 40, 2), holes(smooth(2, 1, 40, 2), 0.98), rtol=1e-30)


@pytest.fixture
def scene() -> tuple[Engine, Tensor, Tensor]:
    """A network that looks at one patch, pictures in which it is bright, and maps of the patch."""
    images = 0.4 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, 2:8, 6:14] += 0.6
    maps = 0.01 * torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    maps[:, :, 2:8, 6:14] += 1
    return Engine(Bright(), device="cpu", precision="fp32", batch_size=7), images, maps


def measured(engine: Engine, images: Tensor, maps: Tensor, **options: Any) -> ScoreResult:
    return score("road", engine, images, maps, 1, null=np.zeros(len(images)), **options)


def test_road_equals_its_loop(scene: tuple[Engine, Tensor, Tensor]) -> None:
    engine, images, maps = scene
    found = measured(engine, images, maps, percentages=(25, 60), noise=0, rtol=1e-6)
    assert found.curve_y is not None
    for place, percentage in enumerate((25, 60)):
        removed = holes(maps, percentage / 100)
        filled = torch.from_numpy(
            np.stack([direct(one.double().numpy(), gone[0].numpy()) for one, gone in zip(images, removed, strict=True)])
        ).float()
        expected = engine.scores(filled, "probability")[:, 1]
        np.testing.assert_allclose(found.curve_y[:, place], expected, atol=1e-4)
    np.testing.assert_allclose(found.values, found.curve_y.mean(axis=1), atol=1e-7)
    assert found.curve_x is not None
    np.testing.assert_allclose(found.curve_x, [64 / 256, 153 / 256], rtol=1e-6)


def test_confidence_and_accuracy_of_a_planted_patch(scene: tuple[Engine, Tensor, Tensor]) -> None:
    engine, images, maps = scene
    # The patch is 48 of 256 pixels: at 30 % it is gone, and what is put there is as dark as its surroundings.
    found = measured(engine, images, maps, percentages=(1, 30))
    assert found.curve_y is not None
    assert (found.curve_y[:, 0] > 0.8).all()
    assert (found.curve_y[:, 1] < 0.2).all()
    assert found.extra["accuracy"].tolist() == [0.5] * 6
    hard = measured(engine, images, maps, percentages=(1, 30), output="accuracy")
    assert hard.values.tolist() == [0.5] * 6
    np.testing.assert_allclose(hard.extra["confidence"], found.values)


def test_lower_is_better_in_both_orders(scene: tuple[Engine, Tensor, Tensor]) -> None:
    engine, images, maps = scene
    for order in ("most", "least"):
        true, inverted = (
            measured(engine, images, sign * maps, order=order, percentages=(30, 70)).values for sign in (1, -1)
        )
        assert (true < inverted).all()
    least = measured(engine, images, maps, order="least", percentages=(30, 70))
    most = measured(engine, images, -maps, order="most", percentages=(30, 70))
    # No ties: the least relevant of a map are the most relevant of its inverse.
    np.testing.assert_allclose(1 - least.values, most.values, atol=1e-6)
    assert least.convention.startswith("1 - confidence")


def test_noise_is_an_images_own_and_falls_on_removed_pixels_only(scene: tuple[Engine, Tensor, Tensor]) -> None:
    engine, images, maps = scene
    away = torch.zeros(6, 1, 16, 16)
    away[..., 12:, :] = 1 + maps[..., 12:, :]
    untouched = measured(engine, images, away, percentages=(20,), noise=5.0)
    clean = engine.scores(images, "probability")[:, 1]
    np.testing.assert_allclose(untouched.values, clean, atol=1e-6)
    loud = measured(engine, images, maps, percentages=(30,), noise=0.5)
    assert np.abs(loud.values - measured(engine, images, maps, percentages=(30,), noise=0).values).min() > 1e-4
    alone = measured(engine, images[2:3], maps[2:3], percentages=(30,), noise=0.5)
    assert alone.values[0] == pytest.approx(loud.values[2], abs=1e-5)


def test_quantus_asks_for_the_accuracy_at_every_odd_percentage(scene: tuple[Engine, Tensor, Tensor]) -> None:
    found = measured(*scene, preset="quantus")
    assert found.curve_x is not None
    np.testing.assert_allclose(found.curve_x, [int(256 * p / 100) / 256 for p in range(1, 100, 2)], rtol=1e-6)
    assert found.curve_y is not None
    assert set(np.unique(found.curve_y)) <= {0.0, 1.0}
    np.testing.assert_allclose(found.values, found.extra["accuracy"])


def test_road_refuses_percentages_that_leave_nothing_to_remove_or_to_keep(
    scene: tuple[Engine, Tensor, Tensor],
) -> None:
    for given in ((), (0,), (100,)):
        with pytest.raises(LimenError, match="metric 'road', option 'percentages'"):
            measured(*scene, percentages=given)


def test_road_refuses_coordinates_that_are_not_pixels(scene: tuple[Engine, Tensor, Tensor]) -> None:
    engine, images, maps = scene

    class Frequencies(Pixels):
        def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
            return torch.fft.fft2(images).real

    with pytest.raises(LimenError, match=r"metric 'road': given the space 'pixels \(zero\)', allowed is one whose"):
        measured(engine, images, maps, space=Frequencies())

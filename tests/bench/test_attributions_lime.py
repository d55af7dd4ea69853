"""LIME against scikit-learn on the same masks, against captum, and on a network whose coefficients are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from torch import Tensor

from bench.api import explain
from bench.attributions import lime as lime_file
from bench.attributions.lime import lasso, lime, ridge, squared_distances
from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Pixels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr")

SIDE, COUNT, TARGET = 4, 60, 3
SPACE = Pixels("mean")


def masks_of(engine: Engine, count: int = COUNT) -> Tensor:
    """The masks that LIME draws from `engine.draws(5)`."""
    return engine.draws(5).bernoulli(0.5, count, SIDE * SIDE)


def copies_of(image: Tensor, masks: Tensor, space: Pixels) -> Tensor:
    """Each copy, built one by one."""
    side = image.shape[-1] // SIDE
    kept = torch.stack([torch.kron(mask.reshape(SIDE, SIDE), torch.ones(side, side)) for mask in masks])[:, None]
    return kept * image + (1 - kept) * space.baseline(image[None])


def literal_weights(kind: str, width: float, image: Tensor, copies: Tensor, masks: Tensor) -> np.ndarray:
    flat, others = image.flatten().double(), copies.flatten(1).double()
    if kind == "euclidean":
        distances = (others - flat).norm(dim=1)
    elif kind == "cosine":
        distances = 1 - others @ flat / (others.norm(dim=1) * flat.norm())
    else:
        full = torch.ones(masks.shape[1]).double()
        distances = 1 - masks.double() @ full / (masks.double().norm(dim=1) * full.norm())
    return np.exp(-(distances.numpy() ** 2) / width**2)


def coefficients(maps: Tensor) -> np.ndarray:
    """The value of each cell of maps (N, 1, 16, 16)."""
    step = maps.shape[-1] // SIDE
    return maps[:, 0, ::step, ::step].flatten(1).double().numpy()


@pytest.mark.parametrize(
    ("distance", "width", "penalty", "alpha"),
    [
        ("mask", 0.25, "ridge", 1.0),
        ("mask", 0.25, "ridge", 0.0),
        ("cosine", 1.0, "ridge", 2.0),
        ("euclidean", 30.0, "ridge", 0.5),
        ("cosine", sqrt(2), "lasso", 0.0005),
        ("mask", 0.25, "lasso", 0.0003),
    ],
)
def test_lime_equals_scikit_learn_on_copies_built_one_by_one(
    engine: Engine, images: Tensor, distance: str, width: float, penalty: str, alpha: float
) -> None:
    options: Any = {"distance": distance, "width": width, "penalty": penalty, "alpha": alpha}
    targets = torch.full((4,), TARGET)
    maps = lime(engine, images, targets, space=SPACE, draws=engine.draws(5), side=SIDE, samples=COUNT, **options)
    masks = masks_of(engine)
    for image, found in zip(images, coefficients(maps), strict=True):
        copies = copies_of(image, masks, SPACE)
        with torch.no_grad():
            scores = engine.network.module(copies)[:, TARGET].double().numpy()
        weights = literal_weights(distance, width, image, copies, masks)
        kinds = {"ridge": Ridge(alpha=alpha) if alpha else LinearRegression(), "lasso": Lasso(alpha=alpha)}
        expected = kinds[penalty].fit(masks.double().numpy(), scores, sample_weight=weights).coef_
        np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("shared", [True, False])
def test_ridge_equals_scikit_learn_in_float64(alpha: float, shared: bool) -> None:
    draw = np.random.default_rng(0)
    masks = draw.integers(0, 2, (80, 12)).astype(np.float64)
    scores, weights = draw.normal(size=(3, 80)), draw.random((1 if shared else 3, 80))
    found = ridge(*(torch.from_numpy(each) for each in (masks, scores, weights)), alpha).numpy()
    for row, own, weight in zip(found, scores, np.broadcast_to(weights, (3, 80)), strict=True):
        model = Ridge(alpha=alpha, solver="cholesky") if alpha else LinearRegression()
        np.testing.assert_allclose(row, model.fit(masks, own, sample_weight=weight).coef_, rtol=1e-9, atol=1e-12)


def test_blocks_of_images_do_not_change_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(40, 6, generator=generator) < 0.5).float()
    scores, weights = torch.randn(5, 40, generator=generator), torch.rand(5, 40, generator=generator)
    whole = ridge(masks, scores, weights, 1.0)
    monkeypatch.setattr(lime_file, "_NUMBERS", 500)
    assert torch.equal(ridge(masks, scores, weights, 1.0), whole)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 0.0, "distance": "cosine", "width": 1.0}])
@pytest.mark.parametrize("side", [2, 4, 8])
def test_lime_of_a_linear_network_is_weight_times_difference(
    linear_engine: Engine, small_images: Tensor, side: int, options: dict[str, Any]
) -> None:
    maps = explain("lime", linear_engine, small_images, 1, space=SPACE, side=side, **options)
    weights = linear_engine.network.module.fc.weight[1].reshape(1, 3, 8, 8)
    credit = (weights * (small_images - SPACE.baseline(small_images))).sum(1, keepdim=True)
    expected = SPACE.spread(SPACE.pool(credit, side), small_images, side)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


def test_a_penalty_shrinks_the_coefficients(engine: Engine, images: Tensor) -> None:
    sizes = [float(explain("lime", engine, images, 0, alpha=alpha).abs().sum()) for alpha in (0.0, 1.0, 100.0)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_lasso_leaves_cells_out(engine: Engine, images: Tensor) -> None:
    maps = explain("lime", engine, images, 0, penalty="lasso", alpha=0.0003)
    zeros = (maps == 0).float().mean()
    assert 0 < zeros < 1


def test_the_kernel_of_masks_is_one_for_the_full_mask_and_falls_with_cells_hidden(images: Tensor) -> None:
    masks = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    squares = squared_distances("mask", masks, images, Pixels(), 2)
    torch.testing.assert_close(
        squares[0], torch.tensor([0.0, 1 - sqrt(3) / 2, 0.5, 1.0]).double() ** 2, atol=1e-7, rtol=0
    )


@pytest.mark.filterwarnings("ignore")
def test_the_preset_captum_gives_captums_coefficients_on_the_same_masks(engine: Engine, images: Tensor) -> None:
    # Strong images: the penalty of the preset leaves nothing of this network's answers to images of unit variance.
    images = 20 * images
    found = explain("lime", engine, images, [TARGET] * 4, seed=5, side=SIDE, preset="captum")
    masks = engine.draws(5, "attribution", "lime").bernoulli(0.5, 25, SIDE * SIDE)
    groups = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE).repeat_interleave(4, 0).repeat_interleave(4, 1)

    def same(inputs: Tensor, **context: Any) -> Iterator[Tensor]:
        for mask in masks:
            yield mask[None].long()

    theirs = captum.Lime(engine.network.module, perturb_func=same)
    for image, ours in zip(images, found, strict=True):
        expected = theirs.attribute(
            image[None], target=TARGET, feature_mask=groups.expand(1, 3, 16, 16), n_samples=25, perturbations_per_eval=5
        )
        torch.testing.assert_close(ours, expected[0, :1], atol=2e-4, rtol=1e-3)
    assert (found != 0).any(dim=(1, 2, 3)).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_ridge_under_captums_kernels_gives_captums_coefficients(engine: Engine, images: Tensor, distance: str) -> None:
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    width = 0.7 if distance == "cosine" else 20.0
    found = explain(
        "lime", engine, images[:1], [TARGET], seed=5, space=SPACE, side=SIDE, samples=COUNT,
        distance=distance, width=width * sqrt(2), alpha=0.7,
    )  # fmt: skip
    masks = engine.draws(5, "attribution", "lime").bernoulli(0.5, COUNT, SIDE * SIDE)
    groups = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE).repeat_interleave(4, 0).repeat_interleave(4, 1)

    def same(inputs: Tensor, **context: Any) -> Iterator[Tensor]:
        for mask in masks:
            yield mask[None].long()

    theirs = captum.Lime(
        engine.network.module,
        interpretable_model=SkLearnRidge(alpha=0.7),
        similarity_func=get_exp_kernel_similarity_function(distance, width),
        perturb_func=same,
    ).attribute(
        images[:1], target=TARGET, baselines=SPACE.baseline(images[:1]), n_samples=COUNT,
        feature_mask=groups.expand(1, 3, 16, 16),
    )  # fmt: skip
    torch.testing.assert_close(found, theirs[:, :1], atol=2e-5, rtol=1e-3)


def test_a_kernel_that_gives_no_copy_any_weight_is_refused(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'width': given 0.01, allowed is a wider kernel"):
        explain("lime", engine, images, 0, distance="euclidean", width=0.01)


def test_too_few_copies_for_a_fit_without_penalty_are_refused(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="20 samples do not tell 64 cells apart"):
        explain("lime", engine, images, 0, samples=20, alpha=0)


def test_lasso_fits_each_image_for_itself() -> None:
    draw = np.random.default_rng(0)
    masks, scores = draw.integers(0, 2, (40, 5)).astype(np.float32), draw.normal(size=(3, 40))
    whole = lasso(masks, scores, np.ones((1, 40)), 0.01)
    np.testing.assert_array_equal(lasso(masks, scores[1:2], np.ones((1, 40)), 0.01), whole[1:2])
    assert not np.allclose(whole[0], whole[1])

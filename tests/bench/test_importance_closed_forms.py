"""Every estimator of concept importance at a linear head, for every way of coding, against its closed form."""

from __future__ import annotations

from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from bench.api import explain, score
from bench.attributions.hsic import dependence
from bench.engine import Engine, Network
from bench.importance import importance
from bench.spaces import Concepts, Dictionary
from bench.spaces.encoders import ENCODERS

K, D, CLASSES, LAYER = 6, 9, 4, "features"
TARGETS = torch.tensor([0, 3, 1])


class Pooled(nn.Module):
    """Images that are feature maps already, averaged over their places and read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.fc = nn.Linear(D, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean(dim=(2, 3)))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dictionary(encoder: str) -> Dictionary:
    """A dictionary of one encoder whose codes differ in size, so that no two concepts add the same."""
    k = D if encoder == "identity" else K
    atoms = torch.eye(D) if encoder == "identity" else nn.functional.normalize(normal(k, D, seed=1), dim=1)
    filters = atoms * torch.linspace(0.5, 2, k)[:, None]
    offers = {
        "filters": filters,
        "bias": torch.linspace(-0.3, 0.3, k),
        "gain": torch.linspace(1.5, 0.5, k),
        "threshold": torch.linspace(0.1, 0.4, k),
        "centroids": filters,
        "active": torch.tensor(3.0),
        "biases": torch.linspace(-0.5, 0.5, 2 * k).reshape(2, k),
        "widths": torch.tensor([4.0, 5.0]),
        "scale": torch.linspace(0.8, 1.2, D),
    }
    mean = torch.zeros(D) if encoder in ("identity", "nnls") else normal(D, seed=2) / 4
    needed = {name: offers[name] for name in ENCODERS[encoder][1]}
    return Dictionary(name=encoder, atoms=atoms, mean=mean, encoder=encoder, signed=True, parameters=needed)


@pytest.fixture
def engine() -> Engine:
    module = Pooled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module.fc.reset_parameters()
    network = Network(name="pooled", module=module, classes=("a", "b", "c", "d"), layer=LAYER)
    return Engine(network, device="cpu", precision="fp32", batch_size=512)


@pytest.fixture
def images() -> Tensor:
    return normal(3, D, 2, 3, seed=3)


@pytest.fixture(params=sorted(ENCODERS))
def space(request: pytest.FixtureRequest) -> Concepts:
    return Concepts(dictionary(request.param), LAYER)


def contributions(engine: Engine, images: Tensor, space: Concepts) -> Tensor:
    """mean_t(u_ti) <D_i, v_c>, (3, k), in double precision and from the codes alone."""
    rows = images.movedim(1, -1).reshape(-1, D)
    codes = space.dictionary.encode(rows).reshape(3, 6, -1).double()
    weights = engine.network.module.fc.weight[TARGETS].double()
    return codes.mean(dim=1) * (weights @ space.dictionary.atoms.double().T)


def ends(engine: Engine, images: Tensor, space: Concepts) -> tuple[Tensor, Tensor]:
    """The logits with all concepts, and with none."""
    codes = space.coordinates(engine, images)
    full, none = (engine.head_scores(space.inputs(part), LAYER) for part in (codes, 0 * codes))
    return full.gather(1, TARGETS[:, None])[:, 0].double(), none.gather(1, TARGETS[:, None])[:, 0].double()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("contribution", {}),
        ("auto", {}),
        ("gradient_input", {}),
        ("integrated_gradients", {"steps": 1}),
        ("integrated_gradients", {"steps": 4, "rule": "trapezoid"}),
        ("occlusion", {}),
        ("kernel_shap", {}),
        ("lime", {"alpha": 0.0}),
    ],
)
def test_signed_estimators_give_the_contribution(
    engine: Engine, images: Tensor, space: Concepts, method: str, options: dict[str, Any]
) -> None:
    found = importance(engine, images, TARGETS, space.dictionary, LAYER, method=method, **options)
    torch.testing.assert_close(found.double(), contributions(engine, images, space), atol=3e-6, rtol=1e-4)


def test_contributions_are_complete(engine: Engine, images: Tensor, space: Concepts) -> None:
    full, none = ends(engine, images, space)
    found = importance(engine, images, TARGETS, space.dictionary, LAYER)
    torch.testing.assert_close(found.sum(dim=1).double(), full - none, atol=3e-6, rtol=1e-5)


def test_smoothgrad_times_the_mean_code_is_the_contribution(engine: Engine, images: Tensor, space: Concepts) -> None:
    slopes = importance(engine, images, TARGETS, space.dictionary, LAYER, method="smoothgrad", samples=3)
    codes = space.coordinates(engine, images).mean(dim=1)
    torch.testing.assert_close((slopes * codes).double(), contributions(engine, images, space), atol=3e-6, rtol=1e-4)


def test_saliency_of_a_concept_is_the_size_of_its_slope(engine: Engine, images: Tensor, space: Concepts) -> None:
    slopes = engine.network.module.fc.weight[TARGETS] @ space.dictionary.atoms.T / 6
    found = importance(engine, images, TARGETS, space.dictionary, LAYER, method="saliency")
    torch.testing.assert_close(found, slopes.abs(), atol=1e-7, rtol=1e-4)


def test_the_total_sobol_index_is_the_squared_share(engine: Engine, images: Tensor, space: Concepts) -> None:
    squares = contributions(engine, images, space).square()
    truth = squares / squares.sum(dim=1, keepdim=True).where(squares.sum(dim=1, keepdim=True) > 0, 1)
    # Independent points would err by 1.5 / sqrt(n) of the index: .19 and .05 where one concept has it all.
    for samples, error in ((64, 0.19), (1024, 0.01)):
        found = importance(engine, images, TARGETS, space.dictionary, LAYER, method="sobol", samples=samples)
        assert (found - truth).abs().max() < error
        sums = found.sum(dim=1)[truth.sum(dim=1) > 0].double()
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=error, rtol=0)


def test_rise_is_the_mean_without_the_concept_plus_its_contribution(
    engine: Engine, images: Tensor, space: Concepts
) -> None:
    p, masks = 0.4, 20_000
    parts = contributions(engine, images, space)
    _, none = ends(engine, images, space)
    options = {"score": "logit", "p": p, "masks": masks, "norm": "sum"}
    found = importance(engine, images, TARGETS, space.dictionary, LAYER, method="rise", **options).double()
    expected = (1 - p) * parts + (none + p * parts.sum(dim=1))[:, None]
    # Standard error of a mean over the p * masks copies that keep the concept, at most.
    error = (p * (1 - p) * parts.square().sum(dim=1, keepdim=True)).sqrt() / (p * masks) ** 0.5
    assert ((found - expected).abs() <= 4.5 * error + 1e-5).all()


def test_hsic_over_all_masks_ranks_by_the_size_of_the_contribution(
    engine: Engine, images: Tensor, space: Concepts
) -> None:
    parts = contributions(engine, images, space)
    masks = torch.tensor(list(product((0.0, 1.0), repeat=parts.shape[1])))
    found = dependence(masks, parts @ masks.double().T)
    for index, size in zip(found, parts.abs(), strict=True):
        apart = np.unique(size.numpy().round(9), return_index=True)[1]
        assert kendalltau(index[apart], size[apart]).statistic == pytest.approx(1)


def test_hsic_of_drawn_masks_ranks_the_large_contributions(engine: Engine, images: Tensor, space: Concepts) -> None:
    sizes = contributions(engine, images, space).abs()
    found = importance(engine, images, TARGETS, space.dictionary, LAYER, method="hsic", samples=1024)
    for index, size in zip(found, sizes, strict=True):
        assert index.argmax() == size.argmax()
        for one, other in combinations(range(len(size)), 2):
            gap = size[one] - size[other]
            # What a concept adds to the variance goes with its square: smaller gaps are within the sampling error.
            if abs(size[one] ** 2 - size[other] ** 2) > 0.1 * size.square().sum():
                assert (index[one] - index[other]) * gap > 0


@pytest.mark.parametrize("encoder", ["linear", "nnls", "nearest", "topk"])
def test_deletion_by_signed_contribution_is_the_best_of_all_orders(
    engine: Engine, images: Tensor, encoder: str
) -> None:
    space = Concepts(dictionary(encoder), LAYER)
    parts = contributions(engine, images, space)
    _, none = ends(engine, images, space)
    weights = torch.arange(K).double() + 0.5
    orders = torch.tensor(list(permutations(range(K))))
    areas = none[:, None] + (parts[:, orders] * weights).sum(dim=2) / K
    ranked = {"signed": parts, "magnitude": parts.abs(), "worst": -parts}
    found = {
        name: score("deletion", engine, images, credit.float()[:, None], TARGETS, space=space, steps=K, score="logit",
                    null=np.zeros(3)).values
        for name, credit in ranked.items()
    }  # fmt: skip
    np.testing.assert_allclose(found["signed"], areas.amin(dim=1), atol=1e-5)
    np.testing.assert_allclose(found["worst"], areas.amax(dim=1), atol=1e-5)
    mixed = ((parts < -1e-3).any(dim=1) & (parts > 1e-3).any(dim=1)).numpy()
    assert mixed.any()
    assert (found["magnitude"][mixed] > found["signed"][mixed] + 1e-4).all()


def test_deletion_and_insertion_sum_to_both_ends(engine: Engine, images: Tensor, space: Concepts) -> None:
    full, none = ends(engine, images, space)
    credit = explain("random", engine, images, TARGETS, space=space)
    areas = [
        score(metric, engine, images, credit, TARGETS, space=space, steps=space.dictionary.k, score="logit",
              null=np.zeros(3)).values
        for metric in ("deletion", "insertion")
    ]  # fmt: skip
    np.testing.assert_allclose(areas[0] + areas[1], full + none, atol=1e-5)

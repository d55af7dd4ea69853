"""Importance of concepts: when the closed form holds, shares of the logit, and strategies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain, fit_dictionary
from bench.engine import Draws, Engine, Network
from bench.importance import cluster_graph, importance, method_of, share
from bench.registry import LimenError
from bench.spaces import Concepts, Dictionary
from bench.spaces.affine import affine_head


class Flat(nn.Module):
    """A linear head that gives each place weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5 * 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).flatten(1))


class Bent(nn.Module):
    """Heads that only look affine: a ReLU that positive features do not feel, and a maximum over places."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Softplus())
        self.kind = kind
        self.fc = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)
        return self.fc(maps.relu().mean(dim=(2, 3)) if self.kind == "relu" else maps.amax(dim=(2, 3)))


def engine_of(module: nn.Module) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in module.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return Engine(Network(name="small", module=module, size=None), device="cpu", precision="fp32", batch_size=64)


@pytest.fixture
def nmf(engine: Engine, images: Tensor) -> Dictionary:
    return fit_dictionary("nmf", engine.tap(images, "stage"), 6)


def test_a_pooled_linear_head_is_read_off(engine: Engine, images: Tensor) -> None:
    head = affine_head(engine, images, "stage")
    assert head is not None
    assert head.pooled
    torch.testing.assert_close(head.weights, engine.network.module.fc.weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(head.bias, engine.network.module.fc.bias)
    torch.testing.assert_close(head.logits(engine.tap(images, "stage")), engine.scores(images), atol=1e-5, rtol=1e-5)


def test_a_linear_head_with_weights_for_each_place_has_its_closed_form_too() -> None:
    engine = engine_of(Flat())
    images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    head = affine_head(engine, images, "features", classes=(2, 0))
    assert head is not None
    assert not head.pooled
    expected = engine.network.module.fc.weight[[2, 0]].reshape(2, 5, 4).transpose(1, 2)
    torch.testing.assert_close(head.slopes, expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(LimenError, match="weights: given a head that reads positions unlike each other"):
        _ = head.weights
    dictionary = fit_dictionary("pca", engine.tap(images, "features"), 3)
    closed = importance(engine, images, 1, dictionary, "features", method="contribution")
    drops = importance(engine, images, 1, dictionary, "features", method="occlusion")
    torch.testing.assert_close(closed, drops, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["relu", "maximum"])
def test_a_head_that_bends_is_told_although_it_is_straight_at_the_images(kind: str) -> None:
    engine = engine_of(Bent(kind))
    images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert affine_head(engine, images, "features") is None
    assert method_of(engine, images, "features") == "sobol"


def test_auto_takes_the_closed_form_where_it_holds_and_sobol_elsewhere(
    engine: Engine, images: Tensor, nmf: Dictionary
) -> None:
    assert [method_of(engine, images, layer) for layer in ("stage", "stem")] == ["contribution", "sobol"]
    closed = importance(engine, images, 1, nmf, "stage")
    assert torch.equal(closed, importance(engine, images, 1, nmf, "stage", method="contribution"))
    early = fit_dictionary("nmf", engine.tap(images, "stem"), 4)
    expected = explain("sobol", engine, images, 1, space=Concepts(early, "stem"), samples=64, seed=3)[:, 0]
    assert torch.equal(importance(engine, images, 1, early, "stem", seed=3), expected)


def test_importance_belongs_to_the_predicted_class_where_none_is_given(
    engine: Engine, images: Tensor, nmf: Dictionary
) -> None:
    found = importance(engine, images, None, nmf, "stage")
    assert found.shape == (4, 6)
    assert torch.equal(found, importance(engine, images, engine.targets(images), nmf, "stage"))


@pytest.mark.parametrize(
    ("method", "options", "layer", "message"),
    [
        ("sobl", {}, "stage", "importance, method: unknown name 'sobl'; allowed are auto, contribution, .*'sobol'"),
        ("auto", {"samples": 3}, "stage", "method 'auto': given the option 'samples', allowed is none"),
        ("contribution", {}, "stem", "layer 'stem' of network 'tiny', whose head is not affine"),
        ("sobol", {"sample": 3}, "stage", "attribution 'sobol', option: unknown name 'sample'"),
    ],
)
def test_a_fault_is_one_sentence(
    engine: Engine, images: Tensor, method: str, options: dict[str, int], layer: str, message: str
) -> None:
    dictionary = fit_dictionary("pca", engine.tap(images, layer), 3)
    with pytest.raises(LimenError, match=message):
        importance(engine, images, 1, dictionary, layer, method=method, **options)


def test_shares_are_of_the_mean_logit_and_signed() -> None:
    found = share(torch.tensor([[4.0, -1.0, 1.0], [2.0, 0.0, 2.0]]))
    np.testing.assert_allclose(found.value, [6 / 8, -1 / 8, 3 / 8])
    assert found.first.tolist() == [2, 0, 0]
    np.testing.assert_allclose(share(-torch.ones(3, 2)).value, [-0.5, -0.5])


def test_the_interval_of_a_share_covers_it_and_is_exact_where_images_agree() -> None:
    rows = torch.tensor([[3.0, 1.0]]).repeat(6, 1) * torch.linspace(1, 2, 6)[:, None]
    same = share(rows)
    np.testing.assert_allclose([same.value, same.low, same.high], [[0.75, 0.25]] * 3, atol=1e-7)
    truth, inside = np.array([0.6, 0.3, 0.1]), np.zeros(3)
    for seed in range(200):
        noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
        one = share(torch.tensor(truth, dtype=torch.float32) + 0.3 * noise, seed=seed, resamples=300)
        inside += (one.low <= truth) & (truth <= one.high)
    assert (inside / 200 > 0.88).all()
    assert (inside / 200 < 0.99).all()


def test_a_share_of_nothing_is_undefined() -> None:
    found = share(torch.tensor([[1.0, -1.0]]))
    assert np.isnan(found.value).all()
    assert np.isnan(found.low).all()


def strategies(per: int = 30) -> tuple[Tensor, np.ndarray]:
    """Images of three mixes of five concepts, of all sizes; concept 4 is first nowhere."""
    mixes = torch.tensor([[5.0, 1, 0, 0, 0], [0, 0, 5.0, -2, 0], [0, 2, 0, 5.0, 1]])
    kind = torch.arange(3).repeat_interleave(per)
    draws = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(3 * per, 5, generator=draws)
    return (mixes[kind] + noise) * (0.2 + 3 * torch.rand(3 * per, 1, generator=draws)), kind.numpy()


@pytest.mark.parametrize("layout", ["tsne", "pca"])
def test_images_of_one_strategy_lie_together(layout: str) -> None:
    values, kind = strategies()
    graph = cluster_graph(values, draws=Draws(0), layout=layout)
    assert graph.positions.shape == (90, 2)
    distances = np.linalg.norm(graph.positions[:, None] - graph.positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (kind[distances.argmin(axis=1)] == kind).all()
    assert (graph.strategy == np.array([0, 2, 3])[kind]).all()


@pytest.mark.parametrize("layout", ["tsne", "pca"])
def test_the_seed_fixes_the_graph(layout: str) -> None:
    values, _ = strategies(12)
    one, other = (cluster_graph(values, draws=Draws(4), layout=layout) for _ in range(2))
    assert np.array_equal(one.positions, other.positions)


def test_a_concept_is_important_if_it_comes_first_in_ten_images() -> None:
    values, _ = strategies(10)
    assert cluster_graph(values, draws=Draws(0), layout="pca").important.tolist() == [True, False, True, True, False]
    assert not cluster_graph(values, draws=Draws(0), layout="pca", least=11).important.any()


@pytest.mark.parametrize(
    ("values", "layout", "message"),
    [
        (torch.ones(3, 2), "pca", "cluster graph: given 3 images, allowed are four or more"),
        (torch.ones(5, 2), "umap", "cluster graph, layout: unknown name 'umap'; allowed are tsne, pca"),
        (torch.full((5, 2), torch.nan), "pca", r"cluster graph: given importance \(5, 2\), allowed are finite"),
    ],
)
def test_a_graph_that_cannot_be_drawn_is_refused(values: Tensor, layout: str, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        cluster_graph(values, draws=Draws(0), layout=layout)

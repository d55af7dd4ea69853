"""C-deletion, C-insertion and C-mu-fidelity: the metrics of maps in the space of concepts, against closed forms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.api import null, score
from bench.engine import Engine, Network
from bench.spaces import Concepts, Dictionary

D, K, CLASSES, COUNT = 7, 5, 3, 6
TARGETS = torch.arange(COUNT) % CLASSES


class Head(nn.Module):
    """Feature maps as images, then a head: affine after averaging the places, or bent."""

    def __init__(self, bent: bool) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.first, self.fc = nn.Linear(D, D), nn.Linear(D, CLASSES)
        self.bent = bent

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features(images).mean(dim=(2, 3))
        return self.fc(self.first(pooled).tanh() if self.bent else pooled)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def engine_of(bent: bool) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Head(bent)
    network = Network(name="head", module=module, classes=("a", "b", "c"), layer="features")
    return Engine(network, device="cpu", precision="fp32", batch_size=128)


@pytest.fixture(params=["affine", "bent"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engine_of(request.param == "bent")


@pytest.fixture
def space() -> Concepts:
    atoms = nn.functional.normalize(normal(K, D, seed=1), dim=1)
    filters = torch.linalg.pinv(atoms.double()).T
    mean = normal(D, seed=2)
    dictionary = Dictionary(
        name="some", atoms=atoms, mean=mean, encoder="linear", signed=True, parameters={"filters": filters}
    )
    return Concepts(dictionary, "features")


@pytest.fixture
def images() -> Tensor:
    return normal(COUNT, D, 2, 2, seed=3)


def logit(engine: Engine, space: Concepts, images: Tensor, kept: Tensor) -> np.ndarray:
    """The target's logit with some concepts kept (COUNT, K), by plain algebra in double precision."""
    module, one = engine.network.module.double(), space.dictionary
    rows = images.double().flatten(2).transpose(1, 2)
    codes = (rows - one.mean.double()) @ one.parameters["filters"].double().T
    activations = (codes * kept[:, None].double()) @ one.atoms.double() + one.mean.double()
    pooled = activations.mean(dim=1)
    logits = module.fc(module.first(pooled).tanh() if module.bent else pooled)
    found = logits.gather(1, TARGETS[:, None])[:, 0].detach().numpy()
    module.float()
    return found


@pytest.mark.parametrize(("metric", "removes"), [("deletion", True), ("insertion", False)])
def test_the_curve_is_that_of_concepts_taken_in_the_order_of_credit(
    engine: Engine, space: Concepts, images: Tensor, metric: str, removes: bool
) -> None:
    credit = normal(COUNT, 1, K, seed=4)
    found = score(metric, engine, images, credit, TARGETS, space=space, steps=K, score="logit", null=np.zeros(COUNT))
    rank = credit[:, 0].argsort(dim=1, descending=True).argsort(dim=1)
    expected = [logit(engine, space, images, (rank >= count) if removes else (rank < count)) for count in range(K + 1)]
    np.testing.assert_allclose(found.curve_y, np.stack(expected, axis=1), atol=1e-5)
    np.testing.assert_allclose(found.curve_x, np.arange(K + 1) / K)
    np.testing.assert_allclose(found.values, np.trapezoid(np.stack(expected, axis=1), dx=1 / K, axis=1), atol=1e-5)


def test_without_any_concept_the_network_sees_the_dictionarys_mean(
    engine: Engine, space: Concepts, images: Tensor
) -> None:
    maps = space.dictionary.mean[None, :, None, None].expand(1, D, 2, 2)
    bare = engine.scores(maps)[0]
    found = score(
        "deletion", engine, images, normal(COUNT, 1, K, seed=4), TARGETS, space=space, score="logit",
        null=np.zeros(COUNT),
    )  # fmt: skip
    np.testing.assert_allclose(found.curve_y[:, -1], bare[TARGETS], atol=1e-5)


def test_the_null_of_a_curve_is_the_mean_over_orders(space: Concepts, images: Tensor) -> None:
    """At an affine head each concept is gone half of the time in a random order: the mean of both ends."""
    engine = engine_of(bent=False)
    ends = [logit(engine, space, images, torch.full((COUNT, K), kept)) for kept in (0.0, 1.0)]
    for metric in ("deletion", "insertion"):
        found = null(metric, engine, images, TARGETS, space=space, steps=K, score="logit", null_draws=100)
        sizes = np.abs(ends[1] - ends[0]).max()
        np.testing.assert_allclose(found, (ends[0] + ends[1]) / 2, atol=0.2 * sizes)


def test_probabilities_are_those_of_all_classes(engine: Engine, space: Concepts, images: Tensor) -> None:
    credit = normal(COUNT, 1, K, seed=4)
    found = score("deletion", engine, images, credit, TARGETS, space=space, steps=K, null=np.zeros(COUNT))
    codes = space.coordinates(engine, images)
    whole = engine.head_scores(space.inputs(codes), "features").softmax(dim=1)
    np.testing.assert_allclose(found.curve_y[:, 0], whole.gather(1, TARGETS[:, None])[:, 0], atol=1e-6)


def test_mu_fidelity_is_the_rank_correlation_over_subsets_of_concepts(
    engine: Engine, space: Concepts, images: Tensor
) -> None:
    """With every pair of concepts drawn many times over, the value is that of all pairs, each as often."""
    credit = normal(COUNT, 1, K, seed=4)
    found = score(
        "mu_fidelity", engine, images, credit, TARGETS, space=space, fraction=0.4, subsets=3000, null=np.zeros(COUNT)
    )
    full = logit(engine, space, images, torch.ones(COUNT, K))
    pairs = list(combinations(range(K), 2))
    sums, drops = [], []
    for pair in pairs:
        kept = torch.ones(COUNT, K)
        kept[:, list(pair)] = 0
        sums.append(credit[:, 0, list(pair)].sum(dim=1).numpy())
        drops.append(full - logit(engine, space, images, kept))
    expected = [
        spearmanr(left, right).statistic for left, right in zip(np.transpose(sums), np.transpose(drops), strict=True)
    ]
    np.testing.assert_allclose(found.values, expected, atol=0.06)
    assert "exactly 2 of 5 cells" in found.convention


def test_mu_fidelity_of_random_credit_is_zero(space: Concepts, images: Tensor) -> None:
    engine = engine_of(bent=False)
    found = null("mu_fidelity", engine, images, TARGETS, space=space, null_draws=60, fraction=0.4)
    assert np.abs(found).max() < 0.25
    assert abs(found.mean()) < 0.1


@pytest.mark.parametrize("metric", ["deletion", "insertion", "mu_fidelity"])
def test_random_credit_scores_at_its_null(space: Concepts, metric: str) -> None:
    engine = engine_of(bent=False)
    many = normal(60, D, 2, 2, seed=6)
    options = {} if metric == "mu_fidelity" else {"score": "logit"}
    found = score(metric, engine, many, torch.rand(60, 1, K, generator=torch.Generator().manual_seed(1)), 0, space=space,
                  null_draws=40, **options)  # fmt: skip
    assert found.at_null


@pytest.mark.parametrize(("metric", "better"), [("deletion", -1), ("insertion", 1), ("mu_fidelity", 1)])
def test_true_contributions_beat_their_magnitudes_and_chance(space: Concepts, metric: str, better: int) -> None:
    engine = engine_of(bent=False)
    many = normal(40, D, 2, 2, seed=6)
    codes = space.coordinates(engine, many).mean(dim=1)
    parts = codes * (space.dictionary.atoms @ engine.network.module.fc.weight[0])
    options = {} if metric == "mu_fidelity" else {"score": "logit", "steps": K}
    signed, sizes = (
        score(metric, engine, many, credit[:, None].detach(), 0, space=space, null_draws=5, **options)
        for credit in (parts, parts.abs())
    )
    assert (better * (signed.values - sizes.values) >= -1e-5).all()
    assert (better * (signed.values - sizes.values)).mean() > 0.01
    assert signed.gain.low > 0


def test_concept_metrics_run_the_head_alone(space: Concepts, images: Tensor) -> None:
    """What comes before the layer runs once, for the codes, however many copies are asked for."""
    calls = []

    class Counted(Head):
        def __init__(self) -> None:
            super().__init__(bent=False)
            self.stem = nn.Identity()
            self.stem.register_forward_hook(lambda *_: calls.append(1))

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(self.stem(images))

    engine = Engine(Network(name="counted", module=Counted(), layer="features"), device="cpu", precision="fp32")
    score("deletion", engine, images, normal(COUNT, 1, K, seed=4), TARGETS, space=space, steps=K, null=np.zeros(COUNT))
    first = len(calls)
    score("deletion", engine, images, normal(COUNT, 1, K, seed=5), TARGETS, space=space, steps=K, null=np.zeros(COUNT))
    assert len(calls) == first

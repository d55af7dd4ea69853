"""TCAV: planted concepts, the closed form that says when it knows nothing, and its test against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from statsmodels.stats.multitest import multipletests
from torch import Tensor

from bench.api import score_dictionaries
from bench.engine import Draws
from bench.metrics.faithfulness.tcav import _corrected, tcav
from bench.registry import LimenError
from bench.spaces import ConceptData, Dictionary

D, T, COUNT = 12, 3, 80


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bent(maps: Tensor) -> Tensor:
    """Class 0 rises with unit 0 in every image; with unit 1 where unit 2 is positive; class 1 is the opposite."""
    pooled = maps.mean(dim=1)
    score = 2 * pooled[:, 0] + pooled[:, 1] * pooled[:, 2] - pooled[:, 3].exp()
    return torch.stack([score, -score], dim=1)


def placed(maps: Tensor) -> Tensor:
    """A head that reads every position in its own way."""
    weights = torch.linspace(-1, 2, T)[:, None] * torch.linspace(1, -0.5, D)
    score = (maps * weights.type_as(maps)).sum(dim=(1, 2)) + maps[:, 0].sin().sum(dim=1) + maps[:, -1].cos().sum(dim=1)
    return torch.stack([score, -score], dim=1)


def affine(maps: Tensor) -> Tensor:
    pooled = maps.mean(dim=1)
    return torch.stack([pooled[:, 0] - pooled[:, 1], pooled[:, 1]], dim=1)


def data(head=bent, count: int = COUNT) -> ConceptData:
    maps = normal(count, T, D, seed=1)
    targets = (torch.arange(count) % 2).long()
    train = normal(count, D, seed=2)
    return ConceptData(train, maps.mean(dim=1), test_maps=maps, head=head, targets=targets, class_names=("yes", "no"))


def units(k: int = D) -> Dictionary:
    return Dictionary(name="units", atoms=torch.eye(D)[:k], mean=torch.zeros(D), encoder="nnls", signed=False)


@pytest.mark.parametrize("head", [bent, placed])
def test_shares_are_those_of_a_loop_over_derivatives(head) -> None:
    given = data(head)
    atoms = torch.nn.functional.normalize(normal(5, D, seed=3), dim=1)
    one = Dictionary(name="some", atoms=atoms, mean=torch.zeros(D), encoder="nnls", signed=False)
    found = tcav([one], given, draws=Draws(0), null_draws=10)
    expected = []
    step = 1e-3
    for target in (0, 1):
        maps = given.test_maps[given.targets == target].double()
        for atom in atoms.double():
            rise = head(maps + step * atom)[:, target] - head(maps - step * atom)[:, target]
            expected.append(float((rise > 0).double().mean()))
    np.testing.assert_allclose(found.values, expected)
    assert found.samples[:2] == ("yes, atom 0", "yes, atom 1")
    assert found.samples[5] == "no, atom 0"


def test_a_planted_concept_is_found_in_both_directions() -> None:
    found = tcav([units(6)], data(), draws=Draws(0))
    shares, significant = found.values.reshape(2, 6), found.extra["significant"].reshape(2, 6)
    assert shares[:, 0].tolist() == [1, 0]
    assert shares[:, 3].tolist() == [0, 1]
    # Unit 1 helps where unit 2 is positive: one half, and units 4 and 5 do nothing, which counts one half.
    assert (abs(shares[:, 1] - 0.5) < 0.2).all()
    assert shares[:, 4:].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert not significant[:, [1, 2, 4, 5]].any()


def test_at_an_affine_head_nothing_can_be_told_from_chance() -> None:
    found = tcav([units()], data(affine), draws=Draws(0), null_draws=500)
    assert set(found.values.tolist()) == {0.0, 0.5, 1.0}
    assert found.extra["p"].min() == 1
    assert found.extra["consistency_null"].min() == 1


def test_strong_concepts_stand_out_where_random_directions_waver() -> None:
    def head(maps: Tensor) -> Tensor:
        pooled = maps.mean(dim=1)
        # All units but the first push either way, image by image.
        score = 3 * pooled[:, 0] + (4 * pooled[:, 1:]).cos().sum(dim=1)
        return torch.stack([score, -score], dim=1)

    found = tcav([units()], data(head, 400), draws=Draws(0))
    significant = found.extra["significant"].reshape(2, D).astype(bool)
    assert significant[:, 0].all()
    assert not significant[:, 1:].any()
    assert found.values.reshape(2, D)[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("directions", ["isotropic", "data"])
def test_random_atoms_score_at_the_null(directions: str) -> None:
    atoms = torch.nn.functional.normalize(normal(300, D, seed=5), dim=1)
    one = Dictionary(name="random", atoms=atoms, mean=torch.zeros(D), encoder="nnls", signed=False)
    scored = score_dictionaries("tcav", [one], data(), directions=directions)
    assert scored.at_null
    assert abs(scored.extra["consistency"].mean() - scored.extra["consistency_null"].mean()) < 0.03
    # Uncorrected p values are uniform up to ties, so few lie below 5 %.
    assert (scored.extra["p"] <= 0.05).mean() < 0.08


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("fdr", "fdr_bh")])
def test_corrections_are_statsmodels(ours: str, theirs: str) -> None:
    p = np.random.default_rng(0).uniform(size=40) ** 3
    np.testing.assert_allclose(_corrected(p, ours), multipletests(p, method=theirs)[1])
    assert np.array_equal(_corrected(p, "none"), p)


def test_fits_and_small_classes_are_named_and_left_out() -> None:
    given = data(count=9)
    found = tcav([units(2), units(3)], given, draws=Draws(0), null_draws=20, least=5)
    assert found.samples == tuple(
        [f"fit 1, yes, atom {atom}" for atom in range(2)] + [f"fit 2, yes, atom {atom}" for atom in range(3)]
    )
    assert found.extra["images"].tolist() == [5] * 5


@pytest.mark.parametrize(
    ("dictionaries", "given", "options", "message"),
    [
        ([], data(), {}, "metric 'tcav': given 0 dictionaries and classes of at most 40 images, allowed are one"),
        ([units()], data(), {"least": 41}, "a class of 41 images"),
        ([units()], ConceptData(normal(3, D), normal(3, D)), {}, "without test_maps, head, targets, allowed are all"),
    ],
)
def test_a_fault_is_one_sentence(
    dictionaries: list[Dictionary], given: ConceptData, options: dict[str, int], message: str
) -> None:
    with pytest.raises(LimenError, match=message):
        tcav(dictionaries, given, draws=Draws(0), **options)

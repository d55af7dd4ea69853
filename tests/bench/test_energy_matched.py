"""Energy-matched decisions: closed forms, planted heads, and what theory says of neurons against the true atoms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import score_dictionaries
from bench.engine import Draws
from bench.metrics.faithfulness.energy_matched import curves, energy_matched, principal, random_directions
from bench.registry import LimenError
from bench.spaces import ConceptData, Dictionary

D = 10


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(atoms: Tensor) -> Tensor:
    return torch.nn.functional.normalize(atoms, dim=1)


def linear(atoms: Tensor, mean: Tensor | None = None) -> Dictionary:
    filters = torch.linalg.pinv(atoms.double()).T
    mean = torch.zeros(atoms.shape[1]) if mean is None else mean
    parts = {"filters": filters}
    return Dictionary(name="some", atoms=atoms, mean=mean, encoder="linear", signed=True, parameters=parts)


def identity(d: int = D) -> Dictionary:
    return Dictionary(name="neurons", atoms=torch.eye(d), mean=torch.zeros(d), encoder="identity", signed=True)


def pooled_head(weights: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda maps: maps.mean(dim=1) @ weights.T


def data(maps: Tensor, weights: Tensor, head: Callable[[Tensor], Tensor] | None = None) -> ConceptData:
    targets = (maps.mean(dim=1) @ weights.T).argmax(dim=1)
    run = pooled_head(weights) if head is None else head
    extra = {"head_weights": weights} if head is None else {}
    return ConceptData(
        maps.mean(dim=1), maps.mean(dim=1), train_maps=maps, test_maps=maps, head=run, targets=targets, **extra
    )


def slow_removal(maps: Tensor, codes: Tensor, atoms: Tensor, order: Tensor, share: float) -> Tensor:
    """Walk along the atoms in ten thousand small steps until the energy is met."""
    whole, gone = float(maps.square().sum()), torch.zeros_like(maps)
    for atom in order:
        step = codes[:, atom, None] * atoms[atom] / 10_000
        for _ in range(10_000):
            if float(gone.square().sum()) >= share * whole:
                return maps - gone
            gone = gone + step
    return maps - gone


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_the_removal_is_that_of_a_walk_in_small_steps(mean: float) -> None:
    atoms, maps = unit(normal(6, 4, seed=1)).double(), normal(2, 3, 4, seed=2).double()
    weights = normal(3, 4, seed=3)
    one = linear(atoms.float(), torch.full((4,), mean))
    given = data(maps.float(), weights)
    found = curves(one, given, fraction=0.6, points=4)
    codes = one.encode(maps.float()).double()
    for image in range(2):
        target = int(given.targets[image])
        credit = codes[image].mean(dim=0) * (atoms @ weights[target].double())
        for point, share in enumerate((0.2, 0.4, 0.6), start=1):
            left = slow_removal(maps[image], codes[image], atoms, credit.argsort(descending=True), share)
            fall = (maps[image] - left).mean(dim=0) @ weights[target].double()
            assert float(found.logit[image, point]) == pytest.approx(float(fall), abs=2e-3)


@pytest.mark.parametrize("removal", ["null", "project"])
def test_the_energy_removed_is_the_energy_asked_for(removal: str) -> None:
    maps, weights = normal(5, 4, D, seed=1), normal(3, D, seed=2)
    for one in (identity(), linear(unit(normal(30, D, seed=3))), principal(data(maps, weights), D)):
        found = curves(one, data(maps, weights), fraction=0.3, removal=removal)
        torch.testing.assert_close(found.removed, found.shares.expand(5, -1), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("removal", ["null", "project"])
def test_neurons_at_a_linear_head_have_their_closed_form(removal: str) -> None:
    maps, weights = normal(4, 1, D, seed=1), normal(3, D, seed=2)
    given = data(maps, weights)
    found = curves(identity(), given, fraction=1.0, points=11, removal=removal)
    for image in range(4):
        row, slope = maps[image, 0].double(), weights[given.targets[image]].double()
        order = (row * slope).argsort(descending=True)
        energy = np.concatenate([[0], (row[order].square().cumsum(0) / row.square().sum()).numpy()])
        fall = np.concatenate([[0], (row * slope)[order].cumsum(0).numpy()])
        expected = []
        for share in np.linspace(0, 1, 11):
            last = max(1, int(np.searchsorted(energy, share - 1e-12)))
            part = np.sqrt((share - energy[last - 1]) / (energy[last] - energy[last - 1]))
            expected.append(fall[last - 1] + part * (fall[last] - fall[last - 1]))
        np.testing.assert_allclose(found.logit[image], expected, atol=1e-5)


def test_both_removals_agree_on_orthonormal_atoms() -> None:
    maps, weights = normal(4, 3, D, seed=1), normal(3, D, seed=2)
    given = data(maps, weights)
    rotated = linear(torch.linalg.qr(normal(D, D, seed=4)).Q)
    null, project = (curves(rotated, given, fraction=0.9, removal=removal) for removal in ("null", "project"))
    torch.testing.assert_close(null.logit, project.logit, atol=1e-5, rtol=1e-4)


def test_the_atom_that_the_head_reads_falls_as_fast_as_anything_can() -> None:
    """With one atom along the class's weights, the curve is the ceiling until that atom is used up."""
    weights = torch.zeros(2, D)
    weights[0, 3], weights[1, 3] = 2.0, -2.0
    maps = normal(6, 1, D, seed=1).abs()
    given = data(maps, weights)
    assert given.targets.tolist() == [0] * 6
    found = curves(identity(), given, fraction=1.0, points=101)
    length = maps[:, 0].double().norm(dim=1)
    held = maps[:, 0, 3].double().square() / length.square()
    for image in range(6):
        reach = np.minimum(found.shares.numpy(), float(held[image]))
        np.testing.assert_allclose(found.logit[image], 2 * float(length[image]) * np.sqrt(reach), atol=1e-5)


def test_no_dictionary_passes_the_ceiling_and_the_right_direction_reaches_it() -> None:
    weights, maps = normal(3, D, seed=2), normal(40, 1, D, seed=1)
    given = data(maps, weights)
    for one in (identity(), linear(unit(normal(30, D, seed=3))), linear(unit(weights))):
        found = energy_matched([one], given, draws=Draws(0), fraction=0.2, null_draws=1)
        assert (found.values <= found.ceiling + 1e-6).all()
        assert (found.null <= found.ceiling + 1e-6).all()
    along = maps[:1, 0] @ unit(weights).T
    aligned = (unit(weights)[int(given.targets[0])] * along[0, int(given.targets[0])]).reshape(1, 1, D)
    exact = energy_matched([linear(unit(weights))], data(aligned, weights), draws=Draws(0), removal="project")
    np.testing.assert_allclose(exact.values, exact.ceiling, rtol=1e-4)


def planted(seed: int = 0, count: int = 60) -> tuple[Tensor, Tensor]:
    """Sparse positive codes of 16 atoms that are not orthogonal, in 12 dimensions: atoms, maps (count, 2, 12)."""
    atoms = unit(normal(16, 12, seed=seed))
    draws = torch.Generator().manual_seed(seed + 1)
    active = torch.rand(count, 2, 16, generator=draws) < 0.2
    active[..., 0] = True
    return atoms, (active * (0.5 + torch.rand(count, 2, 16, generator=draws))) @ atoms


class Known:
    """The planted dictionary; its codes are those of non-negative least squares."""

    @staticmethod
    def dictionary(atoms: Tensor) -> Dictionary:
        return Dictionary(name="truth", atoms=atoms, mean=torch.zeros(atoms.shape[1]), encoder="nnls", signed=False)


def test_true_atoms_beat_neurons_where_the_head_reads_one_of_them() -> None:
    atoms, maps = planted()
    weights = torch.stack([atoms[0], -atoms[0]])
    given = data(maps, weights)
    gains = {
        name: energy_matched([one], given, draws=Draws(0), fraction=0.1)
        for name, one in (("truth", Known.dictionary(atoms)), ("neurons", identity(12)))
    }
    truth, neurons = gains["truth"], gains["neurons"]
    assert truth.values.mean() > 1.15 * neurons.values.mean()
    assert truth.values.mean() > 0.9 * truth.ceiling.mean()
    assert (truth.values > truth.null).mean() > 0.95


def test_neurons_beat_true_atoms_where_the_head_reads_one_neuron() -> None:
    atoms, maps = planted()
    weights = torch.zeros(2, 12)
    weights[0, 4], weights[1, 4] = 1.0, -1.0
    given = data(maps, weights)
    truth, neurons = (
        energy_matched([one], given, draws=Draws(0), fraction=0.05).values.mean()
        for one in (Known.dictionary(atoms), identity(12))
    )
    assert neurons > 1.15 * truth


def test_random_directions_score_at_the_null() -> None:
    maps, weights = normal(60, 2, D, seed=1), normal(3, D, seed=2)
    given = data(maps, weights)
    for k in (4, 25):
        fits = [random_directions(given, k, Draws(9, fit)) for fit in range(12)]
        scored = score_dictionaries("energy_matched", fits, given, null_draws=12)
        assert scored.at_null
        assert abs(scored.gain.mean) < 0.08 * scored.value.mean
    rotation = linear(torch.linalg.qr(normal(D, D, seed=8)).Q)
    assert score_dictionaries("energy_matched", [rotation], given).extra["pca"].shape == (60,)


@pytest.mark.parametrize("centred", [True, False])
def test_a_random_rotation_is_no_better_than_the_null(centred: bool) -> None:
    maps, weights = normal(80, 2, D, seed=1) + 1.0, normal(3, D, seed=2)
    given = data(maps, weights)
    mean = maps.mean(dim=(0, 1)) if centred else None
    fits = [linear(torch.linalg.qr(normal(D, D, seed=20 + fit)).Q, mean) for fit in range(12)]
    scored = score_dictionaries("energy_matched", fits, given, null_draws=24)
    assert abs(scored.gain.mean) < 0.06 * scored.value.mean
    # An image close to the mean may hold less than a quarter of its energy away from it.
    assert np.median(scored.extra["removed_null"]) == pytest.approx(0.25, abs=1e-6)


def test_control_directions_are_orthogonal_in_sets_of_as_many_as_there_are_features() -> None:
    given = data(normal(9, 2, D, seed=1), normal(3, D, seed=2))
    one = random_directions(given, 2 * D + 3, Draws(0))
    for part in one.atoms.split(D):
        torch.testing.assert_close(part @ part.T, torch.eye(len(part)), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.decode(one.encode(given.test)), given.test, atol=1e-5, rtol=1e-4)
    assert not random_directions(given, 3, Draws(0), centred=False).mean.any()


def test_the_value_is_the_mean_height_of_the_curve_over_fits() -> None:
    maps, weights = normal(5, 2, D, seed=1), normal(3, D, seed=2)
    given = data(maps, weights)
    fits = [identity(), linear(unit(normal(7, D, seed=3)))]
    found = energy_matched(fits, given, draws=Draws(0), fraction=0.4, points=9)
    heights = sum(curves(one, given, fraction=0.4, points=9).logit for one in fits) / 2
    np.testing.assert_allclose(found.curve_y, heights)
    np.testing.assert_allclose(found.values, np.trapezoid(heights.numpy(), found.curve_x, axis=1) / 0.4)
    own = energy_matched([principal(given, D)], given, draws=Draws(0))
    np.testing.assert_allclose(own.values, own.extra["pca"])


def test_flips_are_told_with_the_share_that_brings_them() -> None:
    maps = torch.tensor([[[3.0, 2.0, 6.0]], [[3.0, -2.0, 6.0]]])
    weights = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    found = energy_matched([identity(3)], data(maps, weights), draws=Draws(0), fraction=0.5, points=51, null_draws=1)
    assert found.extra["flipped"].tolist() == [1, 0]
    # Unit 0 must fall below unit 1: one of 3 units gone, an energy of 1 / 49.
    assert found.extra["flip_share"][0] == pytest.approx(0.03, abs=0.0101)
    assert np.isnan(found.extra["flip_share"][1])
    probability = energy_matched([identity(3)], data(maps, weights), draws=Draws(0), score="probability")
    np.testing.assert_allclose(probability.values, probability.extra["probability"])
    assert probability.ceiling is None


def test_a_dictionary_with_nothing_more_to_give_holds_its_last_score() -> None:
    maps, weights = normal(4, 1, D, seed=1), normal(3, D, seed=2)
    found = energy_matched([linear(torch.eye(D)[:1])], data(maps, weights), draws=Draws(0), fraction=1.0)
    held = maps[:, 0, 0].double().square() / maps[:, 0].double().square().sum(dim=1)
    np.testing.assert_allclose(found.extra["removed"], held, atol=1e-6)
    assert np.ptp(found.curve_y[:, -3:], axis=1).max() < 1e-6
    empty = Dictionary(name="dead", atoms=torch.zeros(3, D), mean=torch.zeros(D), encoder="nnls", signed=False)
    still = energy_matched([empty], data(maps, weights), draws=Draws(0)).values
    np.testing.assert_allclose(still, 0, atol=1e-5)


def test_atoms_within_the_span_of_others_take_nothing_more() -> None:
    maps, weights = normal(3, 2, D, seed=1), normal(3, D, seed=2)
    given = data(maps, weights)
    doubled = linear(torch.cat([torch.eye(D), torch.eye(D)]))
    once, twice = (curves(one, given, removal="project").logit for one in (identity(), doubled))
    torch.testing.assert_close(once, twice, atol=1e-6, rtol=1e-5)


def test_a_head_that_bends_has_no_ceiling() -> None:
    maps, weights = normal(4, 2, D, seed=1), normal(3, D, seed=2)
    bent = data(maps, weights, head=lambda given: given.mean(dim=1).relu() @ weights.T)
    assert energy_matched([identity()], bent, draws=Draws(0)).ceiling is None


def test_a_fault_is_one_sentence() -> None:
    bare = ConceptData(normal(3, D), normal(3, D))
    with pytest.raises(LimenError, match="'energy_matched': given concept data without test_maps, head, targets"):
        energy_matched([identity()], bare, draws=Draws(0))
    with pytest.raises(LimenError, match="'energy_matched': given 0 dictionaries"):
        energy_matched([], bare, draws=Draws(0))

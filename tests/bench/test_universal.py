"""One code for several networks: planted shared and private concepts, views, and the metrics of universality."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.api import fit_dictionary, score_dictionaries
from bench.dictionaries import universal as module
from bench.dictionaries.universal import Shared, universal
from bench.engine import Draws, sparse_fit
from bench.engine.activations import Activations
from bench.engine.sparse_fit_model import Step
from bench.engine.sparse_fit_world import World
from bench.metrics.universality._shared import permutations
from bench.metrics.universality.firing_entropy import entropy
from bench.registry import LimenError
from bench.spaces import ConceptData, Dictionary
from bench.spaces.views import side_by_side, views

WIDTHS, CONCEPTS, PRIVATE = (14, 12), 12, 2
"""The first two concepts are the first network's own."""
RATE = 0.15
OPTIONS = {"widths": WIDTHS, "active": 3, "steps": 1000, "batch_size": 256, "learning_rate": 6e-3}


def unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def codes(count: int, seed: int) -> Tensor:
    """Twelve concepts, each in 15 % of the rows whatever the others do, of strength .5 to 1.5."""
    draws = torch.Generator().manual_seed(seed)
    present = torch.rand(count, CONCEPTS, generator=draws) < RATE
    return present * (0.5 + torch.rand(count, CONCEPTS, generator=draws))


def networks() -> list[Tensor]:
    """Two linear maps (concepts, d_i) of the same codes; the second knows nothing of the private concepts."""
    draws = torch.Generator().manual_seed(7)
    maps = [unit(torch.linalg.qr(torch.randn(width, width, generator=draws)).Q[:CONCEPTS]) for width in WIDTHS]
    maps[1][:PRIVATE] = 0
    return maps


def rows(count: int = 3000, seed: int = 0) -> Tensor:
    written = codes(count, seed)
    return torch.cat([3 * written @ networks()[0] + 1, written @ networks()[1]], dim=1)


@pytest.fixture(scope="module")
def fitted() -> Dictionary:
    return fit_dictionary("universal", rows(), 16, **OPTIONS)


@pytest.fixture(scope="module")
def data() -> ConceptData:
    return ConceptData(rows(), rows(1000, seed=1))


def planted_latents(fitted: Dictionary) -> np.ndarray:
    """Return the latent of each planted concept, matched in the first network, which knows them all."""
    cosines = networks()[0] @ views(fitted)[0].atoms.T
    return linear_sum_assignment(cosines.numpy(), maximize=True)[1]


def test_the_atoms_of_both_networks_are_found_at_one_index(fitted: Dictionary) -> None:
    latents = planted_latents(fitted)
    for index, (truth, view) in enumerate(zip(networks(), views(fitted), strict=True)):
        cosines = (truth * view.atoms[latents]).sum(dim=1)[PRIVATE * index :]
        assert cosines.min() > 0.98
        assert cosines.mean() > 0.99


def test_shared_concepts_fire_alike_and_together_and_private_ones_in_one_network(
    fitted: Dictionary, data: ConceptData
) -> None:
    latents = planted_latents(fitted)
    evenness = score_dictionaries("firing_entropy", [fitted], data)
    together = score_dictionaries("cofiring", [fitted], data)
    values, null, ceiling = (getattr(together, name).reshape(2, -1) for name in ("values", "null", "ceiling"))
    shared, private = latents[PRIVATE:], latents[:PRIVATE]
    assert evenness.values[private].max() < 0.05
    assert values[0, private].max() < 0.05
    # One concept in ten may sit at two indices, one a network, although both have its atoms.
    one_index = evenness.values[shared] > 0.95
    assert one_index.sum() >= len(shared) - 1
    assert values[:, shared[one_index]].min() > 0.9
    # A latent of another index fires as often as its own concept is there.
    assert null[:, shared[one_index]].mean() == pytest.approx(RATE, abs=0.05)
    known = ~np.isnan(values)
    assert (values <= ceiling + 1e-9)[known].all()
    assert together.gain.low > 0.3


def test_at_the_published_threshold_a_forced_code_passes_for_a_shared_one(
    fitted: Dictionary, data: ConceptData
) -> None:
    private = planted_latents(fitted)[:PRIVATE]
    published = score_dictionaries("firing_entropy", [fitted], data, preset="published").values
    assert published[private].max() > 0.5


def test_either_network_writes_a_code_that_reconstructs_the_other(fitted: Dictionary, data: ConceptData) -> None:
    found = score_dictionaries("cross_reconstruction", [fitted], data)
    matrix = found.values.reshape(2, 2)
    assert found.samples == ("network 1 to 1", "network 1 to 2", "network 2 to 1", "network 2 to 2")
    assert matrix.diagonal().min() > 0.9
    assert matrix[0, 1] > 0.9
    # The second network does not know the private concepts: it cannot say them.
    assert 0.5 < matrix[1, 0] < 0.95
    assert matrix[1, 0] < matrix[0, 0] - 0.05
    assert (found.null < 0).all()
    np.testing.assert_allclose(found.ceiling.reshape(2, 2), np.tile(matrix.diagonal(), (2, 1)))


def test_autoencoders_of_one_network_find_the_shared_atoms(fitted: Dictionary, data: ConceptData) -> None:
    part = ConceptData(*(split[:, : WIDTHS[0]] for split in (data.train, data.test)))
    own = {name: OPTIONS[name] for name in ("active", "steps", "batch_size", "learning_rate")}
    alone = fit_dictionary("topk", part.train, 16, **own)
    found = score_dictionaries("independent_match", [views(fitted)[0], alone], part)
    latents = planted_latents(fitted)
    # An autoencoder on its own may miss one of twelve.
    assert np.median(found.values[latents]) > 0.99
    assert found.extra["found"][latents].sum() >= 11
    assert found.null.mean() < 0.6
    one = score_dictionaries("independent_match", [views(fitted)[0], views(fitted)[0]], part)
    np.testing.assert_allclose(one.values, 1, atol=1e-6)


def test_random_dictionaries_match_at_the_null(data: ConceptData) -> None:
    fits = [fit_dictionary("random", data.train, 30, seed=seed) for seed in range(3)]
    found = score_dictionaries("independent_match", fits, data, null_draws=20)
    signless = np.abs(found.gain.mean)
    assert signless < 0.02


def test_a_view_is_its_networks_encoder_and_decoder(fitted: Dictionary) -> None:
    parameters, held = fitted.parameters, rows(50, seed=3)
    for index, (own, view) in enumerate(zip(held.split(WIDTHS, dim=1), views(fitted), strict=True)):
        start = sum(WIDTHS[:index])
        part = slice(start, start + WIDTHS[index])
        answers = (own - fitted.mean[part]) @ parameters["filters"][:, part].T + parameters["biases"][index]
        kept = answers.relu().topk(3, dim=1)
        shared = torch.zeros_like(answers).scatter(1, kept.indices, kept.values)
        contribution = shared @ (fitted.atoms * parameters["gain"][:, None])[:, part]
        torch.testing.assert_close(
            view.decode(view.encode(own)), contribution + fitted.mean[part], atol=1e-5, rtol=1e-5
        )
        assert view.provenance["view"] == index
    lengths = torch.cat([view.atoms * view.parameters["gain"][:, None] for view in views(fitted)], dim=1)
    torch.testing.assert_close(lengths.norm(dim=1), parameters["gain"])


def test_the_code_of_all_networks_is_the_topk_of_their_mean_answer(fitted: Dictionary) -> None:
    held = rows(50, seed=3)
    answers = torch.stack(
        [
            (own - view.mean) @ view.parameters["filters"].T + view.parameters["bias"]
            for own, view in zip(held.split(WIDTHS, dim=1), views(fitted), strict=True)
        ]
    ).mean(dim=0)
    kept = answers.relu().topk(3, dim=1)
    expected = torch.zeros_like(answers).scatter(1, kept.indices, kept.values) * fitted.parameters["gain"]
    torch.testing.assert_close(fitted.encode(held), expected, atol=1e-5, rtol=1e-4)


def test_a_saved_dictionary_has_the_same_views(fitted: Dictionary, tmp_path: Path) -> None:
    fitted.save(tmp_path / "universal.safetensors")
    loaded = Dictionary.load(tmp_path / "universal.safetensors")
    for before, after in zip(views(fitted), views(loaded), strict=True):
        assert torch.equal(before.atoms, after.atoms)
        assert torch.equal(before.encode(rows(9)[:, : before.d]), after.encode(rows(9)[:, : after.d]))


def model() -> Shared:
    draws = torch.Generator().manual_seed(0)
    start = unit(torch.randn(6, 7, generator=draws))
    return Shared(start, 6, torch.zeros(7), torch.ones(7), (4, 3), None)


@pytest.mark.parametrize("drawn", [0, 1])
def test_a_step_moves_one_encoder_and_all_decoders_by_their_whole_gradient(drawn: int) -> None:
    one = model()
    draws = next(
        each for each in (Draws(seed) for seed in range(20)) if each.spawn("network").numpy().integers(2) == drawn
    )
    batch = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))
    step = Step(0, 1, 8, World(torch.zeros(1).device), draws)
    one.loss(batch, step).backward()
    other = 1 - drawn
    assert one.filters[other].grad is None
    assert one.biases[other].grad is None
    filters, bias = one.filters[drawn].detach(), one.biases[drawn].detach()
    atoms = one.atoms.directions.detach().clone().requires_grad_()
    leaf = filters.clone().requires_grad_()
    code = (batch.split((4, 3), dim=1)[drawn] @ leaf.T + bias).relu()
    # Every decoder's error counts, each a mean over its own features and of equal weight for equal widths.
    ((batch - code @ atoms).square().sum() / (8 * 7)).backward()
    torch.testing.assert_close(one.atoms.directions.grad, atoms.grad)
    torch.testing.assert_close(one.filters[drawn].grad, leaf.grad)


def test_networks_weigh_alike_whatever_their_width() -> None:
    data = torch.randn(400, 10, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 9, 10)
    for how in ("features", "scale"):
        mean, scale = module._standardisation(module.stream(data, "universal"), how, (8, 2))
        parts = ((data - mean) / scale).square().mean(dim=0).split((8, 2))
        assert float(parts[0].sum()) == pytest.approx(5, rel=1e-3)
        assert float(parts[1].sum()) == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize(("every", "at"), [(20, 30), (1, 1)])
def test_a_killed_fit_goes_on_to_the_same_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, at: int
) -> None:
    """Also where it was killed before the other network's encoder had its first turn."""
    monkeypatch.setattr(sparse_fit, "SAVE_EVERY", every)
    options = {"widths": WIDTHS, "active": 2, "steps": 40, "batch_size": 100}

    def stop(step: int, steps: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    data, seen = rows(300), []
    whole = universal(data, 8, draws=Draws(0), **options)
    with pytest.raises(KeyboardInterrupt):
        universal(data, 8, draws=Draws(0), checkpoint=tmp_path / "fit", progress=stop, **options)
    resumed = universal(
        data, 8, draws=Draws(0), checkpoint=tmp_path / "fit", progress=lambda step, _: seen.append(step), **options
    )
    assert seen[0] == at - at % every + 1
    assert torch.equal(whole.atoms, resumed.atoms)
    assert all(torch.equal(value, resumed.parameters[name]) for name, value in whole.parameters.items())


def test_entropy_is_one_for_equal_firings_and_zero_for_one_network() -> None:
    counts = torch.tensor([[5.0, 5, 0, 1], [5, 0, 0, 1], [5, 0, 0, 2]]).double()
    found = entropy(counts)
    expected = -(2 * 0.25 * np.log(0.25) + 0.5 * np.log(0.5)) / np.log(3)
    np.testing.assert_allclose(found, [1, 0, np.nan, expected])


def by_hand(shared: tuple[Tensor, Tensor]) -> tuple[Dictionary, ConceptData]:
    """A dictionary of two networks whose features are the shared code itself, and rows that are the codes asked for."""
    k = shared[0].shape[1]
    eye = torch.eye(k)
    one = Dictionary(
        name="universal",
        atoms=torch.cat([eye, eye], dim=1) / 2**0.5,
        mean=torch.zeros(2 * k),
        encoder="shared_topk",
        signed=False,
        parameters={
            "filters": torch.cat([eye, eye], dim=1),
            "biases": torch.zeros(2, k),
            "gain": torch.full((k,), 2**0.5),
            "active": torch.tensor(float(k)),
            "widths": torch.tensor([float(k), float(k)]),
        },
    )
    both = torch.cat(shared, dim=1)
    return one, ConceptData(both, both)


def test_metrics_have_their_closed_form_on_written_codes() -> None:
    first = torch.tensor([[1.0, 0, 2, 0], [1, 3, 0, 0], [1, 0, 0, 0], [0, 3, 0, 0]])
    second = torch.tensor([[2.0, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    one, data = by_hand((first, second))
    evenness = score_dictionaries("firing_entropy", [one], data)
    shares = np.array([3 / 5, 2 / 5])
    np.testing.assert_allclose(evenness.values, [-(shares * np.log2(shares)).sum(), 1, 0, np.nan])
    np.testing.assert_allclose(evenness.extra["firings"], [5 / 8, 4 / 8, 1 / 8, 0])
    together = score_dictionaries("cofiring", [one], data)
    np.testing.assert_allclose(together.values.reshape(2, 4), [[2 / 3, 1 / 2, 0, np.nan], [1, 1 / 2, np.nan, np.nan]])
    np.testing.assert_allclose(together.ceiling.reshape(2, 4), [[2 / 3, 1, 0, np.nan], [1, 1, np.nan, np.nan]])
    np.testing.assert_allclose(
        together.extra["energy"].reshape(2, 4), [[9 / 16, 36 / 16, 1 / 4, 0], [1, 1 / 4, 0, 0]], rtol=1e-6
    )
    cross = score_dictionaries("cross_reconstruction", [one], data)
    spread = [float((part - part.mean(dim=0)).square().sum()) for part in (first, second)]
    gap = float((first - second).square().sum())
    np.testing.assert_allclose(cross.values, [1, 1 - gap / spread[1], 1 - gap / spread[0], 1], atol=1e-6)
    assert cross.extra["same"].tolist() == [1, 0, 0, 1]


def test_the_null_of_cofiring_is_that_of_all_pairs_of_indices() -> None:
    draws = torch.Generator().manual_seed(0)
    first, second = ((torch.rand(200, 5, generator=draws) < 0.3).float() for _ in "ab")
    one, data = by_hand((first, second))
    found = score_dictionaries("cofiring", [one], data, null_draws=400).null.reshape(2, 5)
    pairs = np.zeros((5, 5))
    for i, j in product(range(5), repeat=2):
        pairs[i, j] = float((first[:, i] * second[:, j]).sum())
    np.testing.assert_allclose(found[0], pairs.mean(axis=1) / first.sum(dim=0).numpy(), atol=0.03)
    np.testing.assert_allclose(found[1], pairs.mean(axis=0) / second.sum(dim=0).numpy(), atol=0.03)


def test_unrelated_codes_score_at_the_null() -> None:
    draws = torch.Generator().manual_seed(3)
    one, data = by_hand(tuple((torch.rand(400, 60, generator=draws) < 0.2).float() for _ in "ab"))
    assert score_dictionaries("cofiring", [one], data).at_null
    assert abs(score_dictionaries("firing_entropy", [one], data).gain.mean) < 0.002


def test_permutations_mix_the_living_and_leave_the_first_network() -> None:
    alive = torch.tensor([True, False, True, True])
    found = permutations(alive, 3, 30, Draws(0))
    assert found.shape == (30, 3, 4)
    assert (found[:, 0] == torch.arange(4)).all()
    assert (found[:, :, 1] == 1).all()
    assert (found.sort(dim=2).values == torch.arange(4)).all()
    assert len({tuple(order) for order in found[:, 1].tolist()}) == 6


def test_positions_are_rows_where_there_are_positions(fitted: Dictionary) -> None:
    maps = rows(60, seed=5).reshape(20, 3, -1)
    flat = ConceptData(rows(60, seed=5), rows(60, seed=5))
    placed = ConceptData(maps.mean(dim=1), maps.mean(dim=1), test_maps=maps)
    one, other = (score_dictionaries("cofiring", [fitted], given).values for given in (flat, placed))
    np.testing.assert_array_equal(one, other)


def streams(data: Tensor) -> list[Activations]:
    """The networks' rows as streams that are cut into shards at unlike places."""
    first, second = data.split(WIDTHS, dim=1)
    return [Activations(first.split(70)), Activations(second.contiguous().bfloat16().split(110))]


def test_streams_side_by_side_are_the_rows_side_by_side() -> None:
    data = rows(300)
    data[:, WIDTHS[0] :] = data[:, WIDTHS[0] :].bfloat16().float()
    joined, widths = side_by_side(streams(data))
    plain = Activations.of(data)
    assert widths == WIDTHS
    assert joined.shape == (300, sum(WIDTHS))
    assert torch.equal(joined.all(), data)
    assert torch.equal(joined.span(60, 130), data[60:130])
    assert torch.equal(joined.sample(9, Draws(1)), plain.sample(9, Draws(1)))
    for ours, theirs in zip(joined.moments(), plain.moments(), strict=True):
        torch.testing.assert_close(ours, theirs)
    for _, ours, theirs in zip(
        range(6), joined.batches(64, draws=Draws(2)), plain.batches(64, draws=Draws(2)), strict=False
    ):
        assert torch.equal(ours, theirs)
    assert joined.digest != side_by_side(streams(data + 1))[0].digest
    options = {"widths": widths, "active": 2, "steps": 20, "batch_size": 64}
    one, other = (universal(given, 6, draws=Draws(0), **options) for given in (joined, plain))
    torch.testing.assert_close(one.atoms, other.atoms, atol=1e-5, rtol=1e-4)
    with pytest.raises(LimenError, match="side by side: given .* allowed are streams for all, of as many rows"):
        side_by_side([plain, data])


def test_grids_of_unlike_size_meet_at_the_smallest() -> None:
    draws = torch.Generator().manual_seed(0)
    maps, tokens = torch.randn(2, 3, 4, 4, generator=draws), torch.randn(2, 4, 5, generator=draws)
    joined, widths = side_by_side([maps, tokens], [None, (2, 2)])
    assert widths == (3, 5)
    assert joined.shape == (2, 4, 8)
    torch.testing.assert_close(joined[..., 3:], tokens)
    level = torch.full((2, 3, 4, 4), 2.0)
    torch.testing.assert_close(side_by_side([level, tokens], [None, (2, 2)])[0][..., :3], torch.full((2, 4, 3), 2.0))
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    halved = side_by_side([ramp, torch.zeros(1, 1, 2, 2)])[0][0, :, 0]
    torch.testing.assert_close(halved[0] + halved[1], torch.tensor(3.0))
    pooled, widths = side_by_side([torch.ones(5, 2), torch.zeros(5, 3)])
    assert (pooled.shape, widths) == ((5, 5), (2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: universal(rows(20), 4, draws=Draws(0), widths=(5, 6)), r"'widths': given \(5, 6\), allowed are .* 26"),
        (lambda: views(fit_dictionary("pca", rows(20), 2)), "views: given dictionary 'pca' with the encoder 'linear'"),
        (
            lambda: side_by_side([torch.ones(3, 2), torch.ones(4, 2)]),
            r"side by side: given \(3, 2\), \(4, 2\), allowed",
        ),
        (lambda: side_by_side([]), "side by side: given none"),
        (lambda: side_by_side([torch.ones(3, 4, 2), torch.ones(3, 5, 2)]), "side by side: given"),
    ],
)
def test_a_fault_is_one_sentence(call, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        call()


@pytest.mark.parametrize("metric", ["firing_entropy", "cofiring"])
def test_one_network_alone_has_no_universality(metric: str) -> None:
    data = rows(40)
    alone = universal(data, 4, draws=Draws(0), steps=1)
    with pytest.raises(LimenError, match=f"metric '{metric}': given a dictionary of 1 network"):
        score_dictionaries(metric, [alone], ConceptData(data, data))

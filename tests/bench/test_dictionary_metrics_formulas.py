"""Metrics of dictionaries against closed forms, slow twins and outside libraries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance as scipy_wasserstein
from torch import Tensor

from bench.adapters import wanted
from bench.engine import Draws
from bench.records import Measurement
from bench.registry import METRICS, LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary(atoms: Tensor, *, encoder: str = "nnls", signed: bool = False, **parameters: Tensor) -> Dictionary:
    return Dictionary(
        name="given",
        atoms=atoms,
        mean=torch.zeros(atoms.shape[1]),
        encoder=encoder,
        signed=signed,
        parameters=parameters,
    )


def neurons(d: int) -> Dictionary:
    """Codes are the activations themselves."""
    return dictionary(torch.eye(d), encoder="identity", signed=True)


def reading(filters: Tensor, atoms: Tensor | None = None) -> Dictionary:
    """Codes are any linear map of the activations."""
    atoms = torch.nn.functional.normalize(normal(len(filters), filters.shape[1], seed=99)) if atoms is None else atoms
    return dictionary(atoms, encoder="linear", signed=True, filters=filters)


def data(test: Tensor, **parts: object) -> ConceptData:
    return ConceptData(test, test, **parts)  # type: ignore[arg-type]


def measure(name: str, one: Dictionary, known: ConceptData, **options: object) -> Measurement:
    metric = METRICS.load(name)
    return metric([one], known, **wanted(metric, {"draws": Draws(0)}), **options)


def test_relative_error_of_one_atom_is_what_is_left_beside_it() -> None:
    found = measure("relative_l2", dictionary(torch.tensor([[1.0, 0.0]])), data(torch.tensor([[3.0, 4.0], [2.0, 0.0]])))
    np.testing.assert_allclose(found.values, [0.8, 0.0], atol=1e-6)


def test_a_row_of_zeros_has_no_relative_error() -> None:
    found = measure("relative_l2", dictionary(torch.eye(2)), data(torch.tensor([[0.0, 0.0], [1.0, 2.0]])))
    assert math.isnan(found.values[0])
    assert found.values[1] == pytest.approx(0, abs=1e-6)


def test_positions_are_averaged_within_an_image() -> None:
    maps = torch.tensor([[[3.0, 4.0], [2.0, 0.0]]])
    known = ConceptData(maps.mean(dim=1), maps.mean(dim=1), test_maps=maps)
    found = measure("relative_l2", dictionary(torch.tensor([[1.0, 0.0]])), known, at="positions")
    np.testing.assert_allclose(found.values, [0.4], atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 5), (4, 7)])
def test_frechet_distance_of_rows_and_themselves_is_zero(shape: tuple[int, int]) -> None:
    assert measure("frechet_distance", neurons(shape[1]), data(normal(*shape))).values[0] < 1e-12


def test_frechet_distance_is_the_formula_of_the_matrix_root() -> None:
    rows, filters = normal(50, 4) @ normal(4, 4, seed=1), normal(4, 4, seed=2)
    one = reading(filters, torch.nn.functional.normalize(normal(4, 4, seed=3)))
    rebuilt = one.decode(one.encode(rows)).double().numpy()
    true = rows.double().numpy()
    s, t = (np.cov(part.T, bias=True) for part in (true, rebuilt))
    shift = ((true.mean(0) - rebuilt.mean(0)) ** 2).sum()
    expected = shift + np.trace(s) + np.trace(t) - 2 * np.trace(sqrtm(s @ t)).real
    found = measure("frechet_distance", one, data(rows), relative=False)
    assert found.values[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["frechet_distance", "wasserstein_distance"])
def test_answering_the_mean_is_a_distance_of_one(name: str) -> None:
    rows = normal(40, 5)
    blind = Dictionary(
        name="blind", atoms=torch.zeros(2, 5), mean=rows.mean(dim=0), encoder="linear", signed=True,
        parameters={"filters": torch.zeros(2, 5)},
    )  # fmt: skip
    assert measure(name, blind, data(rows)).values.mean() == pytest.approx(1, abs=1e-6)


def test_wasserstein_distance_is_scipys() -> None:
    rows, one = normal(31, 4), reading(normal(4, 4, seed=2))
    rebuilt = one.decode(one.encode(rows))
    expected = [scipy_wasserstein(a, b) for a, b in zip(rows.T.numpy(), rebuilt.T.numpy(), strict=True)]
    found = measure("wasserstein_distance", one, data(rows), relative=False)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


CODES = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l0", [4, 1, 0, 2]),
        ("hoyer", [0, 1, math.nan, 2 - math.sqrt(2)]),
        ("kappa4", [1 / 4, 1, math.nan, 1 / 2]),
    ],
)
def test_sparsity_of_codes_has_a_closed_form(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(measure(name, neurons(4), data(CODES)).values, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["l0", "hoyer", "kappa4"])
def test_sparsity_does_not_know_the_units_of_codes(name: str) -> None:
    small = measure(name, neurons(6), data(1e-12 * normal(9, 6))).values
    np.testing.assert_allclose(small, measure(name, neurons(6), data(normal(9, 6))).values, rtol=1e-5)


def test_l0_as_a_share_counts_of_all_atoms() -> None:
    np.testing.assert_allclose(measure("l0", neurons(4), data(CODES), fraction=True).values, [1, 0.25, 0, 0.5])


def test_hoyer_of_dense_gaussian_codes_is_the_half_normals() -> None:
    k = 400
    expected = (math.sqrt(k) - math.sqrt(2 * k / math.pi)) / (math.sqrt(k) - 1)
    assert measure("hoyer", neurons(k), data(normal(50, k))).values.mean() == pytest.approx(expected, abs=0.01)


def test_an_atom_that_never_speaks_is_dead() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    found = measure("dead_atoms", neurons(3), data(rows))
    np.testing.assert_array_equal(found.values, [0, 0, 1])
    np.testing.assert_allclose(found.extra["firing"], [0.75, 0.25, 0])


@pytest.mark.parametrize("name", ["stable_rank", "effective_rank"])
def test_orthonormal_atoms_have_the_rank_of_their_number(name: str) -> None:
    atoms = torch.linalg.qr(normal(8, 5)).Q.T
    assert measure(name, dictionary(atoms), data(normal(4, 8))).values[0] == pytest.approx(5, abs=1e-5)


@pytest.mark.parametrize("name", ["stable_rank", "effective_rank"])
def test_copies_of_one_atom_have_rank_one(name: str) -> None:
    atoms = torch.nn.functional.normalize(normal(1, 8)).repeat(5, 1)
    assert measure(name, dictionary(atoms), data(normal(4, 8))).values[0] == pytest.approx(1, abs=1e-4)


def test_ranks_follow_their_definitions() -> None:
    atoms = torch.nn.functional.normalize(normal(6, 4))
    lengths = np.linalg.svd(atoms.numpy(), compute_uv=False)
    shares = lengths / lengths.sum()
    known = data(normal(4, 4))
    assert measure("stable_rank", dictionary(atoms), known).values[0] == pytest.approx(6 / lengths[0] ** 2, rel=1e-5)
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert measure("effective_rank", dictionary(atoms), known).values[0] == pytest.approx(expected, rel=1e-5)


def test_zero_atoms_change_neither_ranks_nor_coherence() -> None:
    atoms = torch.nn.functional.normalize(normal(6, 4))
    known, more = data(normal(4, 4)), torch.cat([atoms, torch.zeros(2, 4)])
    for name in ("stable_rank", "effective_rank", "coherence"):
        plain, padded = (measure(name, dictionary(one), known) for one in (atoms, more))
        np.testing.assert_allclose(padded.values, plain.values, rtol=1e-6)
        for column in plain.extra:
            np.testing.assert_allclose(padded.extra[column], plain.extra[column], rtol=1e-5)


def test_coherence_is_the_largest_cosine_of_a_pair_in_parts_of_any_size() -> None:
    atoms = torch.nn.functional.normalize(normal(1500, 6))
    cosines = (atoms.double() @ atoms.double().T).abs().fill_diagonal_(0)
    found = measure("coherence", dictionary(atoms), data(normal(4, 6)))
    assert found.values[0] == pytest.approx(float(cosines.max()), abs=1e-6)
    assert found.extra["nearest"][0] == pytest.approx(float(cosines.amax(dim=1).mean()), abs=1e-6)


def test_a_simplex_reaches_the_welch_bound() -> None:
    angles = torch.arange(3) * 2 * math.pi / 3
    atoms = torch.stack([angles.cos(), angles.sin()], dim=1)
    found = measure("coherence", dictionary(atoms), data(normal(4, 2)))
    assert found.values[0] == pytest.approx(0.5, abs=1e-6)
    assert found.ceiling[0] == pytest.approx(0.5)


def test_a_common_direction_is_gone_when_coherence_is_centred() -> None:
    atoms = torch.nn.functional.normalize(0.2 * normal(12, 200) + 10 * torch.ones(200))
    found = measure("coherence", dictionary(atoms), data(normal(4, 200)))
    assert found.values[0] > 0.999
    assert found.extra["centred"][0] < 0.4


def test_atoms_that_are_activations_are_in_distribution() -> None:
    rows = normal(20, 30)
    found = measure("ood", dictionary(torch.nn.functional.normalize(rows[:6])), data(rows))
    np.testing.assert_allclose(found.values, 0, atol=1e-6)
    assert found.null.min() > 0.2


def test_ood_counts_from_where_the_dictionary_counts() -> None:
    rows = normal(20, 30) + 10
    atoms = torch.nn.functional.normalize(rows - 10)[:6]
    one = Dictionary(name="given", atoms=atoms, mean=torch.full((30,), 10.0), encoder="nnls", signed=False)
    np.testing.assert_allclose(measure("ood", one, data(rows)).values, 0, atol=1e-6)
    assert measure("ood", one, data(rows), centre="none").values.mean() > 0.5


@pytest.mark.parametrize("signed", [False, True])
def test_random_atoms_score_the_null_of_ood(signed: bool) -> None:
    atoms = torch.nn.functional.normalize(normal(60, 20, seed=5))
    one = dictionary(atoms, encoder="linear", signed=signed, filters=atoms)
    found = measure("ood", one, data(normal(80, 20)))
    assert found.values.mean() == pytest.approx(found.null.mean(), abs=0.02)


def test_cofire_density_counts_pairs_that_ever_meet() -> None:
    codes = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = measure("cofire_density", neurons(4), data(codes))
    np.testing.assert_allclose(found.values, [2 / 4, 3 / 4, 2 / 4, 0])
    expected = np.count_nonzero((codes.T @ codes).numpy()) / 16
    assert found.values.mean() == pytest.approx(expected)
    published = measure("cofire_density", neurons(4), data(codes), report="connectivity")
    assert published.values.mean() == pytest.approx(1 - expected)


def test_atoms_that_speak_apart_fire_together_less_than_by_chance() -> None:
    codes = torch.zeros(100, 4)
    codes[torch.arange(100), torch.arange(100) % 4] = 1
    found = measure("cofire_density", neurons(4), data(codes))
    np.testing.assert_allclose(found.values, 1 / 4)
    assert found.null.min() == 1


@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
def test_negative_interference_follows_its_definition(norm: str) -> None:
    rows, one = normal(40, 5), reading(normal(7, 5, seed=1))
    codes, atoms = one.encode(rows).double().numpy(), one.atoms.double().numpy()
    matrix = np.maximum(-(codes.T @ codes) * (atoms @ atoms.T), 0)
    expected = np.linalg.norm(matrix, 2 if norm == "spectral" else "fro")
    found = measure("negative_interference", one, data(rows), norm=norm, per_row=False)
    assert found.values[0] == pytest.approx(expected, rel=1e-5)
    per_row = measure("negative_interference", one, data(rows), norm=norm)
    assert per_row.values[0] == pytest.approx(expected / 40, rel=1e-5)


def test_orthogonal_atoms_do_not_interfere() -> None:
    assert measure("negative_interference", neurons(5), data(normal(40, 5))).values[0] == 0


def test_atoms_that_speak_independently_interfere_as_by_chance() -> None:
    rows = normal(4000, 6).abs()
    atoms = torch.nn.functional.normalize(normal(6, 6, seed=4))
    found = measure("negative_interference", reading(torch.eye(6), atoms), data(rows))
    assert found.values[0] == pytest.approx(found.null[0], rel=0.05)


def grid(codes: Tensor) -> ConceptData:
    """Codes (m, H, W, k) as neurons at the places of a map."""
    maps = codes.flatten(1, 2)
    return ConceptData(maps.mean(dim=1), maps.mean(dim=1), test_maps=maps, grid=tuple(codes.shape[1:3]))


def test_morans_i_is_the_double_loop() -> None:
    codes = normal(6, 3, 4, 2).relu()
    found = measure("morans_i", neurons(2), grid(codes), images=1, least_active=1, most_active=1.0)
    places = list(itertools.product(range(3), range(4)))
    expected = np.zeros((6, 2))
    for image, atom in itertools.product(range(6), range(2)):
        z = codes[image, :, :, atom].double().numpy()
        z = z - z.mean()
        pairs = [(p, q) for p, q in itertools.product(places, places) if abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1]
        expected[image, atom] = 12 / len(pairs) * sum(z[p] * z[q] for p, q in pairs) / (z**2).sum()
    np.testing.assert_allclose(found.values, expected.mean(axis=0), rtol=1e-6)


def test_scattered_codes_have_morans_expectation() -> None:
    codes = normal(600, 5, 5, 3).relu()
    found = measure("morans_i", neurons(3), grid(codes))
    np.testing.assert_allclose(found.values, -1 / 24, atol=0.015)
    np.testing.assert_allclose(found.extra["scattered"], -1 / 24)
    np.testing.assert_allclose(found.null, -1 / 24, atol=0.03)


def test_codes_that_lie_together_stand_above_random_directions() -> None:
    codes = torch.zeros(100, 6, 6, 3)
    codes[:, :3, :3, 0] = 1
    codes[:, ::2, ::2, 1] = 1
    codes[..., 2] = normal(100, 6, 6).relu()
    found = measure("morans_i", neurons(3), grid(codes))
    assert found.values[0] > 0.6
    assert found.values[1] < -0.2


def test_too_few_images_leave_an_atom_without_a_value() -> None:
    codes = torch.zeros(100, 4, 4, 2)
    codes[:10, :2, :3, 0] = 1
    codes[..., 1] = 1
    found = measure("morans_i", neurons(2), grid(codes))
    assert np.isnan(found.values).all()
    np.testing.assert_array_equal(found.extra["images"], [10, 0])


NULLS = [(512, 384, 0.154), (2048, 384, 0.175), (512, 768, 0.110), (2048, 768, 0.123), (512, 2048, 0.068)]


@pytest.mark.parametrize(("k", "d", "expected"), NULLS)
def test_plausibility_of_random_atoms_grows_with_their_number_as_measured(k: int, d: int, expected: float) -> None:
    atoms = torch.nn.functional.normalize(normal(k, d))
    known = data(normal(2, d), head_weights=normal(120, d, seed=1))
    found = measure("plausibility", dictionary(atoms), known, baseline="none", null_draws=1)
    assert found.values.mean() == pytest.approx(expected, abs=0.004)
    assert found.null.mean() == pytest.approx(expected, abs=0.004)


def test_atoms_along_the_heads_weights_are_wholly_plausible() -> None:
    weights = normal(4, 10)
    one = dictionary(torch.nn.functional.normalize(-weights))
    known = data(normal(30, 10), head_weights=weights)
    assert measure("plausibility", one, known, baseline="none").values.max() < 0.9
    other = dictionary(torch.nn.functional.normalize(weights))
    np.testing.assert_allclose(measure("plausibility", other, known, baseline="none").values, 1, atol=1e-6)


def test_plausibility_baselines_are_centroids_and_class_means() -> None:
    weights = torch.eye(3, 12)
    rows = weights.repeat_interleave(20, dim=0) + 0.01 * normal(60, 12)
    known = data(rows, head_weights=weights, targets=torch.arange(3).repeat_interleave(20))
    found = measure("plausibility", dictionary(torch.nn.functional.normalize(normal(3, 12))), known)
    # A class mean less the mean of all points along 2/3, -1/3, -1/3.
    np.testing.assert_allclose(found.extra["class_mean"], math.sqrt(2 / 3), atol=0.02)
    np.testing.assert_allclose(found.extra["centroids"], math.sqrt(2 / 3), atol=0.02)


def test_a_class_without_weights_has_no_plausibility() -> None:
    known = data(normal(5, 4), head_weights=torch.tensor([[0.0] * 4, [1.0, 0, 0, 0]]))
    found = measure("plausibility", dictionary(torch.eye(4)), known, baseline="none")
    assert math.isnan(found.values[0])
    assert found.values[1] == 1


def test_monosemanticity_is_the_loop_over_pairs() -> None:
    codes, seen = normal(15, 4), normal(15, 6, seed=1)
    found = measure("monosemanticity", neurons(4), data(codes, embeddings=seen)).values
    a = codes.double()
    a = ((a - a.amin(dim=0)) / (a.amax(dim=0) - a.amin(dim=0))).numpy()
    e = torch.nn.functional.normalize(seen.double()).numpy()
    for atom in range(4):
        pairs = list(itertools.combinations(range(15), 2))
        above = sum(a[n, atom] * a[m, atom] * (e[n] @ e[m]) for n, m in pairs)
        assert found[atom] == pytest.approx(above / sum(a[n, atom] * a[m, atom] for n, m in pairs), abs=1e-9)


def test_images_that_are_all_the_same_are_monosemantic() -> None:
    seen = normal(1, 6).repeat(12, 1)
    np.testing.assert_allclose(measure("monosemanticity", neurons(3), data(normal(12, 3), embeddings=seen)).values, 1)


def test_an_atom_for_one_kind_of_image_beats_its_null_and_random_codes_do_not() -> None:
    kind = torch.arange(200) % 4
    seen = torch.eye(4)[kind] + 0.1 * normal(200, 4)
    codes = torch.stack([(kind == 1).float(), torch.rand(200, generator=torch.Generator().manual_seed(0))], dim=1)
    found = measure("monosemanticity", neurons(2), data(codes, embeddings=seen))
    assert found.values[0] > 0.9
    assert found.null[0] < 0.4
    assert found.values[1] == pytest.approx(found.null[1], abs=0.02)
    assert found.extra["uniform"][0] == pytest.approx(found.null[1], abs=0.02)


@pytest.mark.parametrize("codes", [torch.ones(8, 1), torch.eye(8, 1)])
def test_codes_without_a_pair_have_no_monosemanticity(codes: Tensor) -> None:
    found = measure("monosemanticity", neurons(1), data(codes, embeddings=normal(8, 3)))
    assert np.isnan(found.values).all()


def test_k_sparse_probing_reads_a_concept_from_two_atoms_but_not_from_one() -> None:
    codes = normal(800, 6)
    labels = (codes[:, :1] + codes[:, 1:2]) > 0
    known = ConceptData(codes[:400], codes[400:], labels[:400], labels[400:], ("sum",))
    one, two = (float(measure("k_sparse_probing", neurons(6), known, active=active).values[0]) for active in (1, 2))
    assert two > 0.99
    assert 0.5 < one < 0.85


def test_k_sparse_probing_of_codes_that_know_nothing_is_chance() -> None:
    labels = normal(2000, 4, seed=1) > 0.5
    codes = normal(2000, 6)
    known = ConceptData(codes[:1000], codes[1000:], labels[:1000], labels[1000:], tuple("abcd"))
    found = measure("k_sparse_probing", neurons(6), known)
    assert abs(found.values.mean()) < 0.06
    assert abs(found.extra["random_codes"].mean()) < 0.06


@pytest.mark.parametrize(("name", "option"), [("ood", "null_draws"), ("k_sparse_probing", "active")])
def test_counts_below_one_are_refused(name: str, option: str) -> None:
    with pytest.raises(LimenError, match=f"metric '{name}', option '{option}': given 0, allowed is 1 or more"):
        measure(name, neurons(3), data(normal(5, 3)), **{option: 0})


def test_a_dictionary_of_another_layer_is_refused() -> None:
    with pytest.raises(LimenError, match="given dictionary 'given' of 4 features for activations of 3"):
        measure("coherence", neurons(4), data(normal(5, 3)))

"""Each sparse autoencoder beside its definition: codes, gradients, thresholds, and what becomes of them in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from bench.dictionaries._sparse import Autoencoder, Free, Sparsity, count_active, folded, unit
from bench.dictionaries._sparse_dead import Revival
from bench.dictionaries.batch_topk import BatchTopK
from bench.dictionaries.jumprelu import KERNELS, Jump, Kernel, jump
from bench.dictionaries.matching_pursuit import DecoderOnly, Pursuit, greedy_values
from bench.dictionaries.matryoshka import Nested
from bench.dictionaries.sae import Rectified
from bench.dictionaries.topk import TopK
from bench.engine import Draws
from bench.engine.sparse_fit_model import Step
from bench.engine.sparse_fit_world import World
from bench.registry import DICTIONARIES, LimenError, resolve_options

N, K, D = 16, 40, 8
SPARSE = ["sae", "topk", "batch_topk", "jumprelu", "matching_pursuit", "matryoshka"]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def step(index: int = 50, rows: int = N) -> Step:
    return Step(index, 100, rows, World(torch.device("cpu")), Draws(0))


def model(sparsity: Sparsity, kind: type[Autoencoder] = Autoencoder, **more: object) -> Autoencoder:
    atoms = unit(numbers(K, D, seed=1))
    one = kind(numbers(K, D, seed=2), Free(atoms), sparsity, numbers(D, seed=3), numbers(D, seed=4).abs() + 0.5, **more)
    one.encoder.bias.data.copy_(numbers(K, seed=5) * 0.1)
    one.encoder.offset.data.copy_(numbers(D, seed=6) * 0.1)
    return one


def plain(one: Autoencoder, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Standardised rows without their offset, and the answers of all latents."""
    rows = (batch - one.mean) / one.scale - one.encoder.offset
    return rows, rows @ one.encoder.filters.T + one.encoder.bias


def twin_topk(one: Autoencoder, batch: Tensor) -> Tensor:
    rows, answers = plain(one, batch)
    kept = answers.relu() * (answers >= answers.topk(3, dim=1).values[:, -1:])
    return (rows - kept @ one.atoms()).square().mean()


def twin_batch_topk(one: Autoencoder, batch: Tensor) -> Tensor:
    rows, answers = plain(one, batch)
    kept = answers.relu() * (answers >= answers.flatten().topk(3 * N).values[-1])
    return (rows - kept @ one.atoms()).square().mean()


def twin_rectified(one: Autoencoder, batch: Tensor) -> Tensor:
    rows, answers = plain(one, batch)
    codes = answers.relu()
    return (rows - codes @ one.atoms()).square().mean() + 0.7 * codes.sum(dim=1).mean() / D


def twin_nested(one: Autoencoder, batch: Tensor) -> Tensor:
    rows, answers = plain(one, batch)
    kept = answers.relu() * (answers >= answers.flatten().topk(3 * N).values[-1])
    parts = [(rows - kept[:, :stop] @ one.atoms()[:stop]).square().mean() for stop in (10, 20, K)]
    return torch.stack(parts).mean()


def twin_pursuit(one: Autoencoder, batch: Tensor) -> Tensor:
    left = (batch - one.mean) / one.scale - one.encoder.offset
    for _ in range(3):
        products = left @ one.atoms().T
        value, index = products.max(dim=1)
        left = left - value.relu()[:, None] * one.atoms()[index]
    return left.square().mean()


CASES = {
    "topk": (lambda: model(TopK(3)), twin_topk),
    "batch_topk": (lambda: model(BatchTopK(3, torch.zeros(1))), twin_batch_topk),
    "sae": (lambda: model(Rectified(0.7)), twin_rectified),
    "matryoshka": (lambda: model(BatchTopK(3, torch.zeros(1)), Nested, prefixes=[10, 20, K]), twin_nested),
    "matching_pursuit": (lambda: model(Pursuit(3), DecoderOnly), twin_pursuit),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_the_formula(name: str) -> None:
    build, twin = CASES[name]
    one, batch = build(), numbers(N, D, seed=7)
    leaves = [value for value in one.parameters().values() if name != "matching_pursuit" or value.shape != (K,)]
    ours, theirs = one.loss(batch, step()), twin(one, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for mine, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def unrolled(rows: Tensor, atoms: Tensor, indices: Tensor) -> Tensor:
    values = []
    for chosen in indices.T:
        values.append((rows * atoms[chosen]).sum(dim=1).relu())
        rows = rows - values[-1][:, None] * atoms[chosen]
    return torch.stack(values, dim=1)


def test_values_of_chosen_greedy_codes_have_the_gradients_of_the_unrolled_loop() -> None:
    rows, atoms = numbers(N, D).double().requires_grad_(), unit(numbers(K, D, seed=1)).double().requires_grad_()
    indices = numbers(N, K, seed=3).argsort(dim=1)[:, :4]
    indices[:, 3] = indices[:, 0]
    weights = numbers(N, 4, seed=4).double()
    ours, theirs = (build(rows, atoms, indices) for build in (greedy_values, unrolled))
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad((values * weights).sum(), [rows, atoms]) for values in (ours, theirs)]
    for mine, other in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", ["topk", "sae", "jumprelu", "matching_pursuit"])
def test_the_dictionary_reconstructs_as_the_trained_model_does(name: str) -> None:
    one = model(Jump(1.0, "rectangle", 0.05, torch.full((K,), 0.3))) if name == "jumprelu" else CASES[name][0]()
    batch = numbers(N, D, seed=7)
    rows, atoms = (batch - one.mean) / one.scale, one.atoms()
    codes, _ = one.sparsity.codes(rows, one.encoder, atoms, step())
    expected = (codes.decoded(atoms) + one.encoder.offset) * one.scale + one.mean
    dictionary = folded(name, one, {})
    torch.testing.assert_close(dictionary.decode(dictionary.encode(batch)), expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dictionary.atoms.norm(dim=1), torch.ones(K))


def test_the_baked_threshold_is_the_running_mean_of_the_smallest_kept_answer() -> None:
    one, cuts = model(BatchTopK(3, torch.zeros(1))), []
    for seed in range(20):
        batch = numbers(N, D, seed=seed)
        one.loss(batch, step())
        cuts.append(float(plain(one, batch)[1].detach().flatten().topk(3 * N).values[-1]))
    weights = [0.99 ** (len(cuts) - 1 - i) for i in range(len(cuts))]
    expected = sum(w * cut for w, cut in zip(weights, cuts, strict=True)) / sum(weights)
    threshold = folded("batch_topk", one, {}).parameters["threshold"]
    torch.testing.assert_close(threshold, torch.full((K,), expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bandwidth", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_the_mean_pseudo_gradient_of_a_threshold_is_minus_the_threshold(kernel: Kernel, bandwidth: float) -> None:
    given = (torch.arange(200_001, dtype=torch.float64) / 200_000)[:, None]
    threshold = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    codes, _ = jump(given, threshold, kernel, bandwidth)
    slope = float(torch.autograd.grad(codes.mean(), threshold)[0])
    reach = 0.5 / bandwidth
    within = float(torch.trapezoid(KERNELS[kernel](grid(reach)), grid(reach)))
    assert slope == pytest.approx(-0.5 * within, rel=2e-3)


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_every_kernel_has_unit_mass(kernel: Kernel) -> None:
    tail = 1e-3 if kernel in ("cauchy", "rectangle") else 1e-5
    assert float(torch.trapezoid(KERNELS[kernel](grid(700.0)), grid(700.0))) == pytest.approx(1, abs=tail)


def grid(reach: float) -> Tensor:
    return torch.linspace(-reach, reach, 2_000_001, dtype=torch.float64)


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_the_count_of_active_latents_falls_with_the_threshold_as_its_density_says(kernel: Kernel) -> None:
    given = (torch.arange(200_001, dtype=torch.float64) / 200_000)[:, None]
    threshold = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    _, active = jump(given, threshold, kernel, 0.005)
    slope = float(torch.autograd.grad(active.sum() / len(given), threshold)[0])
    assert slope == pytest.approx(-1, abs=1e-2)


def test_answers_above_the_threshold_pass_whole_and_so_do_their_gradients() -> None:
    given = torch.tensor([[0.2, 0.6], [0.9, -1.0]], requires_grad=True)
    codes, active = jump(given, torch.tensor([0.5, 0.5]), "rectangle", 0.05)
    assert torch.equal(codes, torch.tensor([[0.0, 0.6], [0.9, 0.0]]))
    assert active.tolist() == [1, 1]
    assert torch.equal(torch.autograd.grad(codes.sum(), given)[0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_thresholds_stay_at_zero_or_more() -> None:
    one = model(Jump(1.0, "rectangle", 0.05, torch.full((K,), 0.3)))
    one.parameters()["sparsity.threshold"].data.fill_(-1)
    one.sparsity.threshold.requires_grad_(False)  # type: ignore[attr-defined]
    one.sparsity.project()
    assert (one.parameters()["sparsity.threshold"] == 0).all()


def dying(revive: float) -> tuple[Autoencoder, Revival]:
    revival = Revival(numbers(K, D), patience=5 * N, weight=revive)
    one = model(TopK(3), revival=revival)
    one.encoder.bias.data[: K // 2] = -100.0
    return one, revival


def test_the_auxiliary_loss_is_that_of_the_formula_and_only_on_the_dead() -> None:
    one, revival = dying(0.5)
    batch = numbers(N, D, seed=7)
    before = one.loss(batch, step(32))
    assert not revival.dead.any()
    revival.idle[:D] = 5 * N
    after = one.loss(batch, step(64))
    rows, answers = plain(one, batch)
    kept = answers.relu() * (answers >= answers.topk(3, dim=1).values[:, -1:])
    error = (rows - kept @ one.atoms()).detach()
    dead = answers[:, :D]
    dead = dead * (dead >= dead.topk(D // 2, dim=1).values[:, -1:])
    expected = 0.5 * (error - dead @ one.atoms()[:D]).square().mean()
    torch.testing.assert_close(after - before, expected, rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(after - before, one.encoder.filters)[0]
    assert (gradient[:D].abs().sum(dim=1) > 0).any()
    torch.testing.assert_close(gradient[D:], torch.zeros(K - D, D), rtol=0, atol=1e-4)


def test_many_dead_latents_take_turns() -> None:
    _, revival = dying(1.0)
    revival.idle[: K // 2] = 5 * N
    turns = [revival.which(step(32 * index)).tolist() for index in range(1, 6)]
    assert all(len(turn) == D for turn in turns)
    assert {latent for turn in turns for latent in turn} == set(range(K // 2))
    again = dying(1.0)[1]
    again.dead.copy_(revival.dead)
    assert again.which(step(32 * 5 + 7)).tolist() == turns[-1]


def test_few_dead_latents_weigh_less() -> None:
    one, revival = dying(1.0)
    batch = numbers(N, D, seed=7)
    base = one.loss(batch, step(32))
    revival.idle[0] = 5 * N
    added = one.loss(batch, step(64)) - base
    rows, answers = plain(one, batch)
    kept = answers.relu() * (answers >= answers.topk(3, dim=1).values[:, -1:])
    error = rows - kept @ one.atoms() - answers[:, :1] @ one.atoms()[:1]
    torch.testing.assert_close(added, error.square().mean() / (D // 2), rtol=1e-4, atol=1e-5)


def test_a_latent_that_fires_is_not_dead() -> None:
    one, revival = dying(0.5)
    for index in range(40):
        one.loss(numbers(N, D, seed=index), step(index))
    assert revival.dead[: K // 2].all()
    assert (revival.idle[K // 2 :] < 40 * N).any()
    assert revival.idle[0] == 40 * N


@pytest.mark.parametrize("name", SPARSE)
def test_a_training_option_out_of_range_is_refused(name: str) -> None:
    for option, value in {"steps": 0, "batch_size": 0, "learning_rate": -1.0}.items():
        with pytest.raises(LimenError, match=f"dictionary '{name}', option '{option}': given {value}, allowed is "):
            DICTIONARIES.load(name)(numbers(30, 5), 6, draws=Draws(0), **{option: value})


@pytest.mark.parametrize("name", ["topk", "batch_topk", "matching_pursuit", "matryoshka"])
@pytest.mark.parametrize("active", [0, 7, 0.01, 2.5])
def test_a_number_of_active_latents_out_of_range_is_refused(name: str, active: float) -> None:
    with pytest.raises(LimenError, match=f"option 'active': given {active}, allowed is a count from 1 to k = 6"):
        DICTIONARIES.load(name)(numbers(30, 5), 6, draws=Draws(0), active=active)


def test_active_latents_are_a_count_a_share_or_a_tenth() -> None:
    assert [count_active(given, 500, "topk") for given in (7, 0.1, None)] == [7, 50, 32]
    assert count_active(None, 5, "topk") == 1


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("sae", {"penalty": -1.0}, "option 'penalty': given -1.0, allowed is 0 or more"),
        ("jumprelu", {"bandwidth": 0.0}, "bandwidth = 0.0.*above 0"),
        ("matryoshka", {"levels": 0}, "option 'levels': given 0, allowed is 1 or more"),
    ],
)
def test_an_option_of_a_variant_out_of_range_is_refused(name: str, options: Mapping[str, float], sentence: str) -> None:
    with pytest.raises(LimenError, match=sentence):
        DICTIONARIES.load(name)(numbers(30, 5), 6, draws=Draws(0), **options)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("standardise", ["scale", "features", "none"])
def test_every_standardisation_is_inside_the_dictionary(name: str, standardise: str) -> None:
    rows = numbers(300, 6) * torch.tensor([1.0, 2, 3, 4, 5, 0]) + 7
    dictionary = DICTIONARIES.load(name)(rows, 12, draws=Draws(0), steps=60, standardise=standardise)
    rebuilt = dictionary.decode(dictionary.encode(rows))
    left = (rows - rebuilt).square().sum() / (rows - rows.mean(dim=0)).square().sum()
    assert float(left) < 1
    torch.testing.assert_close(dictionary.atoms.norm(dim=1), torch.ones(12))


def test_rows_that_are_all_the_same_are_their_mean() -> None:
    rows = torch.full((20, 4), 3.0)
    dictionary = DICTIONARIES.load("topk")(rows, 6, draws=Draws(0), steps=20)
    torch.testing.assert_close(dictionary.decode(dictionary.encode(rows)), rows, rtol=0, atol=0.2)


def test_free_atoms_keep_unit_length() -> None:
    atoms = Free(unit(numbers(K, D)))
    atoms.directions.data.mul_(3)
    atoms.directions.requires_grad_(False)
    atoms.project()
    torch.testing.assert_close(atoms().norm(dim=1), torch.ones(K))
    assert torch.allclose(functional.cosine_similarity(atoms(), numbers(K, D)), torch.ones(K))


@pytest.mark.parametrize("name", SPARSE)
def test_every_preset_names_options_that_the_method_has(name: str) -> None:
    function = DICTIONARIES.load(name)
    for preset, options in function.card.presets.items():  # type: ignore[attr-defined]
        resolved = resolve_options(function, {"preset": preset, "steps": 3}, name)
        assert {option: resolved[option] for option in options} == dict(options)


class Waits(TorchDispatchMode):
    """Collect the operations for which a host would have to wait for its device."""

    names = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if any(name in func.name() for name in self.names):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("index", [64, 65])
@pytest.mark.parametrize("name", CASES)
def test_a_step_waits_for_the_device_only_when_it_looks_for_the_dead(name: str, index: int) -> None:
    one, batch = CASES[name][0](), numbers(N, D, seed=7)
    one.revival = None if name == "matching_pursuit" else Revival(numbers(K, D), patience=5 * N, weight=1.0)
    one.loss(batch, step(63)).backward()
    with Waits() as waits:
        one.loss(batch, step(index)).backward()
    assert waits.seen == (["aten::nonzero"] if index == 64 and one.revival else [])

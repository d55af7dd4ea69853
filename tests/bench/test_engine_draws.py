"""Seeded random numbers: the same for everyone, whoever asks first."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from bench.engine import Draws, Engine
from bench.registry import LimenError

CALLS = {
    "uniform": lambda draws: draws.uniform(3, 4),
    "normal": lambda draws: draws.normal(3, 4),
    "bernoulli": lambda draws: draws.bernoulli(0.3, 3, 4),
    "integers": lambda draws: draws.integers(1000, 3, 4),
    "permutation": lambda draws: draws.permutation(20),
    "subsets": lambda draws: draws.subsets(5, 12, 4),
    "sobol": lambda draws: draws.sobol(8, 5),
    "numpy": lambda draws: torch.from_numpy(draws.numpy().random(6)),
}


@pytest.mark.parametrize("call", CALLS)
def test_equal_seeds_give_equal_numbers_and_other_keys_others(call: str) -> None:
    draw = CALLS[call]
    assert torch.equal(draw(Draws(7, "a", 1)), draw(Draws(7, "a", 1)))
    for other in (Draws(8, "a", 1), Draws(7, "b", 1), Draws(7, "a"), Draws(7, "a", "1"), Draws(7, "a", 1, None)):
        assert not torch.equal(draw(Draws(7, "a", 1)), draw(other))


@pytest.mark.parametrize("call", CALLS)
def test_a_stream_moves_on(call: str) -> None:
    draws = Draws(0)
    assert not torch.equal(CALLS[call](draws), CALLS[call](draws))


@pytest.mark.parametrize("call", CALLS)
def test_a_spawned_stream_does_not_depend_on_what_was_drawn_before(call: str) -> None:
    used = Draws(0, "a")
    used.uniform(100)
    assert torch.equal(CALLS[call](used.spawn("b")), CALLS[call](Draws(0, "a", "b")))


@pytest.mark.parametrize("call", CALLS)
def test_the_global_random_state_neither_matters_nor_changes(call: str) -> None:
    expected = CALLS[call](Draws(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        before = torch.random.get_rng_state()
        assert torch.equal(CALLS[call](Draws(0)), expected)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_the_numbers_are_those_of_every_machine() -> None:
    found = Draws(0, "pinned").uniform(3)
    torch.testing.assert_close(
        found, torch.tensor([0.08708751201629639, 0.623262882232666, 0.013402819633483887]), rtol=0, atol=0
    )


def test_images_have_streams_of_their_own_whatever_their_order_and_batch_mates(images: Tensor) -> None:
    draws = Draws(0, "mates")
    together = [own.uniform(5) for own in draws.for_images(images)]
    assert all(
        torch.equal(own.uniform(5), together[index])
        for own, index in zip(draws.for_images(images[[2, 0]]), (2, 0), strict=True)
    )
    assert len({tuple(values.tolist()) for values in together}) == len(images)
    assert torch.equal(draws.for_images(images[:1] + 0)[0].uniform(5), together[0])
    assert not torch.equal(draws.for_images(images[:1] + 1)[0].uniform(5), together[0])


def test_the_engine_s_draws_are_plain_draws_on_its_device(engine: Engine) -> None:
    assert torch.equal(engine.draws(3, "x").normal(4), Draws(3, "x").normal(4))


def test_each_subset_of_a_size_is_equally_likely() -> None:
    chosen = Draws(0, "subsets").subsets(20_000, 5, 2)
    assert chosen.dtype == torch.bool
    assert bool((chosen.sum(1) == 2).all())
    codes = (chosen.long() * 2 ** torch.arange(5)).sum(1).tolist()
    counts = [codes.count(2**first + 2**second) for first, second in combinations(range(5), 2)]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("size", [0, 6])
def test_the_empty_and_the_whole_subset_exist(size: int) -> None:
    assert Draws(0).subsets(3, 6, size).sum().item() == 3 * size


def test_bernoulli_draws_ones_at_the_rate_asked_for() -> None:
    values = Draws(0).bernoulli(0.2, 40_000)
    assert values.dtype == torch.float32
    assert stats.binomtest(int(values.sum()), 40_000, 0.2).pvalue > 0.01
    assert Draws(0).bernoulli(0, 50).sum() == 0
    assert Draws(0).bernoulli(1, 50).sum() == 50


def test_integers_cover_their_range_evenly() -> None:
    values = Draws(0).integers(6, 30_000)
    assert stats.chisquare(torch.bincount(values, minlength=6).numpy()).pvalue > 0.01


def test_a_permutation_holds_every_number_once() -> None:
    assert Draws(0).permutation(50).sort().values.tolist() == list(range(50))


def test_sobol_points_fill_every_dyadic_cell_once() -> None:
    points = Draws(0).sobol(64, 6)
    assert points.dtype == torch.float32
    assert float(points.min()) >= 0
    assert float(points.max()) < 1
    for column in points.T:
        assert torch.bincount((column * 64).long(), minlength=64).tolist() == [1] * 64


def test_sobol_points_integrate_better_than_random_ones() -> None:
    errors = {
        kind: np.mean([abs(float(draw(Draws(seed)).prod(1).mean()) - 2**-4) for seed in range(20)])
        for kind, draw in {"sobol": lambda d: d.sobol(256, 4), "random": lambda d: d.uniform(256, 4)}.items()
    }
    assert errors["sobol"] < errors["random"] / 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda draws: draws.bernoulli(1.5, 2), r"bernoulli: given p = 1\.5, allowed is 0 to 1"),
        (lambda draws: draws.integers(0, 2), "integers: given high = 0, allowed is 1 or more"),
        (lambda draws: draws.subsets(1, 4, 5), "subsets: given a size of 5 of 4 cells, allowed is 0 to 4"),
        (lambda draws: draws.sobol(4, 0), "sobol: given 0 dimensions, allowed is 1 to 21201"),
    ],
)
def test_an_impossible_draw_is_refused(call, message: str) -> None:
    with pytest.raises(LimenError, match=f"draws, {message}"):
        call(Draws(0))

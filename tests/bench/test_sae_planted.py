"""Planted sparse dictionaries: each autoencoder finds the atoms, uses as many as there are, and wakes its dead latents."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.dictionaries._sparse import Autoencoder, Free, folded, unit
from bench.dictionaries._sparse_dead import Revival
from bench.dictionaries.topk import TopK
from bench.engine import Draws
from bench.engine.activations import Activations
from bench.engine.sparse_fit import Schedule, fit_sparse
from bench.registry import DICTIONARIES
from bench.spaces.dictionary import Dictionary


def planted(n: int, k: int, d: int, active: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows that are sums of exactly `active` of `k` random unit atoms, with weights from .5 to 1.5."""
    source = torch.Generator().manual_seed(seed)
    atoms = unit(torch.randn(k, d, generator=source))
    chosen = torch.rand(n, k, generator=source).argsort(dim=1)[:, :active]
    weights = torch.rand(n, active, generator=source) + 0.5
    return torch.zeros(n, k).scatter_(1, chosen, weights) @ atoms, atoms


def r2(dictionary: Dictionary, rows: Tensor) -> float:
    left = rows - dictionary.decode(dictionary.encode_sparse(rows))
    return 1 - float(left.square().sum() / (rows - rows.mean(dim=0)).square().sum())


def recovery(atoms: Tensor, truth: Tensor) -> float:
    """Mean cosine with the planted atoms under the best one-to-one match."""
    cosines = (atoms @ truth.T).abs().numpy()
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].mean())


SMALL = {
    "sae": ({"penalty": 2.0}, 0.6, 0.72),
    "topk": ({"active": 3}, 0.82, 0.8),
    "batch_topk": ({"active": 3}, 0.82, 0.8),
    "jumprelu": ({"penalty": 2.0}, 0.75, 0.72),
    "matching_pursuit": ({"active": 3}, 0.88, 0.85),
    "matryoshka": ({"active": 3, "levels": 2}, 0.78, 0.76),
}
"""Options, and the least R2 on held-out rows and the least recovery after a short training."""


@pytest.mark.parametrize("name", SMALL)
def test_planted_atoms_are_found(name: str) -> None:
    options, least_r2, least_recovery = SMALL[name]
    rows, truth = planted(6000, 32, 24, 3)
    dictionary = DICTIONARIES.load(name)(rows[:5000], 32, draws=Draws(0), batch_size=256, steps=800, **options)
    chance = recovery(unit(torch.randn(32, 24, generator=torch.Generator().manual_seed(5))), truth)
    assert r2(dictionary, rows[5000:]) > least_r2
    assert recovery(dictionary.atoms, truth) > least_recovery > chance + 0.2


def test_the_threshold_of_batch_topk_keeps_as_many_latents_as_were_asked_for() -> None:
    rows, _ = planted(5000, 32, 24, 3)
    dictionary = DICTIONARIES.load("batch_topk")(rows, 32, draws=Draws(0), batch_size=256, steps=600, active=3)
    assert float(dictionary.encode_sparse(rows).active().float().mean()) == pytest.approx(3, rel=0.1)


def test_a_dearer_latent_of_jumprelu_is_used_less() -> None:
    rows, _ = planted(5000, 32, 24, 3)
    used = [
        float(
            DICTIONARIES.load("jumprelu")(rows, 32, draws=Draws(0), batch_size=256, steps=600, penalty=penalty)
            .encode_sparse(rows)
            .active()
            .float()
            .mean()
        )
        for penalty in (0.5, 2.0, 8.0)
    ]
    assert used == sorted(used, reverse=True)
    assert used[0] > 1.5 * used[2] > 0


def born_dead(revive: float) -> tuple[float, float]:
    """Train with half of the filters too short to be chosen; return the share of these that is used, and the last loss."""
    rows, _ = planted(4000, 32, 24, 3)
    start = unit(torch.randn(32, 24, generator=torch.Generator().manual_seed(1)))
    revival = Revival(start, 2000, revive) if revive else None
    model = Autoencoder(start, Free(start), TopK(3), rows.mean(dim=0), torch.ones(24) * rows.std(), revival)
    model.encoder.filters.data[:16] *= 0.01
    fitted = fit_sparse(model, Activations.of(rows), Schedule(1000, 256, 3e-3), draws=Draws(0), where="here")
    fired = folded("topk", model, {}).encode_sparse(rows).dense()[:, :16] > 0
    return float((fired.float().mean(dim=0) > 0.01).float().mean()), float(fitted.losses[-50:].mean())


def test_dead_latents_are_woken_and_lower_the_error() -> None:
    (asleep, worse), (awake, better) = born_dead(0.0), born_dead(1 / 32)
    assert asleep < 0.3
    assert awake > 0.9
    assert better < 0.6 * worse


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_topk_reaches_the_reference_on_128_atoms_in_64_dimensions(seed: int) -> None:
    rows, truth = planted(20_000, 128, 64, 5, seed)
    dictionary = DICTIONARIES.load("topk")(rows, 128, draws=Draws(seed), active=5)
    assert r2(dictionary, rows) > 0.82
    assert recovery(dictionary.atoms, truth) > 0.84

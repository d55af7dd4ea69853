"""Independent components on planted sources: the atoms are the mixing directions, and the mean is kept."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.dictionaries.ica import ica
from bench.engine import Draws
from bench.registry import LimenError


def mixed(n: int = 20_000, k: int = 6, d: int = 10) -> tuple[Tensor, Tensor]:
    """Laplace sources mixed by oblique directions (k, d), around a mean that is not zero."""
    draws = torch.Generator().manual_seed(0)
    wide = torch.rand(n, k, generator=draws, dtype=torch.float64) - 0.5
    sources = -wide.sign() * torch.log1p(-2 * wide.abs())
    directions = torch.randn(k, d, generator=draws, dtype=torch.float64) + 0.5
    return (sources @ directions + 7).float(), directions / directions.norm(dim=1, keepdim=True)


def r2(rows: Tensor, decoded: Tensor) -> float:
    return float(1 - (rows - decoded).square().sum() / (rows - rows.mean(dim=0)).square().sum())


@pytest.mark.parametrize("seed", range(2))
def test_planted_sources_are_found(seed: int) -> None:
    rows, directions = mixed()
    dictionary = ica(rows, 6, draws=Draws(seed))
    cosines = (dictionary.atoms.double() @ directions.T).abs().numpy()
    assert cosines[linear_sum_assignment(cosines, maximize=True)].min() >= 0.999
    assert r2(rows, dictionary.decode(dictionary.encode(rows))) == pytest.approx(1, abs=1e-6)
    assert dictionary.provenance["converged"]


def test_filters_read_what_atoms_write() -> None:
    dictionary = ica(mixed()[0], 6, draws=Draws(0))
    product = dictionary.parameters["filters"] @ dictionary.atoms.T
    torch.testing.assert_close(product, torch.eye(6), rtol=0, atol=1e-4)


def test_codes_are_uncorrelated_and_ordered() -> None:
    rows, _ = mixed()
    codes = ica(rows, 6, draws=Draws(0)).encode(rows).double()
    correlations = torch.corrcoef(codes.T)
    torch.testing.assert_close(correlations, torch.eye(6).double(), rtol=0, atol=1e-3)
    assert codes.std(dim=0).diff().max() <= 1e-6


def test_the_largest_entry_of_an_atom_is_positive() -> None:
    atoms = ica(mixed()[0], 6, draws=Draws(0)).atoms
    assert (atoms.gather(1, atoms.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_a_fit_that_was_cut_off_says_so() -> None:
    fitted = ica(mixed()[0], 6, draws=Draws(0), iterations=1)
    assert not fitted.provenance["converged"]
    assert fitted.provenance["iterations_taken"] == 1


def test_more_components_than_the_rank_are_refused() -> None:
    with pytest.raises(LimenError, match="given k = 7, allowed is 1 to 6, the rank of the activations"):
        ica(mixed(500)[0], 7, draws=Draws(0))


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(LimenError, match="allowed are 1 or more and above 0"):
        ica(mixed(500)[0], 3, draws=Draws(0), **options)

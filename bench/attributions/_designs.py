"""Points of the unit cube that perturbation methods share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..engine import Draws

Design = Literal["scrambled", "lhs", "random", "unscrambled"]


def points(draws: Draws, design: Design, count: int, dims: int) -> Tensor:
    """Draw `count` points float32 (count, dims) in [0, 1].

    Parameters
    ----------
    draws : Draws
    design : {'scrambled', 'lhs', 'random', 'unscrambled'}
        Scrambled Sobol sequence, Latin hypercube, independent points, or the Sobol sequence as it is: the same for
        every seed, with 0 as its first point.
    """
    if design == "lhs":
        strata = draws.uniform(count, dims).argsort(dim=0)
        return (strata + draws.uniform(count, dims)) / count
    if design == "random":
        return draws.uniform(count, dims)
    return draws.sobol(count, dims, scramble=design == "scrambled")

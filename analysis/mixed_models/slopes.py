"""The rule by which random slopes go: the one with the largest p of a likelihood-ratio test above .2, again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from scipy import stats

from .fit import SINGULAR

KEEP_BELOW = 0.2
"""Largest p of a slope's variance with which it stays."""


class Fitted(Protocol):
    """What the rule asks of a fit."""

    @property
    def converged(self) -> bool: ...

    @property
    def log_likelihood(self) -> float: ...

    @property
    def sigma(self) -> float: ...


F = TypeVar("F", bound=Fitted)
S = TypeVar("S")


def choose(
    slopes: Sequence[S], fit: Callable[[Sequence[S]], F], sd: Callable[[F, int], float]
) -> tuple[list[S], list[dict[str, Any]]]:
    """Start from every slope the design allows; drop the one with the largest p above .2, refit, repeat.

    A standard deviation below .01 (relative to the residual's where there is one) counts as p = 1. From a fit that did not converge the smallest slope goes without a test.

    Parameters
    ----------
    slopes : what may be dropped; its text names it
    fit : slopes kept -> the fit by maximum likelihood with the intercepts and these
    sd : fit and place among its slopes -> standard deviation

    Returns
    -------
    list, list of dict
        The slopes that stay, and each step: `dropped`, `sd`, `likelihood_ratio`, `p` (NaN where nothing was tested).

    References
    ----------
    Matuschek et al. 2017, doi:10.1016/j.jml.2017.01.001.
    """
    kept, steps = list(slopes), list[dict[str, Any]]()
    done: dict[tuple[str, ...], F] = {}

    def fitted(some: Sequence[S]) -> F:
        key = tuple(map(str, some))
        if key not in done:
            done[key] = fit(some)
        return done[key]

    while kept:
        now = fitted(kept)
        sizes = [size if math.isfinite(size) else 0.0 for size in (sd(now, place) for place in range(len(kept)))]
        if now.converged:
            tests = [_test(now, size, partial(fitted, _but(kept, place))) for place, size in enumerate(sizes)]
            place = max(range(len(kept)), key=[p for _, p in tests].__getitem__)
            ratio, p = tests[place]
            if p <= KEEP_BELOW:
                break
        else:
            place, ratio, p = sizes.index(min(sizes)), math.nan, math.nan
        steps.append({"dropped": str(kept[place]), "sd": sizes[place], "likelihood_ratio": ratio, "p": p})
        kept = _but(kept, place)
    return kept, steps


def _but(some: Sequence[S], place: int) -> list[S]:
    return [one for index, one in enumerate(some) if index != place]


def _test(now: Fitted, size: float, without: Callable[[], Fitted]) -> tuple[float, float]:
    """Return the likelihood ratio of one variance and its p, halved: the null hypothesis lies on the boundary."""
    if size < SINGULAR * (now.sigma if math.isfinite(now.sigma) else 1.0):
        return 0.0, 1.0
    smaller = without()
    ratio = max(0.0, 2 * (now.log_likelihood - smaller.log_likelihood)) if smaller.converged else math.inf
    return ratio, float(stats.chi2.sf(ratio, 1) / 2) if ratio > 0 else 1.0


def told(steps: Sequence[Mapping[str, Any]]) -> str:
    """Write the steps for running text: what was dropped, with SD, likelihood ratio and p."""
    parts = [
        f"{step['dropped']} (SD {step['sd']:.2f}, LR {step['likelihood_ratio']:.2f}, p {step['p']:.3f})"
        if math.isfinite(step["p"])
        else f"{step['dropped']} (the model with it did not converge)"
        for step in steps
    ]
    return f"; dropped: {', '.join(parts)}" if parts else "; none was dropped"

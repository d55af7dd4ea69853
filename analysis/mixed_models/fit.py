"""What a fitted mixed model is, whatever its family."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import linalg, stats

from bench.registry import LimenError

from .terms import Layout

SINGULAR = 0.01
"""Standard deviation (relative to sigma where there is one) below which a random effect counts as none."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A fitted model.

    Attributes
    ----------
    params, bse : Series (p,)
        Fixed effects (for a binomial family log-odds, conditional on all groupings) and their standard errors; NaN if not
        converged.
    covariance : DataFrame (p, p)
        Covariance of the fixed effects; of a binomial family with the uncertainty of the variances.
    covariances : list of DataFrame
        Covariance matrix of each random term, in the order given.
    theta : array (K,)
        Lower-triangle entries of the terms' factors, relative to sigma where there is one.
    sigma : float
        Residual standard deviation; NaN for a binomial family.
    log_likelihood : float
        Restricted if `reml`; Laplace, binomial coefficients left out, for a binomial family.
    converged : bool
        Small gradient and a positive definite Hessian; else nothing but the flags may be printed.
    flags : tuple of str
        'singular', 'not_converged', 'separation'.
    levels : mapping
        Number of levels of each grouping factor.
    effects, variances : list of array (levels, columns)
        Conditional modes of each term's random effects and their conditional variances at the fitted parameters; filled
        where inference was asked for.
    """

    family: str
    params: pd.Series
    bse: pd.Series
    covariance: pd.DataFrame
    covariances: list[pd.DataFrame]
    theta: np.ndarray
    log_likelihood: float
    converged: bool
    flags: tuple[str, ...]
    levels: dict[str, int]
    rows: int
    gradient: float
    sigma: float = float("nan")
    reml: bool = False
    effects: list[np.ndarray] = field(default_factory=list)
    variances: list[np.ndarray] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Number of estimated parameters: fixed effects, covariance parameters, and sigma where there is one."""
        return len(self.params) + len(self.theta) + int(np.isfinite(self.sigma))

    @property
    def aic(self) -> float:
        return -2 * self.log_likelihood + 2 * self.parameters

    @property
    def bic(self) -> float:
        return -2 * self.log_likelihood + self.parameters * float(np.log(self.rows))

    def sd(self, term: int) -> pd.Series:
        """Return the standard deviations of one random term."""
        table = self.covariances[term]
        return pd.Series(np.sqrt(np.diag(table)), index=table.index)

    def t_test(self, contrast: np.ndarray, df: float) -> tuple[float, float, float, float]:
        """Return estimate, standard error, t and two-sided p of a contrast with design-based degrees of freedom."""
        value = float(contrast @ self.params.to_numpy())
        error = float(np.sqrt(contrast @ self.covariance.to_numpy() @ contrast))
        return value, error, value / error, float(2 * stats.t.sf(abs(value / error), df))

    def wald_test(self, contrasts: np.ndarray, df: float) -> tuple[float, float]:
        """Return F and p of several contrasts (k, p) at once, on k and `df` degrees of freedom."""
        values = contrasts @ self.params.to_numpy()
        inner = contrasts @ self.covariance.to_numpy() @ contrasts.T
        f = float(values @ np.linalg.solve(inner, values) / len(contrasts))
        return f, float(stats.f.sf(f, len(contrasts), df))


def check_full_rank(x: np.ndarray, names: list[str]) -> None:
    """Refuse a design whose columns depend on each other.

    Raises
    ------
    LimenError
        Names the redundant columns.
    """
    if len(x) <= x.shape[1]:
        raise LimenError(
            f"mixed model: given {len(x)} rows for {x.shape[1]} fixed effects; allowed are more rows than effects."
        )
    _, r, order = linalg.qr(x, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    redundant = [names[column] for column in order[np.flatnonzero(size < 1e-10 * size.max())]]
    if redundant:
        raise LimenError(f"mixed model, design: the columns {', '.join(redundant)} are combinations of the others.")


def check_groups(layout: Layout) -> None:
    """Refuse a grouping of one level.

    Raises
    ------
    LimenError
        Names the grouping.
    """
    for group, levels in layout.levels.items():
        if levels < 2:
            raise LimenError(f"mixed model, grouping '{group}': it has one level; a random effect needs at least two.")


def positive(layout: Layout, theta: np.ndarray) -> np.ndarray:
    """Flip columns of the factors so that their diagonals are not negative; the deviance is even in each column."""
    signs = {(t, low): -1.0 if theta[i] < 0 else 1.0 for i, (t, k, low) in enumerate(layout.entries) if k == low}
    return np.array([value * signs[t, low] for value, (t, _, low) in zip(theta, layout.entries, strict=True)])


def vanished(layout: Layout, theta: np.ndarray) -> set[tuple[int, int]]:
    """Return the columns (term, column) of the factors whose diagonal is as good as zero."""
    return {(t, low) for i, (t, k, low) in enumerate(layout.entries) if k == low and abs(theta[i]) < SINGULAR}


def without(layout: Layout, theta: np.ndarray, zero: set[tuple[int, int]]) -> np.ndarray:
    """Return theta with the given columns exactly zero."""
    return np.array(
        [0.0 if (t, low) in zero else value for value, (t, _, low) in zip(theta, layout.entries, strict=True)]
    )


def tables(layout: Layout, theta: np.ndarray, variance: float = 1.0) -> list[pd.DataFrame]:
    """Return each term's covariance matrix with its names."""
    return [
        pd.DataFrame(variance * factor @ factor.T, index=list(term.names), columns=list(term.names))
        for term, factor in zip(layout.terms, layout.factors(theta), strict=True)
    ]

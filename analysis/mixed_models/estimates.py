"""What a fit estimates: fixed effects with their errors and degrees of freedom, standard deviations of random effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, unknown

from .fit import MixedFit
from .formula import RandomPart, again
from .gaussian import Gaussian
from .lmm import satterthwaite
from .specification import Specification
from .terms import Layout

Contrast = str | Mapping[str, float] | Sequence[float] | np.ndarray
Df = Literal["units", "satterthwaite", "normal"]


class Estimates:
    """Estimates of a fitted mixed model; `MixedResults` tests and predicts with them.

    Attributes
    ----------
    model : Specification
    fit : MixedFit
    params, bse : Series of the fixed effects
    llf, aic, bic : float
    converged : bool
    flags : tuple of str: 'singular', 'separation', 'not_converged', 'few_levels'
    nobs : int, observations used
    """

    def __init__(self, model: Specification, fit: MixedFit) -> None:
        self.model, self.fit = model, fit
        self.params, self.bse = fit.params, fit.bse
        self.llf, self.aic, self.bic = fit.log_likelihood, fit.aic, fit.bic
        self.converged = fit.converged
        few = ("few_levels",) if min(fit.levels.values()) < 30 else ()
        self.flags = (*fit.flags, *few)
        self.nobs = len(model.data)
        self._layout = Layout(model.prepared.terms)

    @property
    def tvalues(self) -> pd.Series:
        """Fixed effects over their standard errors."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p of each fixed effect, t with unit-based degrees of freedom."""
        return pd.Series(2 * stats.t.sf(self.tvalues.abs(), self.model.unit_df()), index=self.params.index)

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the fixed effects, (p, p)."""
        return self.fit.covariance

    def conf_int(self, alpha: float = 0.05, df: Df = "units") -> pd.DataFrame:
        """Return the 1 - alpha intervals of the fixed effects, columns 'low' and 'high'."""
        rows = np.eye(len(self.params))
        width = np.array([stats.t.ppf(1 - alpha / 2, self.df(row, df)) for row in rows]) * self.bse
        return pd.DataFrame({"low": self.params - width, "high": self.params + width})

    def df(self, contrast: Contrast, how: Df = "units") -> float:
        """Return the degrees of freedom of a contrast.

        Parameters
        ----------
        contrast : as for `t_test`
        how : 'units' (levels of the unit less what does not vary within it), 'satterthwaite' (of a linear model), 'normal'
        """
        if how == "normal":
            return float("inf")
        if how == "units":
            return self.model.unit_df()
        if how != "satterthwaite":
            raise unknown("mixed model, df", how, ("units", "satterthwaite", "normal"))
        if self.model.family != "gaussian":
            raise LimenError(
                f"mixed model, df: given 'satterthwaite' for the family '{self.model.family}', allowed is 'gaussian' only."
            )
        rows = self.model.prepared
        y = rows.y - (0.0 if rows.offset is None else rows.offset)
        core = Gaussian(rows.x.to_numpy(), y, self._layout, rows.weights, reml=self.model.reml)
        return satterthwaite(core, self.fit, self._contrast(contrast))

    def _require_convergence(self) -> None:
        if not self.converged:
            raise LimenError(
                f"mixed model '{self.model.parsed.text}': the fit did not converge ({', '.join(self.fit.flags)}); no estimate, "
                "test or interval is given, so try fewer random effects or look at the data."
            )

    def _contrast(self, given: Contrast) -> np.ndarray:
        names = list(self.params.index)
        if isinstance(given, str):
            given = {given: 1.0}
        if isinstance(given, Mapping):
            weights = np.zeros(len(names))
            for name, weight in given.items():
                if name not in names:
                    raise unknown("mixed model, contrast", name, names)
                weights[names.index(name)] = weight
            return weights
        weights = np.asarray(given, dtype=float)
        if weights.shape != (len(names),):
            raise LimenError(
                f"mixed model, contrast: given {weights.shape}, allowed is one weight for each of {len(names)}."
            )
        return weights

    @property
    def random_sds(self) -> pd.DataFrame:
        """Standard deviations of the random effects: one row an effect, columns 'group', 'effect', 'sd'."""
        rows = [
            {"group": term.group, "effect": name, "sd": value}
            for index, term in enumerate(self._layout.terms)
            for name, value in self.fit.sd(index).items()
        ]
        if self.model.family == "gaussian":
            rows.append({"group": "residual", "effect": "", "sd": self.fit.sigma})
        return pd.DataFrame(rows)

    def _random_values(self, rows: pd.DataFrame) -> list[tuple[RandomPart, np.ndarray]]:
        """Return, for each random term, the part of the formula it is of and its values (n, c) at each row."""
        found: list[tuple[RandomPart, np.ndarray]] = []
        for part, rule in zip(self.model.parsed.random, self.model.random_rules, strict=True):
            values = again(rule, rows, self.model.parsed.text).to_numpy()
            found += [
                (part, column) for column in ([values] if part.correlated else np.hsplit(values, values.shape[1]))
            ]
        return found

    def spread(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the standard deviation of the sum of all random effects in each row, (n,)."""
        total = np.zeros(len(rows))
        for (_, values), table in zip(self._random_values(rows), self.fit.covariances, strict=True):
            total += np.einsum("ia,ab,ib->i", values, table.to_numpy(), values)
        return np.sqrt(total)

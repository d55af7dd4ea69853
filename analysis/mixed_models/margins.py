"""Population means of a fitted mixed model, by g-computation, and their contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from bench.registry import LimenError, unknown

from ..measures.comparisons import equivalence
from .estimates import Estimates
from .formula import again

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
SHARES = WEIGHTS / WEIGHTS.sum()
Weighting = Literal["equal", "observed"]


def population_accuracy(linear: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a logistic curve over normal random effects by Gauss-Hermite quadrature with 31 nodes.

    Parameters
    ----------
    linear : array (n,)
        Log-odds without random effects.
    spread : array (n,)
        Standard deviation of the sum of all random effects.

    Returns
    -------
    array (n,), array (n,)
        Probabilities, and their derivatives in `linear`.
    """
    p = special.expit(linear[:, None] + spread[:, None] * NODES)
    return p @ SHARES, (p * (1 - p)) @ SHARES


class Margins:
    """Population means of the cells of some factors: those factors set, everything else as it occurs, random effects averaged.

    Parameters
    ----------
    results : Estimates, converged
    by : names of columns in the formula; their combinations that occur are the cells
    weighting : 'equal' counts each combination of the other columns once, 'observed' as often as it occurs

    Attributes
    ----------
    cells : DataFrame, one row a cell
    means : array (cells,)
    gradient : array (cells, p), of the means in the fixed effects
    """

    def __init__(self, results: Estimates, by: Sequence[str], weighting: Weighting = "equal") -> None:
        model = results.model
        used = [*model.predictors, *([] if model.offset is None else [model.offset])]
        for name in by:
            if name not in used:
                raise unknown(f"formula '{model.parsed.text}', margins", name, used)
        if weighting not in ("equal", "observed"):
            raise unknown("margins, weighting", weighting, ("equal", "observed"))
        self.results, self.by, self.weighting = results, list(by), weighting
        others = [name for name in used if name not in by]
        self.cells = model.data[self.by].drop_duplicates().sort_values(self.by).reset_index(drop=True)
        grid = model.data[others].value_counts(sort=False).reset_index(name="\x1fcount") if others else None
        found = [self._cell(cell, grid) for _, cell in self.cells.iterrows()]
        self.means = np.array([mean for mean, _ in found])
        self.gradient = np.array([slope for _, slope in found])

    def _cell(self, cell: pd.Series, grid: pd.DataFrame | None) -> tuple[float, np.ndarray]:
        model = self.results.model
        rows = pd.DataFrame([cell]) if grid is None else grid.assign(**{name: cell[name] for name in self.by})
        rows = rows.astype({name: model.data[name].dtype for name in rows.columns if name in model.data.columns})
        counts = (
            np.ones(len(rows)) if grid is None or self.weighting == "equal" else rows["\x1fcount"].to_numpy(dtype=float)
        )
        shares = counts / counts.sum()
        x = again(model.rule, rows, model.parsed.text).to_numpy()
        linear = x @ self.results.params.to_numpy()
        if model.offset is not None:
            linear = linear + rows[model.offset].to_numpy(dtype=float)
        if model.family == "gaussian":
            return float(shares @ linear), shares @ x
        means, slopes = population_accuracy(linear, self.results.spread(rows))
        return float(shares @ means), (shares * slopes) @ x

    def table(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the cells with their means, standard errors and 1 - alpha intervals."""
        covariance = self.results.cov_params().to_numpy()
        errors = np.sqrt(np.einsum("ip,pq,iq->i", self.gradient, covariance, self.gradient))
        width = float(stats.t.ppf(1 - alpha / 2, self.results.model.unit_df())) * errors
        return self.cells.assign(
            mean=self.means, standard_error=errors, low=self.means - width, high=self.means + width
        )

    def contrast(
        self, weights: Mapping[object, float] | Sequence[float], *, alpha: float = 0.05, margin: float | None = None
    ) -> dict[str, float]:
        """Test a contrast of the cells' means, on the scale of the response.

        Parameters
        ----------
        weights : one a cell in their order, or by the cell's value (a tuple for several factors)
        margin : half-width of the region of equivalence; adds the larger p of two one-sided tests

        Returns
        -------
        dict
            `estimate`, `standard_error`, `low`, `high`, `t`, `df`, `p`, and with a margin `equivalence_p`, `low_90`, `high_90`.
        """
        kappa = self._weights(weights)
        slope = kappa @ self.gradient
        estimate = float(kappa @ self.means)
        error = float(np.sqrt(slope @ self.results.cov_params().to_numpy() @ slope))
        df = self.results.model.unit_df()
        half = float(stats.t.ppf(1 - alpha / 2, df)) * error
        found = {
            "estimate": estimate, "standard_error": error, "low": estimate - half, "high": estimate + half,
            "t": estimate / error, "df": df, "p": float(2 * stats.t.sf(abs(estimate / error), df)),
        }  # fmt: skip
        if margin is not None:
            inside = equivalence(estimate, error, df, margin)
            found |= {"equivalence_p": inside.p, "low_90": inside.low_90, "high_90": inside.high_90}
        return found

    def _weights(self, given: Mapping[object, float] | Sequence[float]) -> np.ndarray:
        labels = [row[0] if len(self.by) == 1 else row for row in self.cells.itertuples(index=False, name=None)]
        if not isinstance(given, Mapping):
            weights = np.asarray(given, dtype=float)
            if weights.shape != (len(labels),):
                raise LimenError(
                    f"margins, contrast: given {weights.shape}, allowed is one weight for each of {len(labels)} cells."
                )
            return weights
        for label in given:
            if label not in labels:
                raise unknown("margins, contrast, cell", label, labels)
        return np.array([float(given.get(label, 0.0)) for label in labels])

"""What every analysis returns: estimates with their intervals and how each was made; text, table, figure and JSON are views."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

Role = Literal["primary", "companion", "as published", "secondary", "descriptive"]
NAN = float("nan")

FLAGS = {
    "one_participant": "only one participant: no interval",
    "no_spread": "every participant has the same value: no interval or test from its spread",
    "separation": "every answer is right, or every answer is wrong: a log-odds effect is infinite, so none is given",
    "not_converged": "the fit did not converge: no estimate, interval or p",
    "not_positive": "a mean of 0 accuracy: the ratio has no interval",
    "unbounded": "the baseline mean is too uncertain: this interval is unbounded",
    "repaired_covariance": "the two-way covariance was not positive semi-definite; negative eigenvalues were set to 0",
    "singular": "a random effect's variance was estimated as 0 (normal in small studies, not a failure)",
    "hessian_not_pd": "the curvature at the optimum is not positive definite",
    "few_levels": "fewer than 30 participants or items: the tests may be a little liberal",
    "disagrees_with_medians": "a ratio of response times lies more than one standard error from that of participants' medians",
    "disagrees_with_companion": "an accuracy difference lies more than one standard error from the clustered regression's",
    "few_clusters": "fewer than 30 clusters in one dimension: intervals may be too narrow",
    "incomplete_sessions": "participants without an answer in every session were left out",
    "too_few_methods": "fewer than 3 methods: no coefficient",
    "few_datasets": "fewer than 4 data sets cannot tell how far data sets differ: the spread between them is open",
    "no_variation": "one of the two sides does not vary: no coefficient",
    "undefined": "the data do not define this quantity",
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number with its interval, its test and its sample size.

    Attributes
    ----------
    quantity : str
        What is estimated ('accuracy', 'utility (ratio_of_means)', 'accuracy difference' ...).
    label : str
        For what: a condition, a contrast, a metric.
    statistic, df, p
        Name and value of the test statistic, its degrees of freedom, and p; NaN and () where nothing was tested.
    p_adjusted : float
        p after the named `adjustment`, NaN if none was made.
    flags : tuple of str
        Keys of `FLAGS`; each becomes a footnote of the report.
    """

    quantity: str
    label: str
    value: float
    low: float = NAN
    high: float = NAN
    level: float = 0.95
    interval: str = ""
    statistic: str = ""
    statistic_value: float = NAN
    df: tuple[float, ...] = ()
    p: float = NAN
    adjustment: str = ""
    p_adjusted: float = NAN
    n: int = 0
    unit: str = "participants"
    flags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one analysis.

    Attributes
    ----------
    method : str
        What was done, in sentences, written by the code that ran.
    facts : mapping
        Further plain values (effect sizes, settings, counts).
    points : DataFrame or None
        The raw points behind the estimates, one row a point.
    """

    name: str
    title: str
    role: Role
    method: str
    estimates: tuple[Estimate, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    points: pd.DataFrame | None = None

    def of(self, quantity: str) -> tuple[Estimate, ...]:
        """Return the estimates of one quantity, in order."""
        return tuple(estimate for estimate in self.estimates if estimate.quantity == quantity)

    def get(self, quantity: str, label: str) -> Estimate:
        """Return one estimate.

        Raises
        ------
        KeyError
            If there is none of that quantity and label.
        """
        for estimate in self.of(quantity):
            if estimate.label == label:
                return estimate
        raise KeyError((quantity, label))

    def all_flags(self) -> tuple[str, ...]:
        """Return the flags of the result and of its estimates, each once, in order."""
        return tuple(dict.fromkeys([*self.flags, *(flag for item in self.estimates for flag in item.flags)]))

    def table(self) -> pd.DataFrame:
        """Return the estimates as a tidy frame with identifier-safe column names, full precision."""
        rows = [_flat(estimate) for estimate in self.estimates]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[item.name for item in fields(Estimate)])

    def json(self) -> dict[str, Any]:
        """Return the result as plain values; NaN becomes None."""
        return {
            "name": self.name,
            "title": self.title,
            "role": self.role,
            "method": self.method,
            "estimates": [plain(_record(estimate)) for estimate in self.estimates],
            "facts": plain(self.facts),
            "flags": {flag: FLAGS[flag] for flag in self.all_flags()},
        }


def _record(estimate: Estimate) -> dict[str, Any]:
    return {item.name: getattr(estimate, item.name) for item in fields(estimate)}


def _flat(estimate: Estimate) -> dict[str, Any]:
    record = _record(estimate)
    extra = record.pop("extra")
    record["df"] = " ".join(f"{value:g}" for value in estimate.df)
    record["flags"] = " ".join(estimate.flags)
    return record | {key: value for key, value in extra.items() if not isinstance(value, (dict, list, tuple))}


def plain(value: Any) -> Any:
    """Turn numpy and pandas values into JSON values; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict(orient="records")]
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def holm(p: Iterable[float]) -> list[float]:
    """Adjust p values by Holm's step-down rule; NaN stays NaN and is no member of the family.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    given = np.asarray(list(p), dtype=float)
    adjusted = np.full(given.shape, np.nan)
    members = np.flatnonzero(~np.isnan(given))
    order = members[np.argsort(given[members], kind="stable")]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * given[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]

"""A fitted mixed model as text and as plain numbers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ..format import number, p_value
from .estimates import Estimates

_FLAGS = {
    "singular": "a standard deviation is estimated as zero, or two random effects are one; no error, but fewer effects fit as well",
    "separation": "an estimate runs away: some cell of the design has only one kind of answer",
    "not_converged": "no optimum was found; no estimate is given",
    "few_levels": "a grouping has fewer than 30 levels: tests of what varies between them are liberal",
}


def summary(results: Estimates) -> str:
    """Return the whole fit as text."""
    model = results.model
    family = "linear, " + ("REML" if model.reml else "ML") if model.family == "gaussian" else "binomial, logit, Laplace"
    levels = ", ".join(f"{name} {count}" for name, count in results.fit.levels.items())
    lines = [
        f"Mixed model ({family})",
        f"formula         {model.parsed.text}",
        f"observations    {results.nobs}" + (f" ({model.dropped} dropped, missing values)" if model.dropped else ""),
        f"levels          {levels}",
    ]
    if results.converged:
        lines += [f"log-likelihood  {results.llf:.4f}   AIC {results.aic:.2f}   BIC {results.bic:.2f}", ""]
        lines += [_random(results), "", _fixed(results), ""]
        lines.append(
            f"t on {model.unit_df():g} degrees of freedom: levels of the unit less what does not vary within it."
        )
        if model.family == "binomial":
            lines.append("Log-odds are conditional on every grouping; margins() gives population means.")
    lines += [f"! {flag}: {_FLAGS[flag]}" for flag in results.flags]
    return "\n".join(lines)


def _fixed(results: Estimates) -> str:
    limits = results.conf_int()
    rows = [
        (str(name), number(results.params[name], 4), number(results.bse[name], 4), number(results.tvalues[name], 2),
         p_value(results.pvalues[name]), f"[{number(limits.low[name], 4)}, {number(limits.high[name], 4)}]")
        for name in results.params.index
    ]  # fmt: skip
    return _aligned([("fixed effect", "estimate", "SE", "t", "p", "95 % interval"), *rows])


def _random(results: Estimates) -> str:
    sds = results.random_sds
    rows = [
        (str(group), str(effect), number(float(sd), 4))
        for group, effect, sd in zip(sds["group"], sds["effect"], sds["sd"], strict=True)
    ]
    text = _aligned([("random effect", "", "SD"), *rows])
    for index, table in enumerate(results.fit.covariances):
        if len(table) > 1:
            text += "\n" + _correlations(results, index, table)
    return text


def _correlations(results: Estimates, index: int, table: pd.DataFrame) -> str:
    sds = results.fit.sd(index)
    told = []
    for a, first in enumerate(table.index):
        for second in table.columns[a + 1 :]:
            product = sds[first] * sds[second]
            shared = float(table.to_numpy()[a, list(table.columns).index(second)])
            told.append(f"{first}, {second}: {number(shared / product if product else math.nan)}")
    return "correlation     " + "; ".join(told)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_dict(results: Estimates) -> dict[str, Any]:
    """Return the whole fit as numbers and texts that JSON can hold; what does not exist is None."""
    model = results.model
    limits = results.conf_int() if results.converged else None
    fixed = [
        {
            "name": str(name),
            "estimate": _plain(results.params[name]),
            "standard_error": _plain(results.bse[name]),
            "t": _plain(results.tvalues[name]),
            "p": _plain(results.pvalues[name]),
            "low": None if limits is None else _plain(limits.low[name]),
            "high": None if limits is None else _plain(limits.high[name]),
        }
        for name in results.params.index
    ]
    return {
        "formula": model.parsed.text,
        "family": model.family,
        "reml": model.reml,
        "observations": results.nobs,
        "dropped": model.dropped,
        "levels": dict(results.fit.levels),
        "converged": results.converged,
        "flags": list(results.flags),
        "log_likelihood": _plain(results.llf),
        "aic": _plain(results.aic),
        "bic": _plain(results.bic),
        "df": model.unit_df(),
        "fixed": fixed,
        "random": [
            {"group": str(row.group), "effect": str(row.effect), "sd": _plain(row.sd)} for row in results.random_sds.itertuples()
        ] if results.converged else [],
        "covariance": results.cov_params().to_numpy().tolist() if results.converged else None,
    }  # fmt: skip


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None

"""Mixed analysis of variance, one factor between and one within participants, with every effect size by its denominator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError


@dataclass(frozen=True, kw_only=True)
class MixedAnova:
    """The table of a mixed analysis of variance, Type III.

    Attributes
    ----------
    table : DataFrame
        Rows 'between', 'within', 'interaction': `SS`, `df1`, `df2`, `F`, `p`, `p_gg` and `p_hf` (corrected for sphericity;
        NaN between), `eta2` (of the total), `partial_eta2` (of effect and its own error), `generalised_eta2` (of effect and
        all participant and error variance), `omega2` (partial, as for one factor).
    greenhouse_geisser, huynh_feldt : float, at most 1
    participants : int
    left_out : participants without an answer in some within cell
    """

    table: pd.DataFrame
    greenhouse_geisser: float
    huynh_feldt: float
    participants: int
    left_out: int


def mixed_anova(data: pd.DataFrame, *, value: str, participant: str, between: str, within: str) -> MixedAnova:
    """Analyse cell means of participants; unequal groups are allowed, incomplete participants are left out and counted.

    Parameters
    ----------
    data : DataFrame, one row an observation; several of one participant and within level are averaged
    value, participant, between, within : names of columns

    Raises
    ------
    LimenError
        If a column lacks, a participant is in two groups, or a factor has one level or a group fewer than two participants.

    References
    ----------
    Olejnik and Algina 2003, doi:10.1037/1082-989X.8.4.434; Greenhouse and Geisser 1959; Huynh and Feldt 1976.
    """
    table, groups, left_out = _cells(data, value, participant, between, within)
    y = table.to_numpy()
    n, b = y.shape
    codes, names = pd.factorize(groups, sort=True)
    a = len(names)
    coded = np.eye(a)[codes][:, :-1] - np.eye(a)[codes][:, [-1]]
    x = np.column_stack([np.ones(n), coded])
    means = np.sqrt(b) * y.mean(axis=1)
    error_between, ss_between = _drop(x, means[:, None], slice(1, None))
    z = y @ _helmert(b).T
    error_within, ss_interaction = _drop(x, z, slice(1, None))
    _, ss_within = _drop(x, z, slice(0, 1))
    residual = z - x @ np.linalg.lstsq(x, z, rcond=None)[0]
    gg, hf = _sphericity(residual, n, a, b)
    df_between, df_within = n - a, (b - 1) * (n - a)
    rows = {
        "between": (ss_between, a - 1, error_between, df_between),
        "within": (ss_within, b - 1, error_within, df_within),
        "interaction": (ss_interaction, (a - 1) * (b - 1), error_within, df_within),
    }
    total = sum(row[0] for row in rows.values()) + error_between + error_within
    found = {
        name: _effect(*row, total, error_between + error_within, n, None if name == "between" else (gg, hf))
        for name, row in rows.items()
    }
    return MixedAnova(
        table=pd.DataFrame(found).T, greenhouse_geisser=gg, huynh_feldt=hf, participants=n, left_out=left_out
    )


def _cells(
    data: pd.DataFrame, value: str, participant: str, between: str, within: str
) -> tuple[pd.DataFrame, pd.Series, int]:
    for name in (value, participant, between, within):
        if name not in data.columns:
            raise LimenError(f"mixed anova: column '{name}' missing; given {', '.join(map(str, data.columns))}.")
    groups = data.groupby(participant, observed=True)[between]
    moved = groups.nunique()
    if (moved > 1).any():
        raise LimenError(
            f"mixed anova, between '{between}': participant '{moved.idxmax()}' is in {moved.max()} groups; allowed is one."
        )
    table = data.pivot_table(index=participant, columns=within, values=value, aggfunc="mean", observed=True)
    whole = table.dropna()
    group = groups.first().loc[whole.index]
    counts = group.value_counts()
    if whole.shape[1] < 2 or len(counts) < 2 or counts.min() < 2:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
        raise LimenError(
            f"mixed anova: given {whole.shape[1]} levels of '{within}' and complete participants ({told}); allowed are two or "
            f"more levels, and two or more groups of '{between}' with two or more participants each."
        )
    return whole, group, len(table) - len(whole)


def _drop(x: np.ndarray, y: np.ndarray, columns: slice) -> tuple[float, float]:
    """Return the residual sum of squares of y on x, over all columns of y, and what dropping some columns of x adds."""

    def rest(design: np.ndarray) -> float:
        if not design.shape[1]:
            return float((y**2).sum())
        return float(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())

    whole = rest(x)
    return whole, rest(np.delete(x, columns, axis=1)) - whole


def _helmert(b: int) -> np.ndarray:
    """Return b - 1 orthonormal contrasts, (b - 1, b)."""
    rows = [np.r_[np.full(i, 1.0), -float(i), np.zeros(b - i - 1)] for i in range(1, b)]
    return np.array([row / np.linalg.norm(row) for row in rows])


def _sphericity(residual: np.ndarray, n: int, a: int, b: int) -> tuple[float, float]:
    e = residual.T @ residual
    if not np.trace(e) > 1e-20:
        raise LimenError(
            "anova: participants do not differ in the within factor; allowed are cell means with an error variance."
        )
    gg = float(np.trace(e) ** 2 / ((b - 1) * np.trace(e @ e)))
    hf = ((n - a + 1) * (b - 1) * gg - 2) / ((b - 1) * (n - a - (b - 1) * gg))
    return min(gg, 1.0), float(min(hf, 1.0)) if hf > 0 else 1.0


def _effect(
    ss: float,
    df1: int,
    error: float,
    df2: int,
    total: float,
    chance: float,
    n: int,
    epsilons: tuple[float, float] | None,
) -> dict[str, float]:
    f = (ss / df1) / (error / df2)
    nan = float("nan")
    corrected = [float(stats.f.sf(f, e * df1, e * df2)) for e in epsilons] if epsilons else [nan, nan]
    return {
        "SS": ss, "df1": df1, "df2": df2, "F": f, "p": float(stats.f.sf(f, df1, df2)), "p_gg": corrected[0], "p_hf": corrected[1],
        "eta2": ss / total, "partial_eta2": ss / (ss + error), "generalised_eta2": ss / (ss + chance),
        "omega2": df1 * (f - 1) / (df1 * (f - 1) + n),
    }  # fmt: skip


def repeated_anova(data: pd.DataFrame, *, value: str, participant: str, within: str) -> MixedAnova:
    """Analyse cell means of participants over one within factor; incomplete participants are left out and counted.

    Parameters
    ----------
    data : DataFrame, one row an observation; several of one participant and level are averaged
    value, participant, within : names of columns

    Returns
    -------
    MixedAnova
        Its table has the row 'within' alone; the total of `eta2` is all variance about the grand mean.

    Raises
    ------
    LimenError
        If there are fewer than two levels or three complete participants.
    """
    table = data.pivot_table(index=participant, columns=within, values=value, aggfunc="mean", observed=True)
    y = table.dropna().to_numpy()
    n, b = y.shape
    if n < 3 or b < 2:
        raise LimenError(
            f"repeated anova: given {b} levels of '{within}' and {n} complete participants, allowed are two or more and three or more."
        )
    z = y @ _helmert(b).T
    x = np.ones((n, 1))
    error, ss = _drop(x, z, slice(0, 1))
    gg, hf = _sphericity(z - z.mean(axis=0), n, 1, b)
    subjects = float(b * ((y.mean(axis=1) - y.mean()) ** 2).sum())
    row = _effect(ss, b - 1, error, (b - 1) * (n - 1), ss + error + subjects, error + subjects, n, (gg, hf))
    return MixedAnova(
        table=pd.DataFrame({"within": row}).T,
        greenhouse_geisser=gg,
        huynh_feldt=hf,
        participants=n,
        left_out=len(table) - n,
    )

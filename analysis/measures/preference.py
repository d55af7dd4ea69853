"""Paired preferences: strengths of the alternatives by Bradley and Terry, with ties by Davidson."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bench.registry import LimenError

_COLUMNS = ("first", "second", "winner")


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Strengths on the log scale, relative to the first alternative of the table.

    Attributes
    ----------
    table : DataFrame, one row an alternative, strongest first: `strength`, `standard_error`, `low`, `high`, `wins`, `losses`,
        `ties`, `share` (probability to win against the average alternative)
    covariance : DataFrame of the strengths, the reference's row zero
    order_effect : log-odds by which what is shown first is favoured, with its standard error; NaN if not asked for
    tie : Davidson's tie parameter; 0 where there are no ties
    clusters : number of clusters behind the standard errors; the number of choices where none were given
    log_likelihood : float
    """

    table: pd.DataFrame
    covariance: pd.DataFrame
    order_effect: tuple[float, float]
    tie: float
    clusters: int
    log_likelihood: float


def bradley_terry(
    choices: pd.DataFrame, *, cluster: str | None = None, order_effect: bool = False, reference: str | None = None
) -> Strengths:
    """Estimate how strongly alternatives are preferred from choices between two.

    `P(i beats j) = s_i / (s_i + s_j + v sqrt(s_i s_j))`, the last term only where ties occur.

    Parameters
    ----------
    choices : DataFrame
        One row a choice: `first`, `second` (the alternatives as shown), `winner` (one of them, or missing for a tie).
    cluster : column whose values group dependent choices, as a rule the participant: standard errors are robust to it
    order_effect : estimate an advantage of what is shown first
    reference : the alternative of strength 0; the alphabetically first by default

    Raises
    ------
    LimenError
        If columns lack, a winner was not shown, or some alternatives never lose to the others, so that strengths are infinite:
        the message names them.

    References
    ----------
    Bradley and Terry 1952, doi:10.1093/biomet/39.3-4.324; Davidson 1970, doi:10.1080/01621459.1970.10481082.
    """
    _check(choices, cluster)
    names = sorted({*choices["first"], *choices["second"]}, key=str)
    if reference is not None and reference not in names:
        raise LimenError(f"bradley-terry, reference: given '{reference}', allowed are {', '.join(map(str, names))}.")
    _check_connected(choices, names)
    base = names.index(reference) if reference is not None else 0
    first, second = (choices[name].map({n: i for i, n in enumerate(names)}).to_numpy() for name in ("first", "second"))
    tied = choices["winner"].isna().to_numpy()
    won = np.where(tied, 0.5, choices["winner"].to_numpy() == choices["first"].to_numpy()).astype(float)
    free = [i for i in range(len(names)) if i != base]
    width = len(free) + int(order_effect) + int(tied.any())
    design = np.zeros((len(choices), len(free) + int(order_effect)))
    for column, index in enumerate(free):
        design[:, column] = (first == index).astype(float) - (second == index)
    if order_effect:
        design[:, -1] = 1.0

    def parts(values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-likelihood and each row's gradient in all parameters, (n, width)."""
        gap = design @ values[: design.shape[1]]
        middle = np.exp(values[-1]) if tied.any() else 0.0
        weights = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full(len(gap), middle)])
        total = weights.sum(axis=0)
        p = weights / total
        outcome = np.where(tied, 2, np.where(won == 1, 0, 1))
        rows = (np.where(tied, 0.0, np.where(won == 1, 0.5, -0.5)) - (p[0] - p[1]) / 2)[:, None] * design
        if tied.any():
            rows = np.column_stack([rows, tied - p[2]])
        return float(np.log(p[outcome, np.arange(len(gap))]).sum()), rows

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, rows = parts(values)
        return -value, -rows.sum(axis=0)

    found = optimize.minimize(loss, np.zeros(width), jac=True, method="BFGS", options={"gtol": 1e-8})
    values = found.x
    hessian = _difference(lambda v: loss(v)[1], values)
    covariance, clusters = _robust(hessian, parts(values)[1], choices[cluster] if cluster else None)
    return _strengths(
        names, free, base, values, covariance, clusters, choices, -float(found.fun), order_effect, bool(tied.any())
    )


def _check(choices: pd.DataFrame, cluster: str | None) -> None:
    for name in (*_COLUMNS, *([cluster] if cluster else [])):
        if name not in choices.columns:
            raise LimenError(
                f"bradley-terry: column '{name}' missing; given {', '.join(map(str, choices.columns))}, needed are "
                f"{', '.join(_COLUMNS)}."
            )
    shown = (
        (choices["winner"] == choices["first"]) | (choices["winner"] == choices["second"]) | choices["winner"].isna()
    )
    if not len(choices) or not shown.all() or (choices["first"] == choices["second"]).any():
        row = int(np.flatnonzero(~shown | (choices["first"] == choices["second"]))[0]) if len(choices) else 0
        raise LimenError(
            f"bradley-terry, row {row}: given a winner that was not shown, or the same alternative twice; allowed are two "
            "alternatives and one of them, or nothing for a tie."
        )


def _check_connected(choices: pd.DataFrame, names: list[object]) -> None:
    """Refuse a 'beats or ties with' graph that is not strongly connected: some strengths would be infinite."""
    place = {name: i for i, name in enumerate(names)}
    edges = []
    for one, other, winner in zip(choices["first"], choices["second"], choices["winner"], strict=True):
        tie = pd.isna(winner)
        if tie or winner == one:
            edges.append((place[one], place[other]))
        if tie or winner == other:
            edges.append((place[other], place[one]))
    rows, columns = zip(*edges, strict=True)
    graph = csr_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    count, labels = connected_components(graph, directed=True, connection="strong")
    if count == 1:
        return
    beaten = {labels[j] for i, j in edges if labels[i] != labels[j]}
    undefeated = [str(name) for name, label in zip(names, labels, strict=True) if label not in beaten]
    raise LimenError(
        f"bradley-terry: {', '.join(undefeated)} never lose to the other alternatives, so strengths are infinite; allowed are "
        "choices in which every group of alternatives loses to the rest at least once."
    )


def _difference(gradient, values: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    steps = np.eye(len(values)) * 1e-5
    found = np.array([(gradient(values + step) - gradient(values - step)) / 2e-5 for step in steps])
    return (found + found.T) / 2


def _robust(hessian: np.ndarray, rows: np.ndarray, groups: pd.Series | None) -> tuple[np.ndarray, int]:
    bread = np.linalg.inv(hessian)
    if groups is None:
        return bread, len(rows)
    codes, levels = pd.factorize(groups)
    sums = np.array([np.bincount(codes, column, len(levels)) for column in rows.T]).T
    if len(levels) < 2:
        raise LimenError(f"bradley-terry, cluster '{groups.name}': given one value, allowed are two or more.")
    return bread @ (sums.T @ sums) @ bread * len(levels) / (len(levels) - 1), len(levels)


def _strengths(
    names: list[object], free: list[int], base: int, values: np.ndarray, covariance: np.ndarray, clusters: int,
    choices: pd.DataFrame, likelihood: float, order_effect: bool, ties: bool,
) -> Strengths:  # fmt: skip
    k = len(names)
    strength = np.zeros(k)
    strength[free] = values[: len(free)]
    whole = np.zeros((k, k))
    whole[np.ix_(free, free)] = covariance[: len(free), : len(free)]
    error = np.sqrt(np.diag(whole))
    half = stats.norm.ppf(0.975) * error
    shown = pd.concat([choices["first"], choices["second"]]).value_counts()
    wins = choices["winner"].value_counts()
    drawn = choices[choices["winner"].isna()]
    even = pd.concat([drawn["first"], drawn["second"]]).value_counts()
    table = pd.DataFrame(
        {
            "strength": strength, "standard_error": error, "low": strength - half, "high": strength + half,
            "wins": [int(wins.get(name, 0)) for name in names], "ties": [int(even.get(name, 0)) for name in names],
            "share": 1 / (1 + np.exp(strength.mean() - strength)),
        },
        index=pd.Index(names, name="alternative"),
    )  # fmt: skip
    table["losses"] = [int(shown[name]) for name in names] - table["wins"] - table["ties"]
    place = len(free)
    order = (float(values[place]), float(np.sqrt(covariance[place, place]))) if order_effect else (float("nan"),) * 2
    return Strengths(
        table=table.sort_values("strength", ascending=False, kind="stable"),
        covariance=pd.DataFrame(whole, index=names, columns=names), order_effect=order,
        tie=float(np.exp(values[-1])) if ties else 0.0, clusters=clusters, log_likelihood=likelihood,
    )  # fmt: skip

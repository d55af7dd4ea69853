"""Learning: accuracy by session and condition, and how much it rises, by a mixed model with participants and items crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered, unknown

from ..mixed_models import MixedResults
from ..mixed_models.formula import again, parse
from ..mixed_models.margins import Margins
from ..people import conditions_of, mean_estimate, person_sessions, session_ends
from ..results import Estimate, Result
from ..separation import exact_estimate, exponentiate, separated_conditions
from ._crossed_estimates import adjusted, estimate_of, term_tests
from .crossed import fit_by_rule
from .mixed_model import session_contrasts

Shape = Literal["sessions", "log_trial"]
ORDER = ("position", "seq")
BLOCKS = 4
TITLE = "Learning"


@registered("analysis", version=1, citation="doi:10.1016/j.jml.2007.11.007")
def learning(
    trials: pd.DataFrame,
    *,
    baseline: str = "baseline",
    chance: float | None = None,
    blocks: int | None = None,
    shape: Shape = "sessions",
    level: float = 0.95,
) -> Result:
    """Follow accuracy over sessions and compare how much it rises with the baseline's rise.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `condition`, `correct` (0/1), `session`; `position` or `seq` where
        blocks or the number of the trial are asked for.
    baseline : str
        Whose rise the others' are compared with.
    chance : float, optional
        Accuracy of guessing: each mean is tested against it.
    blocks : int, optional
        Cut each person's answers into so many parts in place of sessions; 4 where there is one session only.
    shape : 'sessions' (linear and quadratic contrasts) or 'log_trial' (log-odds linear in the logarithm of the trial's number)
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'accuracy by session' (means of participants), 'accuracy gain' (of the population, last less first), 'accuracy gain
        difference' from the baseline, 'odds ratio of the trend' (first to last, conditional) and 'term' (F tests). A
        condition whose answers are all right or all wrong has no gain.

    Raises
    ------
    LimenError
        If a column is missing, or the number of blocks or the shape is not allowed.
    """
    if shape not in get_args(Shape):
        raise unknown("learning, shape", shape, get_args(Shape))
    data = _in_order(trials, blocks, shape)
    names = [name for name in conditions_of(data, baseline) if name in set(data["condition"])]
    means = _means(data, names, chance, level)
    part = "block" if _cuts(trials, blocks) else "session"
    separated = separated_conditions(data, names)
    aside = [exact_estimate(data, name, level) for name in separated]
    kept = data[~data["condition"].isin(separated)]
    refused = _refusal(kept, separated)
    if refused:
        return _result(
            means + aside, (refused,), f"{_said(part, level)} No trend could be fitted; the flags say why.", {}
        )
    curve = _coded(kept, shape)
    columns = [name for name in ("linear", "quadratic") if name in curve]
    rise = " + ".join(columns)
    fixed = f"condition * ({rise})" if curve["condition"].nunique() > 1 else rise
    used = curve.rename(columns={"participant_id": "participant", "item_id": "item"})
    parsed = parse(f"correct ~ {fixed} + (1|participant) + (1|item)")
    factors = [name for name in ("condition", *columns) if used[name].nunique() > 1]
    chosen = fit_by_rule(parsed, used[list(dict.fromkeys([*parsed.columns, *factors]))], factors, "binomial")
    results = chosen.results
    if not results.converged:
        return _result(means + aside, tuple(results.flags), f"{_said(part, level)} The model did not converge.", {})
    found = _gains(results, columns, [name for name in names if name not in separated], level)
    facts = {"formula": chosen.formula, "steps": list(chosen.steps), "df": results.model.unit_df(), "part": part,
             "shape": shape, "log_likelihood": results.llf, "aic": results.aic}  # fmt: skip
    method = _said(part, level) + _method(chosen.formula, results.model.unit_df(), shape, part)
    flags = tuple(dict.fromkeys([*results.flags, *(("separation",) if separated else ())]))
    return _result([*means, *found, *term_tests(results), *aside], flags, method, facts)


def _cuts(trials: pd.DataFrame, blocks: int | None) -> int:
    """Return how many blocks each person's answers are cut into, 0 for the study's own sessions."""
    if blocks is not None and blocks < 2:
        raise LimenError(f"learning, blocks: given {blocks}, allowed is 2 or more.")
    if blocks is not None:
        return blocks
    one = "session" not in trials.columns or trials["session"].nunique() < 2
    return BLOCKS if one and any(name in trials.columns for name in ORDER) else 0


def _in_order(trials: pd.DataFrame, blocks: int | None, shape: Shape) -> pd.DataFrame:
    """Return the answers with `session` (a block, where cut) and `trial_number` from 1 within each person."""
    cuts = _cuts(trials, blocks)
    order = next((name for name in ORDER if name in trials.columns), None)
    needed = ["participant_id", "item_id", "condition", "correct", *([] if cuts else ["session"])]
    needed += [ORDER[0]] if order is None and (cuts or shape == "log_trial") else []
    lacking = [name for name in needed if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"learning: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    data = trials[trials["correct"].notna()]
    if order is None:
        return data
    data = data.sort_values(["participant_id", order], kind="stable")
    groups = data.groupby("participant_id", sort=False)["correct"]
    number, whole = groups.cumcount() + 1, groups.transform("size")
    data = data.assign(trial_number=number)
    return data.assign(session=np.ceil(number * cuts / whole), k_seen=np.nan) if cuts else data


def _means(data: pd.DataFrame, names: Sequence[str], chance: float | None, level: float) -> list[Estimate]:
    table = person_sessions(data)
    seen = session_ends(data) if "k_seen" in data else {float(s): float(s) for s in table.columns}
    found = []
    for name in names:
        for session in table.columns:
            values = table.xs(name, level="condition")[session].dropna().to_numpy()
            item = mean_estimate(
                values, quantity="accuracy by session", label=f"{name}, session {session:g}", level=level
            )
            extra = {**item.extra, "condition": name, "session": float(session), "k_seen": seen[float(session)]}
            if chance is not None and item.interval:
                t = (item.value - chance) / item.extra["standard_error"]
                p = float(2 * stats.t.sf(abs(t), item.df[0]))
                item = replace(item, statistic="t", statistic_value=float(t), p=p)
                extra["null"] = chance
            found.append(replace(item, extra=extra))
    return found


def _refusal(data: pd.DataFrame, separated: Sequence[str]) -> str:
    if not len(data):
        return "separation" if separated else "undefined"
    few = min(data["participant_id"].nunique(), data["item_id"].nunique(), data["session"].nunique()) < 2
    return "undefined" if few else ""


def _coded(data: pd.DataFrame, shape: Shape) -> pd.DataFrame:
    """Add `linear`, from first to last one unit, and for three or more sessions `quadratic`."""
    if shape == "log_trial":
        log = np.log(data["trial_number"].to_numpy(dtype=float))
        return data.assign(linear=log / log.max() - 0.5)
    code = np.searchsorted(np.sort(data["session"].unique()), data["session"])
    contrasts = session_contrasts(data["session"].nunique())
    return data.assign(
        **{name: column[code] for name, column in zip(("linear", "quadratic"), contrasts.T, strict=False)}
    )


def _gains(results: MixedResults, columns: Sequence[str], names: Sequence[str], level: float) -> list[Estimate]:
    by = [*(["condition"] if "condition" in results.model.predictors else []), *columns]
    margins = Margins(results, by)
    cells = margins.cells
    ends: list[tuple[str, np.ndarray]] = []
    for name in names:
        mine = cells["condition"] == name if "condition" in by else pd.Series(True, index=cells.index)
        own = cells.loc[mine, "linear"]
        weights = np.zeros(len(cells))
        places = own.index.to_numpy(dtype=int)
        weights[places[own.to_numpy().argmax()]], weights[places[own.to_numpy().argmin()]] = 1, -1
        ends.append((name, weights))
    said = lambda label, quantity, weights: estimate_of(  # noqa: E731
        margins.contrast(list(weights), alpha=1 - level), quantity, label, results, level
    )
    gains = [said(name, "accuracy gain", weights) for name, weights in ends]
    gaps = [said(f"{name} - {ends[0][0]}", "accuracy gain difference", w - ends[0][1]) for name, w in ends[1:]]
    trends = [_trend(results, cells, by, name, columns, level) for name in names]
    return [*adjusted(gains), *adjusted(gaps), *adjusted(trends)]


def _trend(
    results: MixedResults, cells: pd.DataFrame, by: Sequence[str], name: str, columns: Sequence[str], level: float
) -> Estimate:
    """Estimate the odds ratio from first to last along the linear contrast, all else as at its middle."""
    values = {"linear": [-0.5, 0.5], **{column: [0.0, 0.0] for column in columns[1:]}}
    rows = pd.DataFrame({**values, **({"condition": [name, name]} if "condition" in by else {})})
    rows = rows.astype({column: cells[column].dtype for column in by})
    x = again(results.model.rule, rows, results.model.parsed.text).to_numpy()
    test = results.t_test(x[1] - x[0])
    half = float(stats.t.ppf((1 + level) / 2, test.df[-1])) * test.standard_error
    found = {"estimate": test.estimate, "low": test.estimate - half, "high": test.estimate + half, "p": test.p}
    found |= {"t": test.statistic, "df": test.df[-1], "standard_error": test.standard_error}
    return exponentiate(estimate_of(found, "odds ratio of the trend", name, results, level))


def _result(estimates: Sequence[Estimate], flags: tuple[str, ...], method: str, facts: dict[str, object]) -> Result:
    return Result(name="learning", title=TITLE, role="secondary", method=method, estimates=tuple(estimates), flags=flags,
                  facts=facts)  # fmt: skip


def _said(part: str, level: float) -> str:
    each = "session" if part == "session" else "block (an equal part of each person's answers, in their order)"
    return (
        f"Accuracy by {each} and condition is averaged within each participant first, with {level:.0%} t intervals over "
        "participants. "
    )


def _method(formula: str, df: float, shape: Shape, part: str) -> str:
    rise = (
        f"centred linear and quadratic contrasts of the {part}s"
        if shape == "sessions"
        else "the logarithm of the number of the trial within a person"
    )
    return (
        f"The rise is from a logistic mixed model (Laplace approximation) with {rise}: {formula}; slopes by the rule of the "
        "primary analysis (dropped above p = .2). Gains are accuracies of the population at the last less the first, by "
        f"g-computation; tests are t tests on {df:g} degrees of freedom, adjusted by Holm's rule within each quantity. A gain "
        "near the ceiling is small on the scale of accuracy though odds rise: read both."
    )

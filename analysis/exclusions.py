"""Who is counted where: the sample flow from entry to analysis, and what the exclusions change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .load.study import Study
from .models.participant_means import participant_means
from .models.utility import utility
from .results import Result

TOTAL = "all"


def flow(study: Study) -> pd.DataFrame:
    """Count people at each step, over all and by condition.

    Returns
    -------
    DataFrame
        Columns `step`, `kind` ('kept' or 'left'), `all`, then one column a condition. A person who fails two checks is
        counted in the row of each, so only the rows of kind 'kept' need add up.
    """
    people = study.sessions[study.sessions["source"] == study.source]
    consented = people[people["consented"]]
    finished = consented[consented["finished"]]
    withdrew = ~consented["finished"] & (consented["state"] == "WITHDRAWN")
    answered = finished[finished["participant_id"].isin(study.answers(exclusions=False)["participant_id"])]
    steps: list[tuple[str, str, pd.DataFrame]] = [
        ("entered", "kept", people),
        ("no consent", "left", people[~people["consented"]]),
        ("consented", "kept", consented),
        ("withdrew", "left", consented[withdrew]),
        ("did not finish", "left", consented[~consented["finished"] & ~withdrew]),
        ("finished", "kept", finished),
    ]
    if len(answered) < len(finished):
        steps.append(("no test answer held", "left", finished.drop(answered.index)))
    excluded = answered[answered["excluded"]]
    for name, members in _by_check(excluded).items():
        steps.append((f"excluded: {name}", "left", members))
    steps.append(("analysed", "kept", answered[~answered["excluded"]]))
    rows = []
    for name, kind, members in steps:
        counts = members["condition"].value_counts()
        rows.append(
            {"step": name, "kind": kind, TOTAL: len(members)} | {c: int(counts.get(c, 0)) for c in study.groups}
        )
    return pd.DataFrame(rows)


def _by_check(excluded: pd.DataFrame) -> dict[str, pd.DataFrame]:
    reasons = excluded["exclusion_reason"].map(
        lambda text: [part.strip() for part in str(text).split(";") if part.strip()] or ["no reason given"]
    )
    names = sorted({name for given in reasons for name in given})
    return {name: excluded[[name in given for given in reasons]] for name in names}


def with_and_without(study: Study, formula: str) -> pd.DataFrame:
    """Give each condition's accuracy and Utility after the exclusions and without any.

    Returns
    -------
    DataFrame
        One row a condition: `n`, `accuracy`, `utility`, `low`, `high`, each also with the ending `_everyone`.
    """
    kept = _summary(study, formula, exclusions=True)
    everyone = _summary(study, formula, exclusions=False)
    return pd.DataFrame(
        [
            {"condition": name, **kept.get(name, {}), **{f"{k}_everyone": v for k, v in everyone.get(name, {}).items()}}
            for name in study.conditions
        ]
    )


def _summary(study: Study, formula: str, *, exclusions: bool) -> Mapping[str, dict[str, Any]]:
    trials = study.answers(exclusions=exclusions)
    means = participant_means(trials, baseline=str(study.baseline))
    ratios = utility(trials, baseline=str(study.baseline), bootstrap=0)
    rows: dict[str, dict[str, Any]] = {
        item.label: {"n": item.n, "accuracy": item.value} for item in means.of("accuracy")
    }
    for item in _log_delta(ratios, formula):
        rows[item.label] |= {"utility": item.value, "low": item.low, "high": item.high}
    return rows


def _log_delta(ratios: Result, formula: str) -> list[Any]:
    return [item for item in ratios.of(f"utility ({formula})") if item.interval == "log-delta"]

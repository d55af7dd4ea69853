"""Whether rows and people can be analysed: keys, duplicates, conditions, versions, kinds of observer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.registry import LimenError, unknown
from psychophysics_server.records import SOURCES

from .study import FIRST, Study
from .tables import booleans, require


def no_missing_keys(trials: pd.DataFrame, where: str, *, right: pd.Series, items: bool = True) -> None:
    """Refuse empty cells where an analysis would have to guess.

    Parameters
    ----------
    right : Series of bool
        Rows whose answer is right or wrong, so that `correct` may not be empty.
    items : bool
        Whether test rows need an item.
    """
    asked = trials["phase"] == "test"
    for name, rows in (
        ("participant_id", slice(None)),
        ("condition", slice(None)),
        ("item_id", asked & items),
        ("correct", asked & right),
    ):
        empty = trials.loc[rows, name].isna()
        if empty.any():
            first = int(empty[empty].index[0]) + 2
            kind = "test row" if name in ("item_id", "correct") else "row"
            raise LimenError(
                f"{where}: column '{name}' is empty in {int(empty.sum())} {kind}{'s' if empty.sum() > 1 else ''}, "
                f"first in row {first}; every {kind} needs one."
            )


def no_duplicates(trials: pd.DataFrame, where: str) -> None:
    """Refuse a table that holds an answer twice."""
    keys = [["row_id"], ["participant_id", "seq"], ["participant_id", "trial_id", "attempt"]]
    if "attempt" not in trials.columns:
        keys.append(["participant_id", "condition", "session", "phase", "trial_id"])
    known = [key for key in keys if set(key) <= set(trials.columns) and trials[key].notna().all().all()]
    for key in known or [list(trials.columns)]:
        twice = trials.duplicated(subset=key, keep="first")
        if twice.any():
            row = int(np.flatnonzero(twice)[0])
            what = "the same " + " and ".join(key) if known else "the same values"
            advice = "" if known else " (if an item was shown twice, map a column to trial_id or seq)"
            raise LimenError(
                f"{where}: row {row + 2} has {what} as an earlier row, {int(twice.sum())} duplicated in all; "
                f"each answer may occur once{advice}."
            )


def conditions_divide_people(trials: pd.DataFrame, where: str, *, within: bool | None) -> bool:
    """Return whether each person has one condition, and refuse a table where only some have.

    Parameters
    ----------
    within : bool, optional
        What the column map says; by default the table tells: more than half of the people met several conditions or none.
    """
    pairs = trials[["participant_id", "condition"]].drop_duplicates()
    counts = pairs["participant_id"].value_counts()
    several = counts.index[counts > 1]
    if within or (within is None and 2 * len(several) > len(counts)):
        return False
    if len(several):
        person = min(several, key=str)
        met = sorted(map(str, pairs.loc[pairs["participant_id"] == person, "condition"]))
        raise LimenError(
            f"{where}: participant '{person}' has rows of {len(met)} conditions ({', '.join(met)}), as have {len(several)} "
            f"of {len(counts)}; conditions either divide people or are met by all (column map: within: true)."
        )
    return True


def as_sessions_say(trials: pd.DataFrame, sessions: pd.DataFrame, where: str) -> None:
    """Refuse answers of people, or in conditions, that the table of sessions does not know."""
    allowed = default_order(sessions["condition"])
    for name in pd.unique(trials["condition"]):
        if name not in allowed:
            raise unknown(f"{where}, column 'condition'", name, allowed)
    strangers = trials.loc[~trials["participant_id"].isin(sessions["participant_id"]), "participant_id"]
    if len(strangers):
        raise LimenError(f"{where}: participant '{strangers.iloc[0]}' has answers but no row in the table of sessions.")
    conditions_divide_people(trials, where, within=False)
    met = trials.groupby("participant_id", sort=True)["condition"].first()
    told = sessions.set_index("participant_id")["condition"].reindex(met.index)
    other = met.index[told != met]
    if len(other):
        person = other[0]
        raise LimenError(
            f"{where}: participant '{person}' answered in '{met[person]}' but the table of sessions says '{told[person]}'."
        )


def one_version(trials: pd.DataFrame, where: str) -> None:
    """Refuse rows of several studies, versions or stimulus sets."""
    for name, what in (("study", "studies"), ("study_version", "versions"), ("stimuli", "stimulus sets")):
        given = sorted(trials[name].unique())
        if len(given) > 1:
            raise LimenError(
                f"{where}, column '{name}': rows of {len(given)} {what} ({', '.join(given)}), which are never pooled; "
                "export one."
            )


def read_sessions(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the table of sessions, its flags as such."""
    needed = ["participant_id", "condition", "source", "state", "consented", "finished", "excluded", "exclusion_reason"]
    require(table, needed, where)
    if table.empty:
        raise LimenError(f"{where}: the table of sessions has no row.")
    for name in ("participant_id", "source"):
        if table[name].isna().any():
            raise LimenError(
                f"{where}: column '{name}' is empty in row {int(np.flatnonzero(table[name].isna())[0]) + 2}."
            )
    twice = table["participant_id"].duplicated()
    if twice.any():
        raise LimenError(
            f"{where}: participant '{table.loc[twice, 'participant_id'].iloc[0]}' has two rows; one is allowed."
        )
    for name in ("consented", "finished", "excluded"):
        table[name] = booleans(table[name], f"{where}, column '{name}'")
    table["exclusion_reason"] = table["exclusion_reason"].fillna("").astype(str)
    table["condition"] = table["condition"].fillna("").astype(str)
    for name in table["source"].unique():
        if name not in SOURCES:
            raise unknown(f"{where}, column 'source'", name, SOURCES)
    return table


def people_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Make the table of sessions of a tidy table: everyone consented and finished."""
    people = trials.groupby("participant_id", sort=True).agg(
        condition=("condition", "first"),
        source=("source", "first"),
        excluded=("excluded", "any"),
        exclusion_reason=("exclusion_reason", "first"),
    )
    return people.reset_index().assign(consented=True, finished=True, state="COMPLETE")


def one_source(people: pd.DataFrame) -> tuple[str, list[str]]:
    """Choose the kind of observer to analyse, live people first, and say what was left out."""
    counts = people["source"].value_counts()
    source = next((name for name in (*SOURCES, *sorted(counts.index)) if name in counts), "unknown")
    others = [f"{int(counts[name])} {name}" for name in sorted(counts.index) if name != source]
    warnings = []
    if others:
        warnings.append(
            f"Sessions of other kinds were left out, since kinds of observer are never pooled: {', '.join(others)}; "
            f"analysed are the {int(counts[source])} of kind '{source}'."
        )
    if source in ("pilot", "preview"):
        warnings.append(f"These responses come from {source} sessions, not from the study itself.")
    return source, warnings


def default_order(conditions: pd.Series) -> tuple[str, ...]:
    """List conditions: baseline and control first, then by name."""
    names = sorted({str(name) for name in conditions.dropna()} - {""})
    first = [name for name in FIRST if name in names]
    return (*first, *(name for name in names if name not in first))


def ordered(study: Study, wanted: Sequence[str], where: str) -> Study:
    """Put the conditions of a study in the wanted order."""
    for name in study.conditions:
        if wanted and name not in wanted:
            raise unknown(f"{where}, condition", name, wanted)
    names = [name for name in wanted if name in study.conditions]
    return replace(study, conditions=tuple(names) or study.conditions)


def baseline_of(study: Study, chosen: str | None, where: str) -> str | None:
    """Return the condition others are compared with; None where the study has none."""
    if chosen is not None:
        if chosen not in study.conditions:
            raise unknown(f"{where}, baseline", chosen, study.conditions)
        return chosen
    if "baseline" in study.conditions and len(study.conditions) > 1:
        return "baseline"
    if study.card.get("analysis", "utility") != "utility" or study.within or len(study.conditions) < 2:
        return None
    raise LimenError(
        f"{where}: no condition is called 'baseline'; say with --baseline which of {', '.join(study.conditions)} it is."
    )


def chance_of(trials: pd.DataFrame) -> float | None:
    """Tell the accuracy of guessing from the number of different right answers, None where there are too many or few."""
    asked = trials.loc[(trials["phase"] == "test") & (trials["expected"] != ""), "expected"]
    options = asked.nunique()
    return 1 / options if 2 <= options <= 10 else None


def enough(study: Study, where: str) -> Study:
    """Return the study if at least two people are left to analyse."""
    if study.answers(exclusions=False).empty:
        raise LimenError(
            f"{where}: no finished participant has an answered test trial, so there is nothing to analyse."
        )
    included = study.answers()["participant_id"].nunique()
    if included == 0:
        raise LimenError(f"{where}: the study's checks exclude every participant, so there is nothing to analyse.")
    if included == 1:
        raise LimenError(f"{where}: only one participant is left to analyse; an interval over people needs at least 2.")
    return study

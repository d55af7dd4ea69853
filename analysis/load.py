"""Read the responses of a study, from an export folder or any tidy CSV; each fault is one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from bench.config import Frozen, load_config
from bench.records import Score, check_columns
from bench.registry import LimenError, unknown
from bench.store import sha256_file
from psychophysics_server.records import ADDED, EXPORT_SCHEMA, SOURCES, ResponseRow

KEYS = ("participant_id", "condition", "item_id", "correct")
"""Columns without which no analysis is possible."""
DEFAULTS: dict[str, Any] = {
    "session": 1,
    "phase": "test",
    "is_catch": False,
    "k_seen": np.nan,
    "model_correct": np.nan,
    "rt_ms": np.nan,
    "excluded": False,
    "exclusion_reason": "",
    "source": "unknown",
    "expected": "",
    "study": "",
    "study_version": "",
    "stimuli": "",
}
"""What a tidy table may leave out, and what then stands in its place."""
IDENTITY = ("row_id", "trial_id", "seq", "attempt")
"""Columns that tell one answer from another; used to find duplicates."""
FIRST = ("baseline", "control")
_MISSING = ["", "NA", "NaN", "nan"]


class ColumnMap(Frozen):
    """What `--columns` holds: our column name -> the table's, and what the table cannot say."""

    columns: dict[str, str]
    conditions: tuple[str, ...] = ()
    """Every condition that may occur, in the order of the report; any if empty."""
    baseline: str | None = None
    study: str = ""
    chance: float | None = Field(default=None, gt=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file that was read: provenance of the report."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """The validated responses of one version of one study.

    Attributes
    ----------
    trials : DataFrame
        Every row of the table with the columns of `KEYS` and `DEFAULTS`, and whatever else the table has (an export:
        all of `ResponseRow` and the design's factors under their own names); also rows of excluded people.
    sessions : DataFrame
        One row a participant: `participant_id, condition, source, state, consented, finished, excluded, exclusion_reason`.
    source : str
        The kind of observer that is analysed; kinds are never pooled.
    chance : float or None
        Accuracy of guessing among the answers, None if the table does not tell.
    """

    name: str
    version: str
    trials: pd.DataFrame
    sessions: pd.DataFrame
    conditions: tuple[str, ...]
    baseline: str
    source: str
    chance: float | None
    provenance: Mapping[str, Any]
    files: tuple[InputFile, ...]
    warnings: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the analysed answers come from simulated observers."""
        return self.source == "bot"

    def answers(self, *, exclusions: bool = True) -> pd.DataFrame:
        """Return the test trials to analyse: one source, finished people, no catch trials.

        Parameters
        ----------
        exclusions : bool
            False keeps the people whom the study's checks exclude.
        """
        people = self.sessions[(self.sessions["source"] == self.source) & self.sessions["finished"]]
        if exclusions:
            people = people[~people["excluded"]]
        trials = self.trials
        keep = trials["participant_id"].isin(people["participant_id"]) & (trials["phase"] == "test")
        return trials[keep & ~trials["is_catch"] & trials["correct"].notna()].reset_index(drop=True)


def load(path: str | Path, *, columns: str | Path | ColumnMap | None = None, baseline: str | None = None) -> Study:
    """Read an export folder or a tidy CSV and validate it.

    Parameters
    ----------
    path : path
        Folder written by `limen study export`, or one CSV or Parquet file with a row an answer.
    columns : path or ColumnMap, optional
        How a tidy file names its columns.
    baseline : str, optional
        The condition others are compared with; 'baseline' if there is one.

    Raises
    ------
    LimenError
        For the first fault found: where, what was given, what is allowed.
    """
    path = Path(path)
    if not path.exists():
        raise LimenError(f"{path}: no such file or folder; give an export folder or a tidy CSV.")
    mapping = columns if isinstance(columns, ColumnMap) or columns is None else load_config(columns, ColumnMap)
    study = _load_export(path) if path.is_dir() else _load_tidy(path, mapping)
    if mapping is not None:
        study = replace(study, chance=mapping.chance or study.chance, name=mapping.study or study.name)
        study = _order(study, mapping.conditions, path.name)
    chosen = baseline or (mapping.baseline if mapping else None)
    study = replace(study, baseline=_baseline(study.conditions, chosen, path.name))
    return _order(study, (study.baseline, *(name for name in study.conditions if name != study.baseline)), path.name)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a bench score table (`limen bench table --format csv`, or a run's `table.parquet`).

    Raises
    ------
    LimenError
        If it cannot be read, is empty, or lacks a column of `bench.records.Score`.
    """
    path = Path(path)
    table = _read_table(
        path,
        text={item.name for item in fields(Score) if "str" in str(item.type) or item.name in ("subject", "direction")},
    )
    check_columns(table, Score, str(path.name))
    if table.empty:
        raise LimenError(f"{path.name}: the score table has no row.")
    for name in ("value", "low", "high", "null", "gain", "gain_low", "gain_high", "ceiling"):
        table[name] = _numbers(table[name], f"{path.name}, column '{name}'")
    table["at_null"] = _booleans(table["at_null"], f"{path.name}, column 'at_null'")
    table["options"] = table["options"].fillna("")
    known = ("up", "down", "none")
    for given in table["direction"].unique():
        if given not in known:
            raise unknown(f"{path.name}, column 'direction'", given, known)
    table["label"] = table["method"].astype(str)
    return table


def _load_export(folder: Path) -> Study:
    data = sorted(folder.glob("data/study-*_data.csv"))
    extra = {part: [f for f in data if f"_description-{part}" in f.name] for part in ("sessions", "excluded")}
    main = [file for file in data if "_description-" not in file.name]
    if len(main) != 1 or len(extra["sessions"]) != 1:
        raise LimenError(
            f"{folder.name}: an export holds one data/study-<id>_data.csv and one "
            f"data/study-<id>_description-sessions_data.csv; found {', '.join(f.name for f in data) or 'no such file'}."
        )
    read: list[InputFile] = []
    provenance = _provenance(folder / "provenance.json", read)
    schema = _schema(provenance, folder.name)
    columns = [item.name for item in fields(ResponseRow) if schema > 1 or item.name not in ADDED]
    factors = _factors(provenance)
    tables, files = [], []
    for file in (*main, *extra["excluded"]):
        table = _read_table(file, text=_text_columns() | {name for name, kind in factors.items() if kind == "text"})
        _require(table, [*columns, *factors], file.name)
        tables.append(table.assign(**{name: value for name, value in ADDED.items() if name not in table}))
        files.append(InputFile(name=f"data/{file.name}", sha256=sha256_file(file), rows=len(table)))
    trials = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
    sessions_file = extra["sessions"][0]
    sessions = _sessions(_read_table(sessions_file, text=_text_columns()), sessions_file.name)
    files.append(InputFile(name=f"data/{sessions_file.name}", sha256=sha256_file(sessions_file), rows=len(sessions)))
    files += read
    study = _validated(trials, sessions, main[0].name, provenance, tuple(files))
    study = replace(study, warnings=(*study.warnings, *_changed(provenance, files)))
    return _order(study, tuple(str(name) for name in provenance.get("conditions", ())), folder.name)


def _schema(provenance: Mapping[str, Any], where: str) -> int:
    """Return the schema of an export; folders that name none are of the first."""
    given = provenance.get("schema", 1)
    if given not in range(1, EXPORT_SCHEMA + 1):
        raise LimenError(
            f"{where}, provenance.json, key 'schema': {given!r}; this version of limen reads 1 to {EXPORT_SCHEMA}."
        )
    return int(given)


def _factors(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the design's factors: column -> 'text', 'number' or 'bool'."""
    noted = provenance.get("factors")
    if not isinstance(noted, Mapping):
        return {}
    return {str(name): str(fact.get("type")) for name, fact in noted.items() if isinstance(fact, Mapping)}


def _load_tidy(file: Path, mapping: ColumnMap | None) -> Study:
    table = _read_table(file, text=None)
    given = [str(name) for name in table.columns]
    allowed = (*KEYS, *DEFAULTS, *IDENTITY)
    renames = dict(mapping.columns) if mapping else {}
    for ours, theirs in renames.items():
        if ours not in allowed:
            raise unknown("column map, key 'columns'", ours, allowed)
        if theirs not in given:
            raise unknown(f"{file.name}, column for '{ours}'", theirs, given)
    table = table.drop(columns=[ours for ours, theirs in renames.items() if ours in given and ours != theirs])
    table = table.rename(columns={theirs: ours for ours, theirs in renames.items()})
    _require(table, list(KEYS), file.name, hint=" (name them in a file given with --columns)")
    for name in _text_columns() & set(table.columns):
        table[name] = table[name].where(table[name].isna(), table[name].astype(str))
    files = (InputFile(name=file.name, sha256=sha256_file(file), rows=len(table)),)
    if mapping and mapping.conditions:
        for name in pd.unique(table["condition"].dropna()):
            if name not in mapping.conditions:
                raise unknown(f"{file.name}, column 'condition'", name, mapping.conditions)
    return _validated(table, None, file.name, {}, files)


def _validated(
    table: pd.DataFrame,
    sessions: pd.DataFrame | None,
    where: str,
    provenance: Mapping[str, Any],
    files: tuple[InputFile, ...],
) -> Study:
    if table.empty:
        raise LimenError(f"{where}: the table has no row.")
    trials = _typed(table, where)
    _no_missing_keys(trials, where)
    _no_duplicates(trials, where)
    _one_condition_each(trials, sessions, where)
    _one_version(trials, where)
    people = _people(trials) if sessions is None else sessions
    source, warnings = _one_source(people)
    study = Study(
        name=str(trials["study"].iloc[0] or Path(where).stem),
        version=str(trials["study_version"].iloc[0]),
        trials=trials,
        sessions=people,
        conditions=_default_order(people["condition"]),
        baseline="",
        source=source,
        chance=_chance(trials),
        provenance=provenance,
        files=files,
        warnings=tuple(warnings),
    )
    return _enough(study, where)


def _enough(study: Study, where: str) -> Study:
    everyone = study.answers(exclusions=False)
    if everyone.empty:
        raise LimenError(
            f"{where}: no finished participant has an answered test trial, so there is nothing to analyse."
        )
    included = study.answers()["participant_id"].nunique()
    if included == 0:
        raise LimenError(f"{where}: the study's checks exclude every participant, so there is nothing to analyse.")
    if included == 1:
        raise LimenError(
            f"{where}: only one participant is left to analyse; a group needs at least 2, a study 2 groups."
        )
    if study.answers()["condition"].nunique() < 2:
        only = study.answers()["condition"].iloc[0]
        raise LimenError(f"{where}: only the condition '{only}' has participants to analyse; a comparison needs two.")
    return study


def _read_table(file: Path, *, text: set[str] | None) -> pd.DataFrame:
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        types: Any = None if text is None else dict.fromkeys(text, "object")
        return pd.read_csv(file, dtype=types, keep_default_na=False, na_values=_MISSING, low_memory=False)
    except FileNotFoundError:
        raise LimenError(f"{file}: no such file.") from None
    except pd.errors.EmptyDataError:
        raise LimenError(f"{file.name}: the file is empty.") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise LimenError(f"{file.name}: cannot be read as a table ({reason}).") from None


def _text_columns() -> set[str]:
    typed = {item.name for item in fields(ResponseRow) if item.type == "str"}
    return typed | {"participant_id", "condition", "item_id", "state", "exclusion_reason", "study_version"}


def _require(table: pd.DataFrame, names: Sequence[str], where: str, hint: str = "") -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        there = ", ".join(str(name) for name in table.columns)
        raise LimenError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing{hint}; there are {there}."
        )


def _typed(table: pd.DataFrame, where: str) -> pd.DataFrame:
    trials = table.copy()
    for name, value in DEFAULTS.items():
        if name not in trials.columns:
            trials[name] = value
    for name in ("correct", "model_correct"):
        trials[name] = _zero_one(trials[name], f"{where}, column '{name}'")
    for name in ("session", "k_seen", "rt_ms"):
        trials[name] = _numbers(trials[name], f"{where}, column '{name}'")
    for name in ("is_catch", "excluded"):
        trials[name] = _booleans(trials[name], f"{where}, column '{name}'")
    for name in ("exclusion_reason", "source", "expected", "study", "study_version", "stimuli", "phase"):
        trials[name] = trials[name].fillna(DEFAULTS[name]).astype(str)
    return trials


def _numbers(values: pd.Series, where: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna() & values.notna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise LimenError(f"{where}: row {row + 2} holds '{values.iloc[row]}'; allowed are numbers or an empty cell.")
    return numbers.astype(float)


def _zero_one(values: pd.Series, where: str) -> pd.Series:
    words = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    mapped = values.map(lambda value: np.nan if pd.isna(value) else words.get(str(value).strip().lower(), -1.0))
    mapped = mapped.astype(float)
    wrong = np.flatnonzero(mapped == -1.0)
    if len(wrong):
        raise LimenError(f"{where}: row {wrong[0] + 2} holds '{values.iloc[wrong[0]]}'; allowed are 0 and 1.")
    return mapped


def _booleans(values: pd.Series, where: str) -> pd.Series:
    numbers = _zero_one(values, where)
    return numbers.fillna(0.0).astype(bool)


def _no_missing_keys(trials: pd.DataFrame, where: str) -> None:
    asked = trials["phase"] == "test"
    for name, rows in (
        ("participant_id", slice(None)),
        ("condition", slice(None)),
        ("item_id", asked),
        ("correct", asked),
    ):
        empty = trials.loc[rows, name].isna()
        if empty.any():
            first = int(empty[empty].index[0]) + 2
            kind = "test row" if name in ("item_id", "correct") else "row"
            raise LimenError(
                f"{where}: column '{name}' is empty in {int(empty.sum())} {kind}{'s' if empty.sum() > 1 else ''}, "
                f"first in row {first}; every {kind} needs one."
            )


def _no_duplicates(trials: pd.DataFrame, where: str) -> None:
    keys = [["row_id"], ["participant_id", "seq"], ["participant_id", "trial_id", "attempt"]]
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


def _one_condition_each(trials: pd.DataFrame, sessions: pd.DataFrame | None, where: str) -> None:
    if sessions is not None:
        allowed = _default_order(sessions["condition"])
        for name in pd.unique(trials["condition"]):
            if name not in allowed:
                raise unknown(f"{where}, column 'condition'", name, allowed)
        strangers = trials.loc[~trials["participant_id"].isin(sessions["participant_id"]), "participant_id"]
        if len(strangers):
            raise LimenError(
                f"{where}: participant '{strangers.iloc[0]}' has answers but no row in the table of sessions."
            )
    met = trials.groupby("participant_id", sort=True)["condition"].unique()
    several = met[met.map(len) > 1]
    if len(several):
        raise LimenError(
            f"{where}: participant '{several.index[0]}' has rows of {len(several.iloc[0])} conditions "
            f"({', '.join(map(str, several.iloc[0]))}), as have {len(several)} of {len(met)}; "
            "this analysis compares people, so each has one condition."
        )
    if sessions is not None:
        told = sessions.set_index("participant_id")["condition"]
        other = told.reindex(met.index)[lambda said: said != met.map(lambda names: names[0])]
        if len(other):
            person, said = other.index[0], other.iloc[0]
            raise LimenError(
                f"{where}: participant '{person}' answered in '{met[person][0]}' but the table of sessions says '{said}'."
            )


def _one_version(trials: pd.DataFrame, where: str) -> None:
    for name, what in (("study", "studies"), ("study_version", "versions"), ("stimuli", "stimulus sets")):
        given = sorted(trials[name].unique())
        if len(given) > 1:
            raise LimenError(
                f"{where}, column '{name}': rows of {len(given)} {what} ({', '.join(given)}), which are never pooled; "
                "export one."
            )


def _sessions(table: pd.DataFrame, where: str) -> pd.DataFrame:
    needed = ["participant_id", "condition", "source", "state", "consented", "finished", "excluded", "exclusion_reason"]
    _require(table, needed, where)
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
        table[name] = _booleans(table[name], f"{where}, column '{name}'")
    table["exclusion_reason"] = table["exclusion_reason"].fillna("").astype(str)
    table["condition"] = table["condition"].fillna("").astype(str)
    for name in table["source"].unique():
        if name not in SOURCES:
            raise unknown(f"{where}, column 'source'", name, SOURCES)
    return table


def _people(trials: pd.DataFrame) -> pd.DataFrame:
    people = trials.groupby("participant_id", sort=True).agg(
        condition=("condition", "first"),
        source=("source", "first"),
        excluded=("excluded", "any"),
        exclusion_reason=("exclusion_reason", "first"),
    )
    return people.reset_index().assign(consented=True, finished=True, state="COMPLETE")


def _one_source(people: pd.DataFrame) -> tuple[str, list[str]]:
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


def _default_order(conditions: pd.Series) -> tuple[str, ...]:
    names = sorted({str(name) for name in conditions.dropna()} - {""})
    first = [name for name in FIRST if name in names]
    return (*first, *(name for name in names if name not in first))


def _order(study: Study, wanted: Sequence[str], where: str) -> Study:
    for name in study.conditions:
        if wanted and name not in wanted:
            raise unknown(f"{where}, condition", name, wanted)
    names = [name for name in wanted if name in study.conditions]
    return replace(study, conditions=tuple(names) or study.conditions)


def _baseline(conditions: Sequence[str], chosen: str | None, where: str) -> str:
    if chosen is not None:
        if chosen not in conditions:
            raise unknown(f"{where}, baseline", chosen, conditions)
        return chosen
    if "baseline" not in conditions:
        raise LimenError(
            f"{where}: no condition is called 'baseline'; say with --baseline which of {', '.join(conditions)} it is."
        )
    return "baseline"


def _chance(trials: pd.DataFrame) -> float | None:
    asked = trials.loc[(trials["phase"] == "test") & (trials["expected"] != ""), "expected"]
    options = asked.nunique()
    return 1 / options if 2 <= options <= 10 else None


def _changed(provenance: Mapping[str, Any], files: Sequence[InputFile]) -> list[str]:
    """Compare the files with the hashes that the export noted when it wrote them."""
    noted = provenance.get("files")
    if not isinstance(noted, dict):
        return []
    told = {name: fact.get("sha256") for name, fact in noted.items() if isinstance(fact, dict)}
    return [
        f"{file.name} is not the file that was exported: its SHA-256 differs from the one in provenance.json."
        for file in files
        if told.get(file.name, file.sha256) != file.sha256
    ]


def _provenance(file: Path, files: list[InputFile]) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LimenError(f"{file.name}: not valid JSON ({str(error).splitlines()[0]}).") from None
    if not isinstance(content, dict):
        raise LimenError(f"{file.name}: given {type(content).__name__}, allowed is a mapping.")
    files.append(InputFile(name=file.name, sha256=sha256_file(file), rows=0))
    return content

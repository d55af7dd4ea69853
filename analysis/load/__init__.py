"""Read the responses of a study, from an export folder or any tidy CSV; each fault is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import load_config
from bench.records import Score, check_columns
from bench.registry import LimenError, unknown
from bench.store import sha256_file
from psychophysics_server.records import ADDED, SINCE, ResponseRow

from .checks import (
    as_sessions_say,
    baseline_of,
    chance_of,
    conditions_divide_people,
    default_order,
    enough,
    no_duplicates,
    no_missing_keys,
    one_source,
    one_version,
    ordered,
    people_of,
    read_sessions,
)
from .study import DEFAULTS, IDENTITY, KEYS, KNOWN, ColumnMap, InputFile, Study
from .tables import (
    booleans,
    changed_files,
    factors_of,
    numbers,
    read_provenance,
    read_table,
    require,
    schema_of,
    text_columns,
    typed,
)

__all__ = ["DEFAULTS", "KEYS", "ColumnMap", "InputFile", "Study", "load", "read_scores"]


@dataclass(frozen=True)
class _Told:
    """What a table cannot say itself: the protocol's card, the frozen plan, and where it lies."""

    provenance: Mapping[str, Any]
    card: Mapping[str, Any]
    within: bool | None = None
    folder: str = ""


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
        study = ordered(study, mapping.conditions, path.name)
    chosen = baseline or (mapping.baseline if mapping else None)
    study = replace(study, baseline=baseline_of(study, chosen, path.name))
    first = (study.baseline,) if study.baseline else ()
    return ordered(study, (*first, *(name for name in study.conditions if name not in first)), path.name)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a bench score table (`limen bench table --format csv`, or a run's `table.parquet`).

    Raises
    ------
    LimenError
        If it cannot be read, is empty, or lacks a column of `bench.records.Score`.
    """
    path = Path(path)
    table = read_table(
        path,
        text={item.name for item in fields(Score) if "str" in str(item.type) or item.name in ("subject", "direction")},
    )
    check_columns(table, Score, str(path.name))
    if table.empty:
        raise LimenError(f"{path.name}: the score table has no row.")
    for name in ("value", "low", "high", "null", "gain", "gain_low", "gain_high", "ceiling"):
        table[name] = numbers(table[name], f"{path.name}, column '{name}'")
    table["at_null"] = booleans(table["at_null"], f"{path.name}, column 'at_null'")
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
    provenance = read_provenance(folder / "provenance.json", read)
    schema = schema_of(provenance, folder.name)
    columns = [f.name for f in fields(ResponseRow) if f.name not in ADDED or schema >= SINCE.get(f.name, 2)]
    factors = factors_of(provenance)
    tables, files = [], []
    for file in (*main, *extra["excluded"]):
        table = read_table(file, text=text_columns() | {name for name, kind in factors.items() if kind == "text"})
        require(table, [*columns, *factors], file.name)
        tables.append(table.assign(**{name: value for name, value in ADDED.items() if name not in table}))
        files.append(InputFile(name=f"data/{file.name}", sha256=sha256_file(file), rows=len(table)))
    trials = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
    sessions_file = extra["sessions"][0]
    sessions = read_sessions(read_table(sessions_file, text=text_columns()), sessions_file.name)
    files.append(InputFile(name=f"data/{sessions_file.name}", sha256=sha256_file(sessions_file), rows=len(sessions)))
    files += read
    told = _Told(provenance, _mapping(_mapping(provenance, "protocol"), "card"), folder=str(folder))
    study = _validated(trials, sessions, main[0].name, told, tuple(files))
    study = replace(study, warnings=(*study.warnings, *changed_files(provenance, files)))
    return ordered(study, tuple(str(name) for name in provenance.get("conditions", ())), folder.name)


def _mapping(held: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = held.get(name)
    return given if isinstance(given, Mapping) else {}


def _load_tidy(file: Path, mapping: ColumnMap | None) -> Study:
    table = read_table(file, text=None)
    given = [str(name) for name in table.columns]
    allowed = (*KEYS, *DEFAULTS, *IDENTITY, *KNOWN)
    renames = dict(mapping.columns) if mapping else {}
    for ours, theirs in renames.items():
        if ours not in allowed:
            raise unknown("column map, key 'columns'", ours, allowed)
        if theirs not in given:
            raise unknown(f"{file.name}, column for '{ours}'", theirs, given)
    table = table.drop(columns=[ours for ours, theirs in renames.items() if ours in given and ours != theirs])
    table = table.rename(columns={theirs: ours for ours, theirs in renames.items()})
    table = _completed(table, mapping, file.name)
    for name in text_columns() & set(table.columns):
        table[name] = table[name].where(table[name].isna(), table[name].astype(str))
    files = (InputFile(name=file.name, sha256=sha256_file(file), rows=len(table)),)
    if mapping and mapping.conditions:
        for name in pd.unique(table["condition"].dropna()):
            if name not in mapping.conditions:
                raise unknown(f"{file.name}, column 'condition'", name, mapping.conditions)
    told = _Told({}, _card(mapping), within=mapping.within if mapping else None)
    return _validated(table, None, file.name, told, files)


def _completed(table: pd.DataFrame, mapping: ColumnMap | None, where: str) -> pd.DataFrame:
    """Return the table with the columns of `KEYS`; those that a named analysis does not ask for may be empty."""
    own = mapping is not None and (mapping.formula is not None or mapping.analysis not in (None, "utility"))
    require(table, ["participant_id"] if own else list(KEYS), where, hint=" (name them in a file given with --columns)")
    missing: dict[str, Any] = {"condition": "all", "item_id": "", "correct": float("nan")}
    return table.assign(**{name: value for name, value in missing.items() if name not in table.columns})


def _card(mapping: ColumnMap | None) -> dict[str, Any]:
    """Return what a column map says of the analysis, in the keys of a protocol's card."""
    if mapping is None:
        return {}
    analysis = mapping.analysis or ("crossed" if mapping.formula else None)
    said = {
        "analysis": analysis,
        "formula": mapping.formula,
        "hypothesis": mapping.hypothesis,
        "chance": mapping.chance,
    }
    return {key: value for key, value in said.items() if value}


def _validated(
    table: pd.DataFrame, sessions: pd.DataFrame | None, where: str, told: _Told, files: tuple[InputFile, ...]
) -> Study:
    if table.empty:
        raise LimenError(f"{where}: the table has no row.")
    stated = "expected" in table.columns
    trials = typed(table, where)
    no_missing_keys(trials, where, right=_scored(trials, stated, told.card))
    no_duplicates(trials, where)
    between = sessions is not None or conditions_divide_people(trials, where, within=told.within)
    if sessions is not None:
        as_sessions_say(trials, sessions, where)
    one_version(trials, where)
    people = people_of(trials) if sessions is None else sessions
    source, warnings = one_source(people)
    chance = told.card["chance"] if "chance" in told.card else chance_of(trials)
    study = Study(
        name=str(trials["study"].iloc[0] or Path(where).stem),
        version=str(trials["study_version"].iloc[0]),
        trials=trials,
        sessions=people,
        conditions=default_order(people["condition"] if between else trials["condition"]),
        baseline=None,
        source=source,
        chance=chance,
        provenance=told.provenance,
        files=files,
        warnings=tuple(warnings),
        card=told.card,
        plan=_mapping(told.provenance, "plan"),
        within=not between,
        folder=told.folder,
    )
    return enough(study, where)


def _scored(trials: pd.DataFrame, stated: bool, card: Mapping[str, Any]) -> pd.Series:
    """Mark the rows whose answer must be right or wrong: those with a right answer, or all where the table names none."""
    if ("chance" in card and card["chance"] is None) or trials["correct"].isna().all():
        return pd.Series(False, index=trials.index)
    return (trials["expected"] != "") if stated else pd.Series(True, index=trials.index)

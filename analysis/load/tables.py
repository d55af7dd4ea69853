"""Tables as they are read: one file to a frame, and its cells to numbers, flags and texts, each fault one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow.parquet import ParquetFile

from bench.registry import LimenError
from bench.store import sha256_file
from psychophysics_server.records import EXPORT_SCHEMA, ResponseRow

from .study import DEFAULTS, InputFile

_MISSING = ["", "NA", "NaN", "nan"]
_WORDS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
MOST_ROWS = 2_000_000
"""More are refused before they are read: the mixed model holds a few hundred bytes a row, and takes time with them."""


def read_table(file: Path, *, text: set[str] | None) -> pd.DataFrame:
    """Read a CSV or Parquet file; cells that are empty or say NA are missing.

    Parameters
    ----------
    text : set of str, optional
        Columns to read as text; None lets each column tell.

    Raises
    ------
    LimenError
        If it is not there, empty, no table, or has more than `MOST_ROWS` rows.
    """
    try:
        _not_too_long(file)
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


def _not_too_long(file: Path) -> None:
    """Count rows before any is held in memory."""
    if file.suffix == ".parquet":
        rows = int(ParquetFile(file).metadata.num_rows)
    elif file.stat().st_size < MOST_ROWS:
        return
    else:
        with file.open("rb") as stream:
            rows = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 22), b"")) - 1
    if rows > MOST_ROWS:
        raise LimenError(
            f"{file.name}: {rows:,} rows; a report reads {MOST_ROWS:,} at most, so give the test answers alone, or average "
            "answers of one person to one item."
        )


def text_columns() -> set[str]:
    """Return the columns of an export that hold text."""
    typed = {item.name for item in fields(ResponseRow) if item.type == "str"}
    return typed | {"participant_id", "condition", "item_id", "state", "exclusion_reason", "study_version"}


def require(table: pd.DataFrame, names: Sequence[str], where: str, hint: str = "") -> None:
    """Refuse a table that lacks a column."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        there = ", ".join(str(name) for name in table.columns)
        raise LimenError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing{hint}; there are {there}."
        )


def typed(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a copy with the columns of `DEFAULTS`, and numbers, flags and texts as such."""
    trials = table.copy()
    for name, value in DEFAULTS.items():
        if name not in trials.columns:
            trials[name] = value
    for name in ("correct", "model_correct"):
        trials[name] = _zero_one(trials[name], f"{where}, column '{name}'")
    for name in ("session", "k_seen", "rt_ms"):
        trials[name] = numbers(trials[name], f"{where}, column '{name}'")
    for name in ("is_catch", "excluded"):
        trials[name] = booleans(trials[name], f"{where}, column '{name}'")
    for name in ("exclusion_reason", "source", "expected", "repeat_of", "study", "study_version", "stimuli", "phase"):
        trials[name] = trials[name].fillna(DEFAULTS[name]).astype(str)
    return trials


def numbers(values: pd.Series, where: str) -> pd.Series:
    """Return a column as numbers, or name the first cell that is none."""
    found = pd.to_numeric(values, errors="coerce")
    wrong = found.isna() & values.notna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise LimenError(f"{where}: row {row + 2} holds '{values.iloc[row]}'; allowed are numbers or an empty cell.")
    return found.astype(float)


def _zero_one(values: pd.Series, where: str) -> pd.Series:
    """Map each different value once, so that a long column costs no more than a short one."""
    known = {value: _WORDS.get(str(value).strip().lower(), -1.0) for value in pd.unique(values.dropna())}
    mapped = values.map(known).astype(float)
    wrong = np.flatnonzero(mapped == -1.0)
    if len(wrong):
        raise LimenError(f"{where}: row {wrong[0] + 2} holds '{values.iloc[wrong[0]]}'; allowed are 0 and 1.")
    return mapped


def booleans(values: pd.Series, where: str) -> pd.Series:
    """Return a column of 0/1 or true/false as flags; an empty cell is False."""
    return _zero_one(values, where).fillna(0.0).astype(bool)


def read_provenance(file: Path, files: list[InputFile]) -> Mapping[str, Any]:
    """Read what an export says of itself, {} if it says nothing; the file is added to `files`."""
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


def schema_of(provenance: Mapping[str, Any], where: str) -> int:
    """Return the schema of an export; folders that name none are of the first."""
    given = provenance.get("schema", 1)
    if given not in range(1, EXPORT_SCHEMA + 1):
        raise LimenError(
            f"{where}, provenance.json, key 'schema': {given!r}; this version of limen reads 1 to {EXPORT_SCHEMA}."
        )
    return int(given)


def factors_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the design's factors: column -> 'text', 'number' or 'bool'."""
    noted = provenance.get("factors")
    if not isinstance(noted, Mapping):
        return {}
    return {str(name): str(fact.get("type")) for name, fact in noted.items() if isinstance(fact, Mapping)}


def changed_files(provenance: Mapping[str, Any], files: Sequence[InputFile]) -> list[str]:
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

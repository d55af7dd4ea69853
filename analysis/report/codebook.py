"""A codebook of a table that was read: what each column means, its type, its levels or range, and how many cells are empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from psychophysics_server.export.codebook import describe
from psychophysics_server.records import ResponseRow

from ..load.study import DEFAULTS, Study
from ..tables import Table

MOST_LEVELS = 12
OWN = {
    "correct": "1 if the answer is right, 0 if not, empty where nothing is right or wrong",
    "phase": "Part of the study; rows of 'test' are analysed",
}


def codebook(study: Study) -> pd.DataFrame:
    """Describe each column of the analysed table.

    Returns
    -------
    DataFrame
        Columns `column`, `meaning`, `type`, `values` (levels, or the range of numbers), `missing`, `rows`.
    """
    meanings = {column.name: column.meaning for column in describe(ResponseRow)} | OWN
    factors = study.provenance.get("factors") or {}
    rows = []
    for name in study.trials.columns:
        column = study.trials[name]
        filled = name in DEFAULTS and study.folder == "" and _only(column, DEFAULTS[name])
        meaning = meanings.get(str(name)) or (
            "Factor of the design" if name in factors else "Column of the table, not known to limen"
        )
        if filled:
            meaning = f"{meaning} (not in the table; this stands in its place)"
        rows.append({"column": str(name), "meaning": meaning, "type": _type(column), "values": _values(str(name), column),
                     "missing": int(column.isna().sum()), "rows": len(column)})  # fmt: skip
    return pd.DataFrame(rows)


def codebook_table(frame: pd.DataFrame) -> Table:
    """Give the codebook as a table of the page."""
    rows = tuple(
        (row["column"], row["meaning"], row["type"], row["values"], f"{row['missing']:,}")
        for row in frame.to_dict(orient="records")
    )
    header = ("Column", "Meaning", "Type", "Levels or range", "Missing")
    return Table(name="codebook", caption="Codebook of the table that was read", header=header, rows=rows, frame=frame)


def write_codebook(frame: pd.DataFrame, folder: Path) -> None:
    """Write the codebook as `codebook.csv` and `codebook.json` (column -> facts)."""
    frame.to_csv(folder / "codebook.csv", index=False)
    held = {str(row.pop("column")): row for row in frame.to_dict(orient="records")}
    (folder / "codebook.json").write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _only(column: pd.Series, value: Any) -> bool:
    return bool(column.isna().all()) if pd.isna(value) else bool((column == value).all())


def _type(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "true/false"
    if pd.api.types.is_numeric_dtype(column):
        known = column.dropna()
        return "whole number" if len(known) and bool((known == known.round()).all()) else "number"
    return "text"


def _values(name: str, column: pd.Series) -> str:
    """Give levels or range; never the ids of people."""
    known = column.dropna()
    if known.empty:
        return ""
    if name in ("participant_id", "row_id"):
        return f"{known.nunique():,} different values"
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return f"{known.min():g} to {known.max():g}"
    levels = sorted(map(str, known.unique()))
    return ", ".join(levels) if len(levels) <= MOST_LEVELS else f"{len(levels):,} different values"

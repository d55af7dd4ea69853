"""Whether a folder is the export it says it is: Psych-DS, whole, unchanged, and without a trace of who it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store import sha256_file

from .guard import data_leak, leak, table_leak, texts_in
from .psych_ds import name_fault

DESCRIPTION = "dataset_description.json"
PROVENANCE = "provenance.json"
REQUIRED = ("@context", "@type", "name", "description", "variableMeasured")
OFFERED = ("item_id", "trial_id", "condition", "cell", "block", "expected", "definition", "repeat_of", "word", "study")
"""Columns whose values come from the stimulus set and may look like anything."""
TEXTS = "_description-texts_"


@dataclass
class Checked:
    """What was looked at, and one sentence a fault."""

    files: int = 0
    rows: int = 0
    faults: list[str] = field(default_factory=list)


def check_export(folder: str | Path, *, with_texts: bool = False) -> Checked:
    """Look an export folder through.

    Parameters
    ----------
    folder
        As `limen study export` writes it.
    with_texts
        Whether a file of free text may be in it; it holds what people wrote and is refused otherwise.

    Returns
    -------
    checked
        `faults` is empty if the folder may go to others.
    """
    folder, result = Path(folder), Checked()
    if not folder.is_dir():
        result.faults.append(f"{folder}: no such folder.")
        return result
    described, provenance = _json(folder, DESCRIPTION, result), _json(folder, PROVENANCE, result)
    measured = _description(described, result)
    tables = dict(_tables(folder, result, with_texts=with_texts))
    _columns(tables, measured, result)
    _rows(tables, result)
    _hashes(folder, provenance, tables, result)
    known = _known(provenance, tables)
    for name, table in tables.items():
        if found := table_leak(table, known=known, private=frozenset()):
            result.faults.append(f"{name}, column '{found[0]}', row {found[1] + 1}: holds {found[2]}.")
    _leaks_elsewhere(folder, known | _researchers_own(provenance), set(tables), result)
    return result


def _json(folder: Path, name: str, result: Checked) -> dict[str, Any]:
    try:
        held = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        result.faults.append(f"{name}: is missing.")
    except (OSError, ValueError, RecursionError):
        result.faults.append(f"{name}: is not JSON.")
    else:
        result.files += 1
        if isinstance(held, dict):
            return held
        result.faults.append(f"{name}: holds a {type(held).__name__}; allowed is an object.")
    return {}


def _description(described: dict[str, Any], result: Checked) -> set[str]:
    if not described:
        return set()
    missing = [key for key in REQUIRED if not described.get(key)]
    result.faults += [f"{DESCRIPTION}: the key '{key}' is missing or empty." for key in missing]
    context = str(described.get("@context", "")).replace("http://", "https://").rstrip("/")
    if "@context" not in missing and context != "https://schema.org":
        result.faults.append(f"{DESCRIPTION}, key '@context': is not schema.org.")
    if "@type" not in missing and described["@type"] != "Dataset":
        result.faults.append(f"{DESCRIPTION}, key '@type': is not 'Dataset'.")
    names: list[str] = []
    listed = described.get("variableMeasured")
    for variable in listed if isinstance(listed, list) else ():
        name = variable if isinstance(variable, str) else variable.get("name") if isinstance(variable, dict) else None
        if not isinstance(name, str) or not name:
            result.faults.append(f"{DESCRIPTION}, key 'variableMeasured': an entry has no name.")
            continue
        if isinstance(variable, dict) and not variable.get("description"):
            result.faults.append(f"{DESCRIPTION}, variable '{name}': has no description.")
        names.append(name)
    result.faults += [
        f"{DESCRIPTION}, variable '{n}': is there more than once." for n in set(names) if names.count(n) > 1
    ]
    return set(names)


def _tables(folder: Path, result: Checked, *, with_texts: bool) -> Iterable[tuple[str, pd.DataFrame]]:
    data = sorted(path for path in folder.glob("data/**/*") if path.is_file())
    if not data:
        result.faults.append("data: holds no file.")
    for path in data:
        name = path.relative_to(folder).as_posix()
        if fault := name_fault(path.name):
            result.faults.append(f"{name}: {fault}.")
            continue
        if TEXTS in path.name and not with_texts:
            result.faults.append(f"{name}: holds free text, which a person must read first; say so with --with-texts.")
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, OSError, UnicodeDecodeError):
            result.faults.append(f"{name}: cannot be read as a table.")
            continue
        result.files += 1
        result.rows += len(table)
        yield name, table


def _columns(tables: dict[str, pd.DataFrame], measured: set[str], result: Checked) -> None:
    if not measured:
        return
    held: set[str] = set()
    for name, table in tables.items():
        held |= set(table.columns)
        result.faults += [
            f"{name}, column '{column}': is not among the variables of {DESCRIPTION}."
            for column in table.columns
            if column not in measured
        ]
    result.faults += [f"{DESCRIPTION}, variable '{name}': is in no file." for name in sorted(measured - held)]


def _rows(tables: dict[str, pd.DataFrame], result: Checked) -> None:
    """Ids are there, unique, and lead somewhere."""
    people: set[str] = set()
    answers: dict[str, str] = {}
    for name, table in tables.items():
        key = "row_id" if "row_id" in table else "participant_id" if "_description-sessions_" in name else None
        if key is None or key not in table:
            result.faults.append(f"{name}: has no column 'row_id'.")
            continue
        if (table[key] == "").any():
            result.faults.append(f"{name}, column '{key}': is empty in a row.")
        twice = table[key].duplicated()
        if twice.any():
            result.faults.append(f"{name}, column '{key}': row {int(twice.to_numpy().argmax()) + 1} repeats an id.")
        if "_description-sessions_" in name:
            people |= set(table[key])
        elif "_description-" not in name or "_description-excluded_" in name:
            both = next((row for row in table[key] if row in answers), None)
            if both is not None:
                result.faults.append(f"{name}: holds an answer that is in {answers[both]} as well.")
            answers |= dict.fromkeys(table[key], name)
    for name, table in tables.items():
        if people and "participant_id" in table and not set(table["participant_id"]) <= people:
            result.faults.append(f"{name}: has a participant who is not in the table of sessions.")
        pointing = "response_id" if "response_id" in table else ""
        if any(f"_description-{part}_" in name for part in ("strokes", "drawings", "model")):
            pointing = "row_id"
        if pointing in table and not set(table[pointing]) <= set(answers):
            result.faults.append(f"{name}, column '{pointing}': names an answer that is in no file.")


def _hashes(folder: Path, provenance: dict[str, Any], tables: dict[str, pd.DataFrame], result: Checked) -> None:
    noted = provenance.get("files")
    if not provenance:
        return
    if not isinstance(noted, dict) or not noted:
        result.faults.append(f"{PROVENANCE}: names no files.")
        return
    for key in ("schema", "study", "study_version", "stimuli", "chain", "sources", "flow"):
        if key not in provenance:
            result.faults.append(f"{PROVENANCE}: the key '{key}' is missing.")
    for name, fact in noted.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not path.is_file():
            result.faults.append(f"{PROVENANCE}: names the file {name}, which is not there.")
            continue
        if not isinstance(fact, dict) or sha256_file(path) != fact.get("sha256"):
            result.faults.append(f"{name}: is not the file that was exported; its SHA-256 differs.")
        elif name in tables and len(tables[name]) != fact.get("rows"):
            result.faults.append(f"{name}: has {len(tables[name])} rows, {PROVENANCE} says {fact.get('rows')}.")
    typed = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.parquet")))
    result.faults += [f"{name}: is not named in {PROVENANCE}." for name in (*tables, *typed) if name not in noted]


def _known(provenance: dict[str, Any], tables: dict[str, pd.DataFrame]) -> frozenset[str]:
    """Names that the stimulus set gave."""
    known = {
        text for key in ("stimuli", "parents", "conditions", "factors") for _, text in texts_in(provenance.get(key))
    }
    known |= {str(provenance.get("stimuli"))}
    for table in tables.values():
        for column in OFFERED:
            if column in table:
                known |= set(table[column].unique())
    return frozenset(known)


def _researchers_own(provenance: dict[str, Any]) -> frozenset[str]:
    """Texts of the study file: a contact address in it belongs to the researchers."""
    own = (provenance.get(name) for name in ("study_file", "protocol", "packages", "title", "plan"))
    return frozenset(text for part in own for _, text in texts_in({"": part}))


def _leaks_elsewhere(folder: Path, known: frozenset[str], tables: set[str], result: Checked) -> None:
    """Scan what is no data table: JSON by its texts, anything else that is text line by line."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name in tables or path.suffix == ".parquet":
            continue
        try:
            text = path.read_text(encoding="utf-8")
            held = json.loads(text) if path.suffix == ".json" else None
        except (OSError, UnicodeDecodeError, ValueError, RecursionError):
            if name not in {DESCRIPTION, PROVENANCE}:
                result.faults.append(f"{name}: is no text that could be looked through.")
            continue
        if held is not None:
            if found := data_leak(held, known=known, private=frozenset()):
                result.faults.append(f"{name}, key '{found[0]}': holds {found[1]}.")
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if what := leak(line, known=known, private=frozenset()):
                result.faults.append(f"{name}, line {number}: holds {what}.")
                break

"""Psych-DS as this export follows it: file names and the description of a data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .codebook import FileKind, one_line

KEYWORDS = ("study", "site", "subject", "session", "task", "condition", "trial", "stimulus", "description")
"""Keys that a file name may have, officially."""
FILE_NAME = re.compile(r"^(?:[a-z]+-[A-Za-z0-9]+_)+data\.csv$")
SCHEMA = "Psych-DS 1.0.0"


def file_name(study: str, part: str = "") -> str:
    """Return the path of a data file; values are letters and digits only."""
    name = re.sub("[^A-Za-z0-9]", "", study)
    return f"data/study-{name}" + (f"_description-{part}" if part else "") + "_data.csv"


def name_fault(name: str) -> str:
    """Say what is wrong with the name of a data file, '' if nothing."""
    if not FILE_NAME.match(name):
        return "is no name after the rule key-value_..._data.csv"
    keys = [pair.partition("-")[0] for pair in name.split("_")[:-1]]
    strange = [key for key in keys if key not in KEYWORDS]
    if strange:
        return f"has the key '{strange[0]}'; allowed are {', '.join(KEYWORDS)}"
    return "has a key twice" if len(set(keys)) != len(keys) else ""


def variables(kinds: Sequence[FileKind]) -> list[dict[str, Any]]:
    """Describe every column of every file once; where files differ in what they mean by one, each is told."""
    meanings: dict[str, dict[str, list[str]]] = {}
    types: dict[str, str] = {}
    for kind in kinds:
        for column in kind.columns:
            types.setdefault(column.name, column.type)
            told = meanings.setdefault(column.name, {})
            told.setdefault(one_line(column.meaning), []).append(kind.part or "responses")
    described = []
    for name, told in meanings.items():
        first, *others = told
        extra = [f" In {', '.join(told[other])}: {other}" for other in others]
        described.append(
            {
                "@type": "PropertyValue",
                "name": name,
                "description": (first or name) + "".join(extra),
                "valueReference": types[name],
            }
        )
    return described


def description(*, name: str, text: str, version: str, kinds: Sequence[FileKind]) -> dict[str, Any]:
    """Return what `dataset_description.json` holds."""
    return {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": name,
        "description": text,
        "schemaVersion": SCHEMA,
        "version": version,
        "variableMeasured": variables(kinds),
    }

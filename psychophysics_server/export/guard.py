"""The guard of an export: nothing that could lead back to a person leaves the server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.registry import LimenError

PATTERNS = {
    "a recruiter's id (24 hexadecimal digits)": re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{24}(?![0-9A-Za-z])"),
    "an e-mail address": re.compile(r"[^\s@,;<>\"']{1,64}@[^\s@,;<>\"']{1,255}\.[A-Za-z]{2,}"),
    "an IP address": re.compile(
        r"(?<![0-9.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![0-9.])"
    ),
}
WORKER = "a recruiter's id"
SHORTEST = 6
"""Ids shorter than this are looked for as whole values only: 'a1' occurs in any text."""
_SIX = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![0-9A-Za-z:])")
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def leak(text: str, *, known: frozenset[str], private: frozenset[str]) -> str | None:
    """Say what a text gives away, or None.

    Parameters
    ----------
    known
        Texts that come from the stimulus set and may look like anything.
    private
        Recruiter ids held in the data base: none may appear.
    """
    if text in known:
        return None
    if text in private:
        return WORKER
    if any(len(word) >= SHORTEST and word in private for word in _WORD.findall(text)):
        return WORKER
    for what, pattern in PATTERNS.items():
        if "@" in pattern.pattern and "@" not in text:
            continue
        if any(found.group() not in known for found in pattern.finditer(text)):
            return what
    return "an IP address" if ":" in text and any(_is_six(found) for found in _sixes(text)) else None


def _sixes(text: str) -> Iterator[str]:
    yield text.strip("[] ")
    yield from (found.group() for found in _SIX.finditer(text))


def _is_six(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def redacted(text: str, *, private: frozenset[str]) -> tuple[str, list[str]]:
    """Replace in a free text what could lead back to a person; return the text and what was replaced."""
    removed = []
    if text in private:
        return f"[{WORKER}]", [WORKER]
    for word in dict.fromkeys(_WORD.findall(text)):
        if len(word) >= SHORTEST and word in private:
            text = text.replace(word, f"[{WORKER}]")
            removed.append(WORKER)
    for what, pattern in PATTERNS.items():
        text, count = pattern.subn(f"[{what.partition(' (')[0]}]", text)
        removed += [what.partition(" (")[0]] * bool(count)
    for found in {match.group() for match in _SIX.finditer(text)}:
        if _is_six(found):
            text = text.replace(found, "[an IP address]")
            removed.append("an IP address")
    return text, list(dict.fromkeys(removed))


def table_leak(table: pd.DataFrame, *, known: frozenset[str], private: frozenset[str]) -> tuple[str, int, str] | None:
    """Return the column, the row (from 0) and the kind of the first leak in a table, or None."""
    for column in table.columns:
        values = table[column]
        if values.dtype.kind in "biuf":
            continue
        texts = values.astype(object)
        found = {value: leak(str(value), known=known, private=private) for value in texts.dropna().unique()}
        if any(found.values()):
            bad = texts.map(lambda value, found=found: found.get(value)).notna()
            row = int(bad.to_numpy().argmax())
            return str(column), row, str(found[texts.iloc[row]])
    return None


def refuse_leaks(
    table: pd.DataFrame, name: str, *, known: Iterable[str], private: Iterable[str], before: int = 0
) -> None:
    """Refuse a table that holds a recruiter's id, an e-mail address or an IP address.

    Parameters
    ----------
    before
        Rows of the file that were written earlier.

    Raises
    ------
    LimenError
        Names the file, the column, the row and the kind of leak; never the value.
    """
    found = table_leak(table, known=frozenset(known), private=frozenset(private))
    if found is not None:
        column, row, what = found
        raise LimenError(
            f"export, {name}, column '{column}', row {before + row + 1}: holds {what}; "
            "nothing was written, remove it from the data base or leave out its source."
        )


def texts_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of plain data, keys too, with its place."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            here = f"{place}.{key}".strip(".")
            yield here, str(key)
            yield from texts_in(part, here)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part, place)
    elif isinstance(value, str):
        yield place, value


def data_leak(value: Any, *, known: frozenset[str], private: frozenset[str]) -> tuple[str, str] | None:
    """Return the place and the kind of the first leak in plain data (a JSON file), or None."""
    for place, text in texts_in(value):
        if what := leak(text, known=known, private=private):
            return place, what
    return None

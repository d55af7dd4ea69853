"""The guard of an export: nothing that could lead back to a person leaves the server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import pandas as pd

from bench.registry import LimenError

PATTERNS = {
    "a recruiter's id (24 hexadecimal digits)": re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{24}(?![0-9A-Za-z])"),
    "an e-mail address": re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+\.[A-Za-z]{2,}"),
    "an IP address": re.compile(
        r"(?<![0-9.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![0-9.])"
    ),
}


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
        return "a recruiter's id"
    for what, pattern in PATTERNS.items():
        if pattern.search(text):
            return what
    if ":" in text:
        try:
            ipaddress.IPv6Address(text.strip("[] "))
        except ValueError:
            return None
        return "an IP address"
    return None


def refuse_leaks(table: pd.DataFrame, name: str, *, known: Iterable[str], private: Iterable[str]) -> None:
    """Refuse a table that holds a recruiter's id, an e-mail address or an IP address.

    Raises
    ------
    LimenError
        Names the file, the column, the row and the kind of leak; never the value.
    """
    allowed, secret = frozenset(known), frozenset(private)
    for column in table.columns:
        values = table[column]
        if values.dtype.kind in "biuf":
            continue
        found = {value: leak(str(value), known=allowed, private=secret) for value in values.unique()}
        bad = values[values.map(found).notna()]
        if len(bad):
            raise LimenError(
                f"export, {name}, column '{column}', row {int(bad.index[0]) + 1}: holds {found[bad.iloc[0]]}; "
                "nothing was written, remove it from the data base or leave out its source."
            )

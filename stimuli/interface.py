"""The words of the participant's pages: one list a language in `words/`, and a study's own words on top."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.registry import LimenError, unknown

from .records import StudyFile

FOLDER = Path(__file__).parent / "words"
REFERENCE = "en"
"""The list whose paths and placeholders all others share."""
PLURALS = ("zero", "one", "two", "few", "many", "other")
"""CLDR's plural categories; 'other' is always needed, the rest as the language has them."""
_PLACE = re.compile(r"\{(\w*)\}")


def languages() -> list[str]:
    """Return the languages there is a list for."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def word_list(language: str) -> Mapping[str, str]:
    """Read the list of a language as path -> text, e.g. `'test.heading'`."""
    return dict(_flat(json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))))


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
        return
    for name, below in node.items():
        yield from _flat(below, f"{path}.{name}" if path else name)


def places(text: str) -> set[str]:
    """Return the names of the placeholders of a text: `'{done} of {count}'` -> `{'done', 'count'}`."""
    return set(_PLACE.findall(text))


def is_plural(path: str) -> bool:
    """Whether a path is one form of a text that depends on a number."""
    stem, _, form = path.rpartition(".")
    return form in PLURALS and f"{stem}.other" in word_list(REFERENCE)


def check_words(study: StudyFile, *, where: str) -> None:
    """Refuse own words for paths that do not exist, placeholders that are not filled, and languages without a list.

    Raises
    ------
    LimenError
        For the first fault, in one sentence.
    """
    known = word_list(REFERENCE)
    for path, text in study.words.items():
        key = f"{where}, key 'words.{path}'"
        if path not in known and not is_plural(path):
            raise unknown(f"{where}, key 'words'", path, _near(path))
        model = known.get(path) or known[f"{path.rpartition('.')[0]}.other"]
        strange = sorted(places(text) - places(model) - ({"count"} if is_plural(path) else set()))
        if strange:
            raise unknown(f"{key}, placeholder", strange[0], sorted(places(model)))
        if not text.strip():
            raise LimenError(f"{key}: nothing was given; the text of '{REFERENCE}' is '{model}'.")
    missing = [path for path in known if path not in _words(study)]
    if missing:
        raise LimenError(
            f"{where}, key 'language': there is no word list of '{study.language}'; allowed are "
            f"{', '.join(languages())}, or a text for every path in 'words' ('{missing[0]}' is missing)."
        )


def _near(path: str) -> list[str]:
    """Name the paths of the same section, or the ones that look alike: all would fill a page."""
    known = list(word_list(REFERENCE))
    section = path.partition(".")[0]
    return [name for name in known if name.partition(".")[0] == section] or difflib.get_close_matches(
        path, known, n=5, cutoff=0.3
    )


def _words(study: StudyFile) -> dict[str, str]:
    """Join the list of the study's language (of 'de' for 'de-AT') and the study's own words."""
    names = (study.language, study.language.partition("-")[0])
    held = next((name for name in names if name in languages()), None)
    return {**(word_list(held) if held else {}), **study.words}


def words_of(study: StudyFile) -> dict[str, Any]:
    """Return every word of a study's pages, nested as the front-end reads it."""
    tree: dict[str, Any] = {}
    for path, text in _words(study).items():
        *stems, leaf = path.split(".")
        node = tree
        for stem in stems:
            node = node.setdefault(stem, {})
        node[leaf] = text
    return tree

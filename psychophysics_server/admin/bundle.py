"""One trial for the participants' own front-end in replay: its public payload and what was answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stimuli.interface import words_of

from ..sessions.schedule import public_trial
from ..study.frozen import FrozenStudy
from .person import Shown


def replayed(study: FrozenStudy, shown: Shown) -> str:
    """Return, as JSON, the trial as it was sent to the browser, the answer to it and the expected one."""
    answers = [{"seq": row.seq, "attempt": row.attempt, "body": dict(body)} for row, body in shown.answers]
    facts: dict[str, Any] = {
        "trial": public_trial(shown.trial),
        "answers": answers,
        "expected": shown.trial.expected,
    }
    return json.dumps(facts, ensure_ascii=False)


def shown_words(study: FrozenStudy) -> str:
    """Return the interface's words in the study's language, as JSON."""
    return json.dumps(words_of(study.file), ensure_ascii=False)


def replay_files(folder: Path) -> dict[str, str] | None:
    """Read which (hashed) files show a trial, or None if the front-end was built without them."""
    try:
        named = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = {name: str(named[name]) for name in ("replay.js", "index.css")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if all((folder / name).is_file() for name in files.values()) else None

"""The answers of a session as they were given: what can stand in a table, and what a person must read first."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from ..sessions.schedule import counting as of_last_attempts
from ..study.frozen import FrozenStudy, Trial
from ..wire.requests import TrialBody, parse_body

OWN_COLUMNS = ("picture_px", "load_failures", "plugin", "lockout_ms", "feedback", "fullscreen_exits", "zoom")
"""Keys of a body that are columns although `TrialBody` does not know them."""
APART = ("strokes", "oracle", "pictures")
"""Keys of a body that go into a file of their own (`apart.py`)."""
OUTCOMES = ("reveal", "draw")
"""Trial types without options whose response is an outcome, not free text."""
_TOKEN = re.compile(r"^[A-Za-z0-9_.:@#/+-]{0,80}$")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One trial event that counts, with the trial it answers."""

    row_id: str
    event: Row[Any]
    trial: Trial
    body: TrialBody
    said: Mapping[str, Any]
    """The whole body, with what `TrialBody` does not know."""
    client_s: float

    @property
    def trial_id(self) -> str:
        """Name of the trial."""
        return self.trial.trial_id

    @property
    def attempt(self) -> int:
        """Which time the block was taken."""
        return int(self.event.attempt)

    @property
    def response(self) -> str:
        """The response, where it can only be one of the answers the trial offers; '' for anything else."""
        free = not self.trial.options and self.trial.trial_type not in OUTCOMES
        return "" if free else self.body.response

    def written(self) -> dict[str, str]:
        """Return what was written freely: field -> words."""
        found = {"text": self.body.text} if self._entry != "number" else {}
        if self.body.response and not self.response and self.body.response != self.body.text:
            found["response"] = self.body.response
        found |= {name: text for name, text in _texts(self._more) if name not in {"text", "response"}}
        return {name: text for name, text in found.items() if text}

    @property
    def number(self) -> float:
        """The number typed as a free answer, NaN if none."""
        try:
            return float(self.body.text) if self._entry == "number" else math.nan
        except ValueError:
            return math.nan

    @property
    def details(self) -> str:
        """What else the trial type measured, as JSON with sorted keys."""
        return json.dumps(measured(self._more), sort_keys=True, separators=(",", ":"))

    @property
    def _entry(self) -> str:
        entry = self.trial.payload.get("entry")
        return str(entry.get("kind", "text")) if isinstance(entry, Mapping) else "text"

    @property
    def _more(self) -> dict[str, Any]:
        known = {*TrialBody.model_fields, *OWN_COLUMNS, *APART}
        return {name: value for name, value in self.said.items() if name not in known}


def counting(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Keep the trial events that count."""
    return [row for row in rows if row.trial_id and not row.fault]


def answers(session: Row[Any], study: FrozenStudy, rows: Sequence[Row[Any]]) -> list[Answered]:
    """Read the trial events of one session that count; of a block that was begun again, those of its last attempt."""
    index = study.trial_index[session.cell]
    start = min((row.client_time for row in rows), default=0.0)
    found = []
    for row in counting(rows):
        said = parse_body("trial", row.body)
        found.append(
            Answered(
                row_id=f"{session.session}-{row.seq}",
                event=row,
                trial=index[row.trial_id],
                body=TrialBody.model_validate(said),
                said=said,
                client_s=(row.client_time - start) / 1000,
            )
        )
    return of_last_attempts(study.trials[session.cell], found)


def measured(value: Any) -> Any:
    """Keep numbers, truth values and single tokens; what may be free text becomes null."""
    if isinstance(value, Mapping):
        return {str(name): measured(part) for name, part in value.items() if _TOKEN.match(str(name))}
    if isinstance(value, list):
        return [measured(part) for part in value]
    if isinstance(value, str):
        return value if _TOKEN.match(value) else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield what `measured` leaves out, with its place."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            place = str(key) if _TOKEN.match(str(key)) else "key"
            if place == "key":
                yield f"{name}.key".strip("."), str(key)
            yield from _texts(part, f"{name}.{place}".strip("."))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, f"{name}.{index}".strip("."))
    elif isinstance(value, str) and not _TOKEN.match(value):
        yield name, value


def finite(value: Any) -> float:
    """Return a number a browser said, or NaN."""
    number_given = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number_given else math.nan


def whole(value: Any) -> int:
    """Return a count a browser said, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def token(value: Any) -> str:
    """Return a single token a browser said, or ''."""
    return value if isinstance(value, str) and _TOKEN.match(value) else ""

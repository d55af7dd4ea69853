"""Which session a token opened a moment ago, so that a save need not ask the data base before it writes."""

from __future__ import annotations

import threading

from ..study.frozen import FrozenStudy

Door = tuple[str, FrozenStudy]
"""Session and study version that a token opens."""
LARGEST = 20_000
"""Tokens kept; about 5 MB."""


class Doors:
    """Tokens seen to open a session; the least recently used are forgotten.

    Only a shield: whoever sends a token that never opened anything does not reach the writer. Whether a token still
    opens its session is asked by the write itself, under the session's lock, so nothing here can be out of date.
    """

    def __init__(self) -> None:
        self._held: dict[str, Door] = {}
        self._lock = threading.Lock()

    def get(self, hashed: str) -> Door | None:
        """Return the session and study version of a token's hash, or None if it was not seen."""
        with self._lock:
            held = self._held.pop(hashed, None)
            if held is not None:
                self._held[hashed] = held
            return held

    def put(self, hashed: str, session: str, study: FrozenStudy) -> None:
        """Remember a token that opens a session."""
        with self._lock:
            if len(self._held) >= LARGEST:
                del self._held[next(iter(self._held))]
            self._held[hashed] = (session, study)

    def forget(self, hashed: str) -> None:
        """Forget a token that opens nothing any more."""
        with self._lock:
            self._held.pop(hashed, None)

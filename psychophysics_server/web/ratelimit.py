"""Token buckets: a limit per session and per study start, generous to people, never per address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a bucket allows: so many at once, and so many a second in the long run."""

    burst: float
    per_second: float


SESSION = Rate(burst=5000, per_second=100)
"""Requests of one session: far more than a person makes; what runs wild in a browser is slowed."""
START = Rate(burst=2000, per_second=100)
"""Sessions opened in one study, by people and bots apart; a whole campus behind one address stays far below."""
LARGEST = 20_000
"""Buckets kept; the least recently used are forgotten, and would be full again by then."""


class Buckets:
    """Buckets by key, filled at a steady rate; one process keeps its own.

    Parameters
    ----------
    rate
        What each bucket allows.
    clock
        Seconds, never running back.
    """

    def __init__(self, rate: Rate, *, clock: Callable[[], float] = time.monotonic, largest: int = LARGEST) -> None:
        self._rate, self._clock, self._largest = rate, clock, largest
        self._held: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return len(self._held)

    def wait(self, key: str) -> float:
        """Take one from a bucket; returns 0, or the seconds until there is one again (and takes nothing)."""
        now = self._clock()
        with self._lock:
            level, then = self._held.pop(key, (self._rate.burst, now))
            level = min(self._rate.burst, level + (now - then) * self._rate.per_second)
            allowed = level >= 1
            self._held[key] = (level - 1 if allowed else level, now)
            if len(self._held) > self._largest:
                del self._held[next(iter(self._held))]
            return 0.0 if allowed else (1 - level) / self._rate.per_second


class Limits:
    """The limits of one server."""

    def __init__(self) -> None:
        self.session = Buckets(SESSION)
        self.start = Buckets(START)

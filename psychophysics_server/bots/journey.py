"""What became of one bot, how bots misbehave, and the one thing that stops them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.registry import LimenError


class OffTheRails(LimenError):
    """The server did something a person could not have gone on from."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How bots misbehave; shares are of submissions (of people, for reloads).

    Attributes
    ----------
    twice : sent twice
    reloads : people who open the study again somewhere in the middle
    shuffled : held back with those after it and sent in separate requests, the last first
    tabs : raced by a second window of the same person, which must meet a conflict
    closed : people whose reload is a closed tab, with answers unsent that are kept on their disk
    clock : made after a jump of the browser's clock, by up to a day either way
    must_fail : try what must be refused (`refused.CASES`) before the first trial
    batch : events that a bot gathers before it sends, outside practice
    """

    twice: float = 0.05
    reloads: float = 0.15
    shuffled: float = 0.0
    tabs: float = 0.0
    closed: float = 0.0
    clock: float = 0.0
    must_fail: bool = False
    batch: int = 1


@dataclass(kw_only=True)
class Journey:
    """What became of one bot."""

    index: int
    session: str = ""
    condition: str = ""
    outcome: str = "open"
    """'complete', 'left' (dropped out as planned), 'screened_out', 'failed' (a resume was refused), 'full' or 'lost'."""
    code: str = ""
    careless: bool = False
    asked: int = 0
    right: int = 0
    """Test questions that are not catch trials, and right answers to them, as this bot remembers."""
    retries: int = 0
    conflicts: int = 0
    """Conflicts met beside those that a second window was meant to meet."""
    raced: int = 0
    """Submissions raced by a second window, each of which met a conflict."""
    refused: int = 0
    """Submissions that had to be refused, and were."""
    reloads: int = 0
    acknowledged: dict[int, str] = field(default_factory=dict)

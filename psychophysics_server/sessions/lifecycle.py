"""The life of a session: its states, and the acts that lead from one to another; anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, Row, update

from ..storage.tables import sessions
from ..study.frozen import FrozenStudy

State = Literal["PRE", "ACTIVE", "COMPLETE", "SCREENED_OUT", "WITHDRAWN", "EXPIRED", "FAILED"]
Act = Literal["consent", "complete", "screen_out", "fail", "expire", "withdraw"]

TRANSITIONS: Mapping[Act, Mapping[State, State]] = {
    "consent": {"PRE": "ACTIVE"},
    "complete": {"ACTIVE": "COMPLETE"},
    "screen_out": {"PRE": "SCREENED_OUT", "ACTIVE": "SCREENED_OUT"},
    "fail": {"ACTIVE": "FAILED"},
    "expire": {"PRE": "EXPIRED", "ACTIVE": "EXPIRED"},
    "withdraw": {
        "PRE": "WITHDRAWN",
        "ACTIVE": "WITHDRAWN",
        "COMPLETE": "WITHDRAWN",
        "SCREENED_OUT": "WITHDRAWN",
        "EXPIRED": "WITHDRAWN",
        "FAILED": "WITHDRAWN",
    },
}
"""Act -> state it is possible in -> state it leads to. Withdrawing is possible until the end of time."""

OPEN: frozenset[State] = frozenset({"PRE", "ACTIVE"})
"""States in which a person may go on."""
ENDING: Mapping[State, str] = {"SCREENED_OUT": "screened_out", "FAILED": "manual", "EXPIRED": "manual"}
"""State that a session can end in without its trials -> kind of the code it ends with."""

DECLINED = "no consent"
QUIZ, DEVICE, RELOAD, AGE = "quiz", "device", "reload", "age"
"""Values of `sessions.reason`: why a session ended before its end."""


class NoSuchMove(Exception):
    """An act that is not possible in the session's state."""

    def __init__(self, act: Act, state: str) -> None:
        super().__init__(f"'{act}' is not possible in the state {state}")
        self.act = act
        self.state = state


def after(state: str, act: Act) -> State | None:
    """Return the state an act leads to, None if it is not possible in this one."""
    return TRANSITIONS[act].get(state)  # type: ignore[call-overload]


def move(connection: Connection, row: Row[Any], act: Act, *, reason: str = "", **values: Any) -> State:
    """Take a session from one state to another, with further values of its row.

    Raises
    ------
    NoSuchMove
        If the act is not possible in the session's state.
    """
    reached = after(row.state, act)
    if reached is None:
        raise NoSuchMove(act, row.state)
    changed = {**values, "state": reached, "reason": reason}
    connection.execute(update(sessions).where(sessions.c.session == row.session).values(**changed))
    return reached


def overdue(study: FrozenStudy, row: Any, now: float) -> bool:
    """Whether an open session is older than the study allows (`resume.max_age_hours`, from its opening)."""
    return row.state in OPEN and now - row.opened_at > 3600.0 * study.file.resume.max_age_hours


def state_now(study: FrozenStudy, row: Row[Any], now: float) -> State:
    """Return a session's state as a view should show it: one that is overdue has expired, though nobody has come."""
    state: State = "EXPIRED" if overdue(study, row, now) else row.state
    return state

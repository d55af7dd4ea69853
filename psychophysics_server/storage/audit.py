"""The audit log: who did what to whom, and when; written in the transaction that does it."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from .database import insert_row
from .tables import audit

TERMINAL = "(command line)"
"""The author of what is done in a terminal on the server's own machine."""


def note(connection: Connection, account: str, action: str, subject: str = "", detail: str = "") -> None:
    """Add one line; it is never changed.

    Parameters
    ----------
    account
        Name of the account or token.
    action
        What was done, in a word or two.
    subject
        Whom or what it was done to; never a recruiter's id.
    detail
        Reason or values.
    """
    row = {
        "server_time": time.time(),
        "account": account[:80],
        "action": action[:40],
        "subject": subject[:200],
        "detail": detail[:2000],
    }
    insert_row(connection, audit, row)

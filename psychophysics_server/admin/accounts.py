"""Accounts of researchers and tokens of their scripts: argon2 for passwords, hashes for tokens, back-off per account."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, select, update

from bench.registry import LimenError, unknown

from ..sessions.session import token_hash
from ..storage.audit import TERMINAL, note
from ..storage.database import Busy, Database, insert_once, insert_row, one
from ..storage.tables import accounts, api_tokens, meta

ROLES = ("viewer", "analyst", "owner")
"""Each may do what those before it may."""
LOGIN = "login"
"""`api_tokens.role` of a browser that is logged in; its rights are those of its account."""
LOGIN_HOURS = 12.0
MIN_PASSWORD = 12
FREE_ATTEMPTS = 5
"""Wrong passwords before an account is closed for a while."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,79}")
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_urlsafe(16))
"""Checked where there is no account, so that an unknown name takes as long as a wrong password."""
_ONE_AT_A_TIME = threading.BoundedSemaphore(1)
"""A flood of logins costs one core at most; the others go on taking answers."""


@dataclass(frozen=True, kw_only=True)
class Who:
    """Who asks: an account or a token, and what it may do."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this role or a higher one is held."""
        return ROLES.index(self.role) >= ROLES.index(role)


def wait_s(failures: int) -> float:
    """Return how long an account stays closed after this many wrong passwords in a row, in seconds."""
    beyond = failures - FREE_ATTEMPTS
    return 0.0 if beyond < 0 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(beyond, 20))


def add_account(database: Database, name: str, *, role: str, password: str) -> None:
    """Make an account.

    Raises
    ------
    LimenError
        If the name is taken or malformed, the role is unknown, or the password is short or holds the name.
    """
    _check_role(role)
    if not _NAME.fullmatch(name):
        raise LimenError(
            f"account, name '{name}': allowed are letters, digits and . _ @ + -, at most 80, a letter or digit first."
        )
    if len(password) < MIN_PASSWORD or len(password) > 1000 or name.lower() in password.lower():
        raise LimenError(
            f"account {name}, password: at least {MIN_PASSWORD} characters (1,000 at most) that do not hold the name."
        )
    row = {
        "name": name,
        "role": role,
        "password_hash": _HASHER.hash(password),
        "failures": 0,
        "locked_until": 0.0,
        "created_at": time.time(),
    }

    def job(connection: Connection) -> bool:
        fresh = insert_once(connection, accounts, row)
        if fresh:
            note(connection, TERMINAL, "account added", name, role)
        return fresh

    if not database.write(job):
        raise LimenError(f"account '{name}': exists already; remove it first with `limen study account remove`.")


def all_accounts(database: Database) -> Sequence[Row[Any]]:
    """List the accounts by name."""
    with database.read() as connection:
        return connection.execute(select(accounts).order_by(accounts.c.name)).all()


def any_account(connection: Connection) -> bool:
    """Whether anyone can log in at all."""
    return connection.execute(select(accounts.c.name).limit(1)).first() is not None


def remove_account(database: Database, name: str) -> None:
    """Remove an account and log it out everywhere.

    Raises
    ------
    UnknownName
        If there is none of this name.
    """

    def job(connection: Connection) -> bool:
        gone = connection.execute(delete(accounts).where(accounts.c.name == name)).rowcount == 1
        connection.execute(delete(api_tokens).where(api_tokens.c.name == name, api_tokens.c.role == LOGIN))
        if gone:
            note(connection, TERMINAL, "account removed", name)
        return gone

    if not database.write(job):
        raise unknown("account", name, [row.name for row in all_accounts(database)])


def sign_in(database: Database, name: str, password: str) -> str | None:
    """Check a password and return a fresh token for the browser, or None.

    None says nothing about whether the name is known, the password is wrong, or the account is closed for a while:
    each takes one commit and one hash. The attempt is counted before the password is looked at, so that guesses
    made at the same time all count.

    Raises
    ------
    Busy
        If others are being checked.
    """
    if not _NAME.fullmatch(name):
        name = ""  # no account is called so, and not every column can hold it
    if not _ONE_AT_A_TIME.acquire(timeout=5.0):
        raise Busy("others are logging in")
    try:
        row = database.write(lambda connection: _count_attempt(connection, name, time.time()))
        known = _verify(_NOBODY if row is None else row.password_hash, password)
    finally:
        _ONE_AT_A_TIME.release()
    if row is None or not known:
        return None
    token: str | None = database.write(lambda connection: _log_in(connection, row))
    return token


def _count_attempt(connection: Connection, name: str, now: float) -> Row[Any] | None:
    """Count one attempt; return the account if it is known and open."""
    connection.execute(delete(meta).where(meta.c.name == "sign_in"))
    insert_row(connection, meta, {"name": "sign_in", "value": str(now)})
    row = connection.execute(select(accounts).where(accounts.c.name == name).with_for_update()).one_or_none()
    if row is None or row.locked_until > now:
        return None
    failures = row.failures + 1
    closed = {"failures": failures, "locked_until": now + wait_s(failures) if wait_s(failures) else 0.0}
    connection.execute(update(accounts).where(accounts.c.name == name).values(**closed))
    return row


def _verify(held: str, password: str) -> bool:
    try:
        return _HASHER.verify(held, password)
    except (VerificationError, InvalidHashError):
        return False


def _log_in(connection: Connection, row: Row[Any]) -> str | None:
    now = time.time()
    opened = update(accounts).where(accounts.c.name == row.name, accounts.c.password_hash == row.password_hash)
    if connection.execute(opened.values(failures=0, locked_until=0.0)).rowcount != 1:
        return None
    connection.execute(delete(api_tokens).where(api_tokens.c.expires_at < now, api_tokens.c.role == LOGIN))
    note(connection, row.name, "logged in")
    return _issue(connection, row.name, LOGIN, hours=LOGIN_HOURS)


def _issue(connection: Connection, name: str, role: str, *, hours: float | None) -> str:
    token, now = secrets.token_urlsafe(32), time.time()
    values = {
        "token_hash": token_hash(token),
        "name": name,
        "role": role,
        "issued_at": now,
        "expires_at": None if hours is None else now + 3600 * hours,
    }
    insert_row(connection, api_tokens, values)
    return token


def sign_out(database: Database, token: str) -> None:
    """End one browser's login: its token is worth nothing from now on."""

    def job(connection: Connection) -> None:
        held = one(connection, api_tokens, token_hash=token_hash(token), role=LOGIN)
        if held is not None:
            connection.execute(delete(api_tokens).where(api_tokens.c.token_hash == held.token_hash))
            note(connection, held.name, "logged out")

    database.write(job)


def who_is(connection: Connection, token: str, *, browser: bool) -> Who | None:
    """Return whom a token stands for, or None.

    Parameters
    ----------
    browser
        Whether it came in the cookie; tokens of scripts open no page, and a browser's opens no `/admin/api`.
    """
    held = one(connection, api_tokens, token_hash=token_hash(token))
    if held is None or (held.role == LOGIN) is not browser:
        return None
    if held.expires_at is not None and held.expires_at <= time.time():
        return None
    if not browser:
        return Who(name=f"token {held.name}", role=held.role)
    row = one(connection, accounts, name=held.name)
    return None if row is None else Who(name=row.name, role=row.role)


def add_token(database: Database, name: str, *, role: str, days: float | None = None) -> str:
    """Make a token for a script and return it; only its hash is kept.

    Raises
    ------
    LimenError
        If the name is taken or malformed, or the role is unknown.
    """
    _check_role(role)
    if not _NAME.fullmatch(name):
        raise LimenError(f"token, name '{name}': allowed are letters, digits and . _ @ + -, at most 80.")

    def job(connection: Connection) -> str | None:
        taken = select(api_tokens.c.name).where(api_tokens.c.name == name, api_tokens.c.role != LOGIN)
        if connection.execute(taken.limit(1)).first() is not None:
            return None
        note(connection, TERMINAL, "token added", name, role)
        return _issue(connection, name, role, hours=None if days is None else 24 * days)

    token: str | None = database.write(job)
    if token is None:
        raise LimenError(f"token '{name}': exists already; remove it first with `limen study token remove`.")
    return token


def all_tokens(database: Database) -> Sequence[Row[Any]]:
    """List the tokens of scripts by name."""
    with database.read() as connection:
        query = select(api_tokens).where(api_tokens.c.role != LOGIN)
        return connection.execute(query.order_by(api_tokens.c.name)).all()


def remove_token(database: Database, name: str) -> None:
    """Remove a token; scripts that use it are refused from now on.

    Raises
    ------
    UnknownName
        If there is none of this name.
    """

    def job(connection: Connection) -> bool:
        wanted = delete(api_tokens).where(api_tokens.c.name == name, api_tokens.c.role != LOGIN)
        gone = connection.execute(wanted).rowcount > 0
        if gone:
            note(connection, TERMINAL, "token removed", name)
        return gone

    if not database.write(job):
        raise unknown("token", name, [row.name for row in all_tokens(database)])


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise unknown("account, role", role, list(ROLES))

"""Deletion tokens: with one, a person erases their own answers later, without saying who they are."""

from __future__ import annotations

import hmac
import re

from sqlalchemy import Connection, func, select

from bench.store import sha256_bytes

from ..recruitment.recruiter import ALPHABET
from ..storage.database import insert_once, one
from ..storage.tables import deletions

PREFIX = "ERASE"
GROUPS, LENGTH = 4, 5
"""20 characters of 30: 98 bits, which nobody guesses, so a token needs no slow hash and no limit on tries."""
KEPT = 50
"""Tokens of one session that are held: one for each bearer token that asked at the end."""


def deletion_token(bearer: str, session: str) -> str:
    """Derive the deletion token of a session from a bearer token, so that asking again after a reload gives it again.

    The server holds neither of the two, only their hashes: whoever reads the data base can erase nobody.
    """
    digest = hmac.digest(bearer.encode(), f"limen deletion/{session}".encode(), "sha256")
    number = int.from_bytes(digest, "big")
    drawn = ""
    for _ in range(GROUPS * LENGTH):
        number, place = divmod(number, len(ALPHABET))
        drawn += ALPHABET[place]
    return "-".join([PREFIX, *(drawn[i : i + LENGTH] for i in range(0, len(drawn), LENGTH))])


def stored(token: str) -> str:
    """Return what is stored of a deletion token, however a person has typed it."""
    plain = re.sub(r"[\s\-\u2010-\u2015]+", "", token).upper()
    return sha256_bytes(plain.removeprefix(PREFIX).encode())


def give(connection: Connection, session: str, bearer: str, *, now: float) -> str:
    """Return the deletion token of this bearer and remember its hash; '' if the session has as many as it may.

    No token that was ever given is forgotten.
    """
    token = deletion_token(bearer, session)
    hashed = stored(token)
    if one(connection, deletions, token_hash=hashed) is not None:
        return token
    count = select(func.count()).select_from(deletions).where(deletions.c.session == session)
    if connection.execute(count).scalar_one() >= KEPT:
        return ""
    insert_once(connection, deletions, {"token_hash": hashed, "session": session, "issued_at": now})
    return token


def session_of(connection: Connection, token: str) -> str | None:
    """Return the session that a deletion token erases, None if there is none (any more)."""
    held = one(connection, deletions, token_hash=stored(token))
    return None if held is None else str(held.session)

"""Who comes: the identity in an entry link, and where a person is sent at the end."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from urllib.parse import quote

from stimuli.records import Recruitment

PARAMETER = {"prolific": "PROLIFIC_PID", "mock": "PROLIFIC_PID", "link": "participant"}
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Characters of a code: none that is mistaken for another."""
MAX_ID = 200
OUTCOMES = {"complete": "", "manual": "-R", "screened_out": "-S", "no_consent": "-N", "full": "-F"}
"""How a visit can end -> the mark in the middle of its code; also the values of `codes.kind`."""
_NOBODY = {"", "undefined", "null", "none", "nan"}
_PLACEHOLDER = re.compile(r"[{}]|%7b|%7d", re.IGNORECASE)


class BadIdentity(Exception):
    """The entry link names nobody."""


def identify(recruitment: Recruitment, parameters: Mapping[str, str], client_id: str) -> tuple[str, str]:
    """Return (recruiter, recruiter id) of an entry link.

    Raises
    ------
    BadIdentity
        If the id is missing, empty, 'undefined', 'null', or a placeholder that was never filled in.
    """
    name = PARAMETER[recruitment.source]
    if recruitment.source == "link" and name not in parameters:
        return "link", f"client:{client_id}"
    given = parameters.get(name, "").strip()
    if len(given) > MAX_ID or given.lower() in _NOBODY or _PLACEHOLDER.search(given) or not given.isprintable():
        raise BadIdentity(f"This link lacks a valid {name}. Please open the study again from where you found it.")
    return recruitment.source, given


def new_code(recruitment: Recruitment, source: str, outcome: str = "complete") -> str:
    """Draw a completion code; codes for review, bots and previews can be told apart at sight."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(8))
    prefix = {"bot": "BOT", "preview": "PREVIEW"}.get(source, recruitment.code_prefix)
    return f"{prefix}{OUTCOMES[outcome]}-{drawn}"


def completion_url(recruitment: Recruitment, source: str, code: str) -> str | None:
    """Return where the recruiter wants a finished person sent, or None."""
    if recruitment.source == "prolific" and source in {"live", "pilot"}:
        return f"https://app.prolific.com/submissions/complete?cc={quote(code, safe='')}"
    return None

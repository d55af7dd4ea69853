"""Signed entry links: an id alone opens nobody's session where the study file says `recruitment.signed`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from bench.registry import LimenError
from stimuli.records import StudyFile

from .recruiter import BadIdentity, Recruiter, whole

SECRET = "LIMEN_LINK_SECRET"
"""Variable of the environment that holds the secret."""
SIGNATURE = "signature"
"""Parameter of the entry link that holds the signature."""
SHORTEST = 32
DRAWN_BYTES = 10


def link_secret(file: StudyFile, environment: Mapping[str, str]) -> bytes | None:
    """Return the secret that signs a study's entry links, None where they carry no signature.

    Raises
    ------
    LimenError
        If the study file asks for signatures and the environment has no secret, or a short one.
    """
    if not file.recruitment.signed:
        return None
    found = environment.get(SECRET, "")
    if len(found) < SHORTEST:
        raise LimenError(
            f"study {file.study}, recruitment.signed: {SECRET} has {len(found)} characters; allowed are {SHORTEST} or more "
            "in the environment, the same for `limen study links` and `limen study serve`."
        )
    return found.encode()


def sign(secret: bytes, study: str, person: str) -> str:
    """Return the signature of a person's link: HMAC-SHA256 over study id and person's id, 43 characters.

    References
    ----------
    RFC 2104; RFC 4648, section 5.
    """
    said = json.dumps(["limen entry link", study, person], ensure_ascii=True).encode()
    return base64.urlsafe_b64encode(hmac.new(secret, said, hashlib.sha256).digest()).rstrip(b"=").decode()


def check(secret: bytes, study: str, parameters: Mapping[str, str], name: str) -> None:
    """Refuse an entry link whose signature is not that of its id, in constant time.

    Parameters
    ----------
    name
        Parameter that holds the id.

    Raises
    ------
    BadIdentity
        If the id or the signature lacks, or they do not belong together.
    """
    person = whole(parameters.get(name, ""), name)
    given = parameters.get(SIGNATURE, "").strip().encode()
    if not hmac.compare_digest(sign(secret, study, person).encode(), given):
        raise BadIdentity("This link is not whole. Please open the study by the link that you were sent, unchanged.")


def draw_ids(number: int) -> list[str]:
    """Draw ids that nobody can guess."""
    return [base64.b32encode(secrets.token_bytes(DRAWN_BYTES)).decode().lower() for _ in range(number)]


def read_ids(lines: Iterable[str]) -> list[str]:
    """Read ids, one a line; empty lines are left out.

    Raises
    ------
    LimenError
        If a line can be nobody's id, or an id stands twice.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            person = whole(line, "id")
        except BadIdentity:
            raise LimenError(f"ids, line {number}: can be nobody's id; allowed are 1 to 200 printable signs.") from None
        if person in found:
            raise LimenError(f"ids, line {number}: is the id of line {found[person]} again; each may stand once.")
        found[person] = number
    if not found:
        raise LimenError("ids: the file has no line; allowed is one id a line.")
    return list(found)


def entry_links(
    file: StudyFile, recruiter: Recruiter, people: Iterable[str], *, secret: bytes | None, host: str
) -> list[tuple[str, str]]:
    """Return (id, link) for each person; links carry a signature where there is a secret."""
    made = []
    for person in people:
        query = {recruiter.parameter: person}
        if secret is not None:
            query[SIGNATURE] = sign(secret, file.study, person)
        made.append((person, f"{host.rstrip('/')}/study/{file.study}/?{urlencode(query)}"))
    return made

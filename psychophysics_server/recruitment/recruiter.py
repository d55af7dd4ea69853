"""Recruiters: who comes by a link, with which code a visit ends, and how a finished person gets back."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from bench.registry import LimenError, Registry
from bench.store import sha256_bytes
from stimuli.records import Recruitment

ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Characters of a code: none that is mistaken for another."""
MAX_ID = 200
OUTCOMES = {"complete": "", "manual": "-R", "screened_out": "-S", "no_consent": "-N", "full": "-F"}
"""How a visit can end -> the mark in the middle of a drawn code; also the values of `codes.kind`."""
RECRUITED = frozenset({"live", "pilot"})
"""Sources whose people a recruiter sent and pays."""
REOPENED = frozenset({"RETURNED", "REJECTED", "TIMED-OUT"})
"""Statuses (in our spelling) after which the recruiter sends someone else, so that the place is open again."""
_NOBODY = {"", "undefined", "null", "none", "nan", "nil", "[object object]", "anonymous"}
_PLACEHOLDER = re.compile(r"[{}]|%7b|%7d|%%", re.IGNORECASE)
RECRUITERS = Registry("recruiter", f"{__package__}.recruiters")


class BadIdentity(Exception):
    """The entry link names nobody, or not yet; the message is a sentence for the person."""


class BadWebhook(Exception):
    """A message that the recruiter did not sign, or signed too long ago, or that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who came, as their recruiter names them."""

    recruiter: str
    recruiter_id: str
    submission: str = ""
    """The recruiter's name of this visit, '' if it gives none."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Something a recruiter needs from the environment."""

    name: str
    what: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a recruiter told of one submission, by webhook or by poll."""

    event_id: str
    submission: str
    recruiter_id: str
    status: str
    """In our spelling: upper case, a space for '_' (AWAITING REVIEW), TIMED-OUT with a hyphen."""
    event_time: float


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form that a browser posts to hand a person back."""

    action: str
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Payable:
    """One line of a payment list."""

    recruiter_id: str
    submission: str
    item: str
    """approve, reject, or bonus."""
    amount: float | None = None
    reason: str = ""


class Opener(Protocol):
    """Fetch a JSON document with headers; raises LimenError if it cannot."""

    def __call__(self, url: str, headers: Mapping[str, str]) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Recruiter:
    """What every recruiter does; each file of `recruiters/` changes what differs.

    Attributes
    ----------
    name : registered name
    parameter : parameter of the entry link that holds the person's id
    visit : parameter that holds the id of this visit, '' if there is none
    query : what to paste behind the study's address at the recruiter
    environment : variables that the recruiter may read; secrets come from nowhere else
    """

    name: str
    parameter: str
    visit: str = ""
    query: str = ""
    needs: Sequence[Secret] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    guessable: bool = False
    """Whether ids are made by hand, so that somebody else's can be guessed."""
    codes: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Outcome -> the study's one code at the recruiter; outcomes that lack get a code drawn per person."""

    def identify(self, parameters: Mapping[str, str], client_id: str) -> Identity:
        """Read who comes from the entry link.

        Raises
        ------
        BadIdentity
            If an id is missing, empty, 'undefined', 'null', or a placeholder that was never filled in.
        """
        del client_id
        visit = parameters.get(self.visit, "").strip() if self.visit else ""
        return Identity(
            recruiter=self.name,
            recruiter_id=whole(parameters.get(self.parameter, ""), self.parameter),
            submission=whole(visit, self.visit) if visit else "",
        )

    def new_code(self, recruitment: Recruitment, source: str, outcome: str = "complete") -> str:
        """Return the code of a visit's end; codes for review, bots and previews can be told apart at sight."""
        if source in RECRUITED and outcome in self.codes:
            return self.codes[outcome]
        drawn = "".join(secrets.choice(ALPHABET) for _ in range(8))
        prefix = {"bot": "BOT", "preview": "PREVIEW"}.get(source, recruitment.code_prefix)
        return f"{prefix}{OUTCOMES[outcome]}-{drawn}"

    def full_code(self, recruitment: Recruitment, study: str) -> str:
        """Return the code of those for whom no place was left: one a study, since they have no session to keep it in.

        Parameters
        ----------
        study
            Key of the stimulus set.
        """
        if "full" in self.codes:
            return self.codes["full"]
        digest = bytes.fromhex(sha256_bytes(f"full/{study}".encode()))
        drawn = "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[:8])
        return f"{recruitment.code_prefix}{OUTCOMES['full']}-{drawn}"

    def completion_url(self, source: str, code: str) -> str | None:
        """Return where the recruiter wants a person with this code sent, or None."""
        del source, code
        return None

    def form(self, source: str, code: str, submission: str) -> Form | None:
        """Return the form that hands a person back to the recruiter, or None."""
        del source, code, submission
        return None

    @property
    def policy(self) -> Mapping[str, str]:
        """Sources that the content security policy must name: `form_action`, `frame_ancestors`."""
        return {}

    @property
    def listens(self) -> bool:
        """Whether webhooks are set up."""
        return False

    def receive(self, headers: Mapping[str, str], body: bytes, *, now: float) -> Told | None:
        """Check and read a webhook; None for messages that are not about a submission.

        Raises
        ------
        BadWebhook
            If it is not signed by the recruiter, or too old.
        """
        raise BadWebhook(f"{self.name} sends no webhooks")

    def poll(self, remote: str, opener: Opener, *, now: float) -> Iterator[Told]:
        """List the submissions of a study at the recruiter, all pages.

        Parameters
        ----------
        remote
            The recruiter's id of the study.

        Raises
        ------
        LimenError
            If this recruiter cannot be asked, or refuses.
        """
        raise LimenError(f"recruiter '{self.name}': cannot be polled; only 'prolific' can.")

    def payment_files(self, lists: Sequence[Payable]) -> dict[str, str]:
        """Return the payment lists in the recruiter's own format: file name -> text; empty lists make no file."""
        return plain_lists(lists, header=True)


def plain_lists(lists: Sequence[Payable], *, header: bool) -> dict[str, str]:
    """Lay payment lists out as CSV: ids to approve, ids with a reason to reject, `id,amount` for bonuses."""
    files = {
        "approve.csv": [[line.recruiter_id] for line in lists if line.item == "approve"],
        "reject.csv": [[line.recruiter_id, line.reason] for line in lists if line.item == "reject"],
        "bonus.csv": [[line.recruiter_id, money(line.amount)] for line in lists if line.item == "bonus"],
    }
    heads = {"approve.csv": ["id"], "reject.csv": ["id", "reason"], "bonus.csv": ["id", "amount"]}
    return {name: as_csv([heads[name], *rows] if header else rows) for name, rows in files.items() if rows}


def money(amount: float | None) -> str:
    """Write an amount with two decimals."""
    return f"{amount or 0.0:.2f}"


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as CSV text; a cell that a spreadsheet would run as a formula gets an apostrophe before it."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([[f"'{cell}" if cell[:1] in "=+-@\t\r" and cell[:1] else cell for cell in row] for row in rows])
    return stream.getvalue()


def whole(given: str, name: str) -> str:
    """Return an id as it is, if it can be someone's.

    Raises
    ------
    BadIdentity
        If it is empty, too long, not printable, says that nothing was known, or was never filled in.
    """
    text = given.strip()
    if len(text) > MAX_ID or text.lower() in _NOBODY or _PLACEHOLDER.search(text) or not text.isprintable():
        raise BadIdentity(f"This link lacks a valid {name}. Please open the study again from where you found it.")
    return text


def status_name(given: str) -> str:
    """Bring a recruiter's status into our spelling."""
    text = re.sub(r"[\s_]+", " ", given.strip().upper())
    return {"TIMED OUT": "TIMED-OUT"}.get(text, text)[:32]


def open_recruiter(name: str, environment: Mapping[str, str] | None = None) -> Recruiter:
    """Open a recruiter by its registered name.

    Parameters
    ----------
    environment
        Where it reads secrets; none if left out.

    Raises
    ------
    UnknownName
        If no file of `recruiters/` has this name.
    """
    build = cast("Callable[[Mapping[str, str]], Recruiter]", RECRUITERS.load(name))
    return build({} if environment is None else environment)


def required(recruiter: Recruiter) -> None:
    """Refuse to serve paid participants without what the recruiter needs.

    Raises
    ------
    LimenError
        Names every variable that the environment lacks.
    """
    lacking = [need for need in recruiter.needs if need.required and not recruiter.environment.get(need.name)]
    if lacking:
        raise LimenError(
            f"study, recruitment.source '{recruiter.name}': lacks the {' and the '.join(need.what for need in lacking)}; "
            f"set {', '.join(need.name for need in lacking)} in the environment, or work with --dev."
        )


def from_environment() -> dict[str, str]:
    """Return the variables that recruiters may read."""
    return {name: value.strip() for name, value in os.environ.items() if name.startswith("LIMEN_") and value.strip()}


def outcome_codes(prefix: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Read one code per outcome: PREFIX_CODE, PREFIX_SCREENED_OUT, PREFIX_NO_CONSENT, PREFIX_FULL, PREFIX_MANUAL."""
    names = {outcome: f"{prefix}_{'CODE' if outcome == 'complete' else outcome.upper()}" for outcome in OUTCOMES}
    return {outcome: environment[name] for outcome, name in names.items() if environment.get(name)}


def outcome_needs(prefix: str, what: str) -> tuple[Secret, ...]:
    """List those codes as needs; the one of finished people is required."""
    words = {
        "complete": "who finished",
        "screened_out": "who were screened out",
        "no_consent": "who did not consent",
        "full": "for whom no place was left",
        "manual": "whose answers could not be saved",
    }
    return tuple(
        Secret(
            name=f"{prefix}_{'CODE' if outcome == 'complete' else outcome.upper()}",
            what=f"{what} of people {words[outcome]}",
            required=outcome == "complete",
        )
        for outcome in words
    )

"""Prolific: URL parameters, one code an outcome, signed webhooks, a paged listing of submissions.

Verified (November 2026) in docs.prolific.com, API reference:

- webhooks/verifying: headers `X-Prolific-Request-Signature` and `X-Prolific-Request-Timestamp` (UNIX time of sending);
  the signature is base64(HMAC-SHA256(secret, timestamp + body)).
- webhooks/idempotency: `X-Event-ID` is the same in every delivery of an event. webhooks/order: `X-Timestamp` (UNIX) tells
  which of two events is newer; order is not promised. webhooks/retry: up to 11 more deliveries within 24 hours.
- webhooks/receiving: the body of `submission.status.change` has `resource_id` (the submission, which entry links call
  SESSION_ID), `participant_id` and `status`, but no study: a workspace's events are told apart by the submission.
- submissions/list: `GET /api/v1/submissions/?study=ID`, `Authorization: Token ...`, 20 a page unless `page_size` says more.
- studies/object: placeholders of the study URL. Completion address: `https://app.prolific.com/submissions/complete?cc=CODE`.

Known from Dallinger #9601 and PR #9606, not from the reference: answers carry `_links.next.href`, a page past the end is a
404, and a listing without `study` returns the whole account. Not verified: whether a second delivery is signed anew; the
window below allows for either.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from bench.registry import LimenError, registered

from ..recruiter import (
    RECRUITED,
    BadWebhook,
    Opener,
    Payable,
    Recruiter,
    Secret,
    Told,
    outcome_codes,
    outcome_needs,
    plain_lists,
    status_name,
)

API = "https://api.prolific.com"
PAGE = 100
MOST_PAGES = 1000
OLDEST_S = 25 * 3600.0
"""Prolific delivers again for 24 hours; older messages are refused."""
AHEAD_S = 300.0
"""How far Prolific's clock may run before ours."""


class Prolific(Recruiter):
    """https://app.prolific.com."""

    def completion_url(self, source: str, code: str) -> str | None:
        """Return the address that ends a submission with a code; codes that Prolific does not know lead nowhere."""
        if source not in RECRUITED or code not in self.codes.values():
            return None
        return f"https://app.prolific.com/submissions/complete?cc={quote(code, safe='')}"

    @property
    def listens(self) -> bool:
        """Whether the secret of the workspace's webhooks is known."""
        return bool(self.environment.get("LIMEN_PROLIFIC_WEBHOOK_SECRET"))

    def receive(self, headers: Mapping[str, str], body: bytes, *, now: float) -> Told | None:
        """Check the signature in constant time, then the age, then read the message.

        `X-Event-ID` and `X-Timestamp` are not signed, so an event counts as no newer than its signed time.
        """
        headers = {name.lower(): value for name, value in headers.items()}
        sent = headers.get("x-prolific-request-timestamp", "")
        signed = _seconds(sent)
        key = self.environment.get("LIMEN_PROLIFIC_WEBHOOK_SECRET", "").encode()
        expected = base64.b64encode(hmac.new(key, sent.encode() + body, hashlib.sha256).digest())
        given = headers.get("x-prolific-request-signature", "").strip().encode()
        if not key or not hmac.compare_digest(expected, given) or signed is None:
            raise BadWebhook("the signature does not fit the message")
        if not now - OLDEST_S <= signed <= now + AHEAD_S:
            raise BadWebhook("the message was signed too long ago")
        event_id = headers.get("x-event-id", "").strip()
        if not 0 < len(event_id) <= 80 or not event_id.isprintable():
            raise BadWebhook("the message has no X-Event-ID")
        told = _message(body)
        if told.get("event_type") != "submission.status.change":
            return None
        submission, status = told.get("resource_id"), told.get("status")
        if not isinstance(submission, str) or not isinstance(status, str) or not submission:
            raise BadWebhook("the message names no submission or status")
        stamped = _seconds(headers.get("x-timestamp", ""))
        return Told(
            event_id=event_id,
            submission=submission[:200],
            recruiter_id=str(told.get("participant_id") or "")[:200],
            status=status_name(status),
            event_time=signed if stamped is None else min(stamped, signed),
        )

    def payment_files(self, lists: Sequence[Payable]) -> dict[str, str]:
        """Give lists to paste: participant ids one a line, and `id,amount` without a head."""
        return plain_lists(lists, header=False)

    def poll(self, remote: str, opener: Opener, *, now: float) -> Iterator[Told]:
        """List a study's submissions; follows `next` to the last page and asks no other host."""
        token = self.environment.get("LIMEN_PROLIFIC_TOKEN", "")
        if not token or not remote:
            raise LimenError(
                "recruiter 'prolific': polling needs LIMEN_PROLIFIC_TOKEN and LIMEN_PROLIFIC_STUDY in the environment."
            )
        api = self.environment.get("LIMEN_PROLIFIC_API", API).rstrip("/")
        url = f"{api}/api/v1/submissions/?study={quote(remote, safe='')}&page_size={PAGE}&ordering=started_at"
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            seen.add(url)
            page = opener(url, {"Authorization": f"Token {token}"})
            if not isinstance(page, dict) or not isinstance(page.get("results"), list):
                raise LimenError("recruiter 'prolific': the listing has no 'results'; was the API changed?")
            for row in page["results"]:
                yield _submission(row, now)
            following = _next(page)
            if following is None:
                return
            url = urljoin(url, following)
            if urlsplit(url)[:2] != urlsplit(api)[:2] or url in seen:
                raise LimenError("recruiter 'prolific': the listing's 'next' leads elsewhere or in a circle.")
        raise LimenError(f"recruiter 'prolific': the listing has more than {MOST_PAGES} pages.")


def _seconds(text: str) -> float | None:
    """Read a UNIX time in seconds (or milliseconds)."""
    try:
        value = float(text.strip())
    except ValueError:
        return None
    if not 0 < value < 1e14:
        return None
    return value / 1000 if value > 1e11 else value


def _message(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise BadWebhook("the message is not JSON") from None
    if not isinstance(told, dict):
        raise BadWebhook("the message is not a JSON object")
    return told


def _next(page: Mapping[str, Any]) -> str | None:
    links = page.get("_links")
    following = links.get("next") if isinstance(links, dict) else page.get("next")
    href = following.get("href") if isinstance(following, dict) else following
    return href if isinstance(href, str) and href else None


def _submission(row: Any, now: float) -> Told:
    found = row if isinstance(row, dict) else {}
    submission = found.get("id")
    person = found.get("participant_id") or found.get("participant") or ""
    if not isinstance(submission, str) or not isinstance(found.get("status"), str):
        raise LimenError("recruiter 'prolific': a submission of the listing has no 'id' or 'status'.")
    return Told(
        event_id="",
        submission=submission[:200],
        recruiter_id=str(person)[:200],
        status=status_name(found["status"]),
        event_time=now,
    )


@registered("recruiter", version=1, citation="docs.prolific.com/api-reference")
def prolific(environment: Mapping[str, str]) -> Recruiter:
    """Take participants of a Prolific study; its codes, token and webhook secret come from the environment."""
    more = (
        Secret(name="LIMEN_PROLIFIC_WEBHOOK_SECRET", what="secret of the workspace's webhooks", required=False),
        Secret(name="LIMEN_PROLIFIC_TOKEN", what="API token, for `limen study poll`", required=False),
        Secret(name="LIMEN_PROLIFIC_STUDY", what="id of the study at Prolific, for `limen study poll`", required=False),
    )
    return Prolific(
        name="prolific",
        parameter="PROLIFIC_PID",
        visit="SESSION_ID",
        query="?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}",
        needs=(*outcome_needs("LIMEN_PROLIFIC", "completion code at Prolific"), *more),
        environment=environment,
        codes=outcome_codes("LIMEN_PROLIFIC", environment),
    )

"""Submissions that a server must refuse: each bot can try them all, and goes on only if each was refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..sessions.score import rule_of
from ..study.frozen import FrozenStudy, Trial
from .browser import Answer, Browser
from .journey import OffTheRails


@dataclass(frozen=True, kw_only=True)
class Case:
    """One submission and how it must be refused.

    Attributes
    ----------
    name : what is wrong with it
    submit : sends it
    refused : whether the answer refuses it
    """

    name: str
    submit: Callable[[], Answer]
    refused: Callable[[Answer], bool]


def _status(*allowed: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.status in allowed


def _kept_apart(answer: Answer) -> bool:
    """Whether an event was acknowledged, told of as faulty, and not judged."""
    body = answer.body
    return answer.status == 200 and len(body["faults"]) == 1 and not body["feedback"]


def cases(browser: Browser, study: FrozenStudy, trials: Mapping[str, Trial]) -> Iterator[Case]:
    """Yield every submission that must be refused of a person who has not answered a trial yet."""
    yield from _strangers(browser)
    yield from _malformed(browser)
    yield from _faulty(browser, study, trials)
    yield Case(
        name="the code before the trials",
        submit=browser.complete,
        refused=lambda answer: answer.status == 409 and answer.body["error"] == "incomplete",
    )
    for telling in (trial.trial_id for trial in trials.values() if rule_of(trial) is not None):
        yield Case(
            name="the own score before the trials",
            submit=lambda t=telling: browser.score(t),  # type: ignore[misc]
            refused=lambda answer: answer.status == 409 and answer.body["error"] == "early",
        )
    unknown = f"/stimuli/{'0' * 64}.png"
    yield Case(name="a picture of no study", submit=lambda: browser.request("GET", unknown), refused=_status(404))


def _strangers(browser: Browser) -> Iterator[Case]:
    """Yield requests with tokens that open nothing."""

    def with_token(token: str, method: str, path: str, body: Any = None) -> Answer:
        other = browser.window()
        other.token = token
        try:
            return other.request(method, path, body)
        finally:
            other.close()

    event = {"events": [{"seq": 1, "kind": "consent", "time": 1.0, "body": '{"accepted": true}'}]}
    forged = browser.token[:-1] + ("A" if browser.token[-1] != "A" else "B")
    for name, token in (("a forged token", forged), ("no token", ""), ("a session's name as token", browser.session)):
        for method, path, body in (("GET", "/api/session", None), ("POST", "/api/events", event)):
            yield Case(
                name=f"{method} {path} with {name}",
                submit=lambda t=token, m=method, p=path, b=body: with_token(t, m, p, b),  # type: ignore[misc]
                refused=_status(401),
            )


def _malformed(browser: Browser) -> Iterator[Case]:
    """Yield requests of the wrong shape."""
    right = {"seq": browser.next_seq, "kind": "focus", "time": 1.0, "body": "{}"}
    for name, wrong in (
        ("a seq of nought", {"seq": 0}),
        ("a seq that is text", {"seq": "1"}),
        ("an unknown kind", {"kind": "payment"}),
        ("a body that is no text", {"body": {}}),
        ("a key too many", {"paid": True}),
    ):
        body = {"events": [right | wrong]}
        yield Case(
            name=name,
            submit=lambda b=body: browser.request("POST", "/api/events", b),  # type: ignore[misc]
            refused=_status(400),
        )
    many = {"events": [right | {"seq": seq} for seq in range(1, 66)]}
    yield Case(
        name="too many events", submit=lambda: browser.request("POST", "/api/events", many), refused=_status(413)
    )


def _faulty(browser: Browser, study: FrozenStudy, trials: Mapping[str, Trial]) -> Iterator[Case]:
    """Yield events that are kept and told of, but can never count."""
    practice = next((trial for trial in trials.values() if trial.phase == "practice"), None)
    asked = next((trial for trial in trials.values() if trial.options), None)
    others = (trial for cell in study.trials.values() for trial in cell if trial.trial_id not in trials)
    other = next(others, None)
    bodies: list[tuple[str, dict[str, Any]]] = [("a trial of no study", {"trial_id": "t0", "response": ""})]
    if other is not None:
        response = other.options[0] if other.options else ""
        bodies.append(("a trial of another cell", {"trial_id": other.trial_id, "response": response}))
    if asked is not None:
        bodies.append(("an answer that is no option", {"trial_id": asked.trial_id, "response": "none of these"}))
    if practice is not None:
        beyond = {"trial_id": practice.trial_id, "attempt": study.attempts + 1}
        response = practice.options[0] if practice.options else ""
        bodies.append(("practice beyond its attempts", {**beyond, "response": response}))
    for name, body in bodies:
        yield Case(name=name, submit=lambda b=body: _say(browser, b), refused=_kept_apart)  # type: ignore[misc]


def _say(browser: Browser, body: dict[str, Any]) -> Answer:
    browser.note("trial", body)
    return browser.flush()


def try_all(browser: Browser, study: FrozenStudy, trials: Mapping[str, Trial], *, index: int) -> int:
    """Submit every case; returns how many were refused.

    Raises
    ------
    OffTheRails
        If one was taken.
    """
    count = 0
    for case in cases(browser, study, trials):
        answer = case.submit()
        if not case.refused(answer):
            said = json.dumps(answer.body)[:200]
            raise OffTheRails(f"bot {index}: {case.name} was not refused ({answer.status}: {said}).")
        count += 1
    return count

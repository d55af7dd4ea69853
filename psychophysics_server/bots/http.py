"""A simulated person takes a study over HTTP: practice, reloads, double submissions and drop-out included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.registry import LimenError

from ..frozen import FrozenStudy, Trial
from .browser import Answer, Browser
from .model import Psychometrics, Simulated, generator

TWICE_SHARE = 0.05
"""Share of submissions that a bot sends twice."""
RELOADS_LIMIT = 50


class OffTheRails(LimenError):
    """The server did something a person could not have gone on from."""


@dataclass(kw_only=True)
class Journey:
    """What became of one bot."""

    index: int
    session: str = ""
    condition: str = ""
    outcome: str = "open"
    """'complete', 'left' (dropped out as planned), 'full' or 'lost' (the server did not answer)."""
    code: str = ""
    careless: bool = False
    asked: int = 0
    right: int = 0
    """Test questions that are not catch trials, and right answers to them, as this bot remembers."""
    retries: int = 0
    conflicts: int = 0
    reloads: int = 0
    acknowledged: dict[int, str] = field(default_factory=dict)


class Bot:
    """One simulated person with a browser.

    Parameters
    ----------
    study
        The frozen study on this machine: the model reads right answers from it, the wire never gives them.
    """

    def __init__(self, study: FrozenStudy, model: Psychometrics, index: int, *, url: str, patience_s: float) -> None:
        name = f"bot-{model.seed}-{index:05d}"
        self.study = study
        self.model = model
        self.browser = Browser(url, study.file.study, name, patience_s=patience_s)
        self.journey = Journey(index=index)
        self._told: dict[str, str] = {}
        self._answered = 0
        self._reloaded = False

    def enter(self) -> None:
        """Open the session."""
        answer = self.browser.open()
        if answer.status == 403:
            self.journey.outcome = "full"
        elif answer.status not in {200, 201}:
            raise OffTheRails(f"bot {self.journey.index}: could not enter ({answer.status}: {answer.body}).")
        self.journey.session = self.browser.session

    def take(self) -> Journey:
        """Take the study to its end, or to where this person leaves."""
        if self.journey.outcome == "full":
            return self.journey
        try:
            self._take()
        finally:
            self.journey.acknowledged = self.browser.acknowledged
            self.journey.retries, self.journey.conflicts = self.browser.retries, self.browser.conflicts
            self.browser.close()
        return self.journey

    def _take(self) -> None:
        for _ in range(RELOADS_LIMIT):
            held = self._expect(self.browser.read(), 200).body
            if held["code"] is not None:
                self.journey.outcome, self.journey.code = "complete", held["code"]
                return
            cell, trials = self._recognise(held)
            person = self.model.person(self.journey.index, len(trials))
            self.journey.condition, self.journey.careless = cell, person.careless
            self._answered = max(self._answered, len(held["answered"]) + len(held["practice"]["answered"]))
            if person.drops_after is not None and self._answered >= person.drops_after:
                self.journey.outcome = "left"
                return
            self._pages(held)
            if self._walk(held, trials, person):
                return
            self.journey.reloads += 1
            self.browser.open()
            self._reloaded = True
        raise OffTheRails(f"bot {self.journey.index}: the study did not end.")

    def _recognise(self, held: dict[str, Any]) -> tuple[str, dict[str, Trial]]:
        """Find the cell whose trials these are, by comparing with the stimulus set on this machine."""
        shown = [(t["trial_id"], t["payload"]) for step in held["timeline"] for t in step.get("trials", ())]
        condition_of = {row.cell: row.condition for row in self.study.cells}
        for cell, trials in self.study.trials.items():
            if sorted(shown, key=lambda pair: pair[0]) == _payloads(trials):
                return condition_of[cell], {trial.trial_id: trial for trial in trials}
        raise OffTheRails(
            f"bot {self.journey.index}: the server shows trials that are not in stimulus set {self.study.key}; "
            "it serves another version."
        )

    def _pages(self, held: dict[str, Any]) -> None:
        if self._reloaded:
            self._note("resume", {"reason": "reload"}, after_ms=3000)
        if not held["done"]["consent"]:
            self._note("consent", {"accepted": True}, after_ms=12_000)
        if not held["done"]["instructions"]:
            self._note("instructions", {"viewed_ms": 30_000.0}, after_ms=30_000)

    def _walk(self, held: dict[str, Any], trials: dict[str, Trial], person: Simulated) -> bool:
        """Show what is open; True at the end or when this person left, False to open the study again."""
        practice, answered = held["practice"], set(held["answered"])
        for step in held["timeline"]:
            while step["step"] == "practice" and not practice["over"]:
                for shown in step["trials"]:
                    if practice["over"] or shown["trial_id"] in practice["answered"]:
                        continue
                    practice = self._trial(trials[shown["trial_id"]], person, practice["attempt"]).body["practice"]
                    if self._interrupted(person):
                        return self.journey.outcome == "left"
            for shown in step["trials"] if step["step"] == "block" else ():
                if shown["trial_id"] not in answered:
                    self._trial(trials[shown["trial_id"]], person, 1)
                    if self._interrupted(person):
                        return self.journey.outcome == "left"
            if step["step"] == "debrief" and not held["done"]["debrief"]:
                self._note("debrief", {}, after_ms=8000)
        done = self._expect(self.browser.complete(), 200).body
        self.journey.outcome, self.journey.code = "complete", done["code"]
        return True

    def _interrupted(self, person: Simulated) -> bool:
        self._answered += 1
        if self._answered == person.drops_after:
            self.journey.outcome = "left"
            return True
        return self._answered == person.reloads_after

    def _trial(self, trial: Trial, person: Simulated, attempt: int) -> Answer:
        told = self._told.get(trial.trial_id, "")
        response, rt = self.model.answer(person, trial, self.journey.condition, attempt, told)
        body = {
            "trial_id": trial.trial_id,
            "attempt": attempt,
            "response": response,
            "rt_ms": rt,
            "onset_ms": self.browser.clock_ms % 1e7,
            "frame_ms": 1000 / 60,
            "dropped_frames": 0,
            "input": "key" if response else "",
            "focus_lost": 0,
            "reservoir_ms": 0.0,
            "window": "1280x720",
            "pixel_ratio": 1.0,
        }
        answer = self._note("trial", body, after_ms=rt + 500, key=(trial.trial_id, attempt))
        for fact in answer.body["feedback"].values():
            self._told[trial.trial_id] = fact["expected"]
        if trial.phase == "test" and not trial.is_catch:
            self.journey.asked += 1
            self.journey.right += response == trial.expected
        return answer

    def _note(self, kind: str, body: dict[str, Any], *, after_ms: float, key: Sequence[object] = ()) -> Answer:
        self.browser.note(kind, body, after_ms=after_ms)
        draw = generator(self.model.seed, "twice", self.journey.index, kind, *key)
        return self._expect(self.browser.flush(twice=bool(draw.random() < TWICE_SHARE)), 200)

    def _expect(self, answer: Answer, status: int) -> Answer:
        if answer.status != status or answer.body.get("faults"):
            raise OffTheRails(f"bot {self.journey.index}: expected {status}, got {answer.status}: {answer.body}.")
        return answer


def _payloads(trials: Sequence[Trial]) -> list[tuple[str, Any]]:
    return sorted(((trial.trial_id, dict(trial.payload)) for trial in trials), key=lambda pair: pair[0])

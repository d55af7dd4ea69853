"""A simulated person takes a study as a browser would: quiz, practice, reloads, double submissions, drop-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from stimuli.records import Question

from ..sessions.score import TOLD, rule_of
from ..study.frozen import FrozenStudy, Trial
from .browser import Answer, Browser
from .journey import Habits, Journey, OffTheRails
from .model import Simulated, generator
from .refused import try_all
from .replies import Given

RELOADS_LIMIT = 50
DAY_MS = 86_400_000.0
HELD_BACK = 3
"""Events that a shuffling bot holds back and then sends in separate requests, the last first."""
ENDED = frozenset({"SCREENED_OUT", "FAILED", "EXPIRED", "WITHDRAWN"})
"""States in which a session is over without its trials."""


class Mind(Protocol):
    """What answers: a psychometric model or an observer."""

    seed: int
    about: Mapping[str, Any]
    """What the consent event says beside consent."""

    def person(self, index: int, trials: int, *, reload_share: float = 0.15) -> Simulated: ...

    def quiz(self, person: Simulated, questions: Sequence[Question], attempt: int) -> list[str]: ...

    def answer(
        self, person: Simulated, trial: Trial, condition: str, attempt: int, told: str = ""
    ) -> Given: ...  # fmt: skip


class Bot:
    """One simulated person with a browser.

    Parameters
    ----------
    study
        The frozen study on this machine: the model reads right answers from it, the wire never gives them.
    mind
        What answers.
    browser
        Carries the answers: over HTTP, or straight into the data base.
    """

    def __init__(self, study: FrozenStudy, mind: Mind, index: int, browser: Browser, habits: Habits) -> None:
        self.study = study
        self.mind = mind
        self.browser = browser
        self.habits = habits
        self.journey = Journey(index=index)
        self._told: dict[str, str] = {}
        self._answered = 0
        self._reloaded = False
        self._holding = False
        self._tried = not habits.must_fail

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
            self._send()
            held = self._expect(self.browser.read(), 200).body
            if self._over(held):
                return
            cell, trials = self._recognise(held)
            person = self.mind.person(self.journey.index, len(trials), reload_share=self.habits.reloads)
            self.journey.condition, self.journey.careless = cell, person.careless
            self._answered = max(self._answered, len(held["answered"]) + len(held["practice"]["answered"]))
            if person.drops_after is not None and self._answered >= person.drops_after:
                self.journey.outcome = "left"
                return
            if self._pages(held, trials, person) and self._walk(held, trials, person):
                return
            if self.journey.outcome == "open" and self._reopen_wanted:
                self.journey.reloads += 1
                self.browser.open()
                self._reloaded = True
        raise OffTheRails(f"bot {self.journey.index}: the study did not end.")

    def _over(self, held: Mapping[str, Any]) -> bool:
        """Note how the session ended, if it has."""
        if held["code"] is not None and held["state"] == "COMPLETE":
            self.journey.outcome, self.journey.code = "complete", held["code"]
            return True
        if held["state"] in ENDED:
            self.journey.outcome, self.journey.code = held["state"].lower(), held["code"] or ""
            return True
        return False

    def _recognise(self, held: Mapping[str, Any]) -> tuple[str, dict[str, Trial]]:
        """Find the cell whose trials these are, by comparing with the stimulus set on this machine."""
        shown = {t["trial_id"]: t["payload"] for step in held["timeline"] for t in step.get("trials", ())}
        condition_of = {row.cell: row.condition for row in self.study.cells}
        for cell, index in self.study.trial_index.items():
            if index.keys() == shown.keys() and all(index[name].payload == shown[name] for name in shown):
                return condition_of[cell], dict(index)
        raise OffTheRails(
            f"bot {self.journey.index}: the server shows trials that are not in stimulus set {self.study.key}; "
            "it serves another version."
        )

    def _pages(self, held: Mapping[str, Any], trials: Mapping[str, Trial], person: Simulated) -> bool:
        """Read the pages before the trials and answer the questions; False if the study must be read again."""
        self._reopen_wanted = False
        if self._reloaded:
            self._reloaded = False
            self._note("resume", {"reason": "reload"}, after_ms=3000, now=True)
            return False
        if not held["done"]["consent"]:
            self._note("consent", {"accepted": True, **self.mind.about}, after_ms=12_000)
        if not held["done"]["instructions"]:
            self._note("instructions", {"viewed_ms": 30_000.0}, after_ms=30_000)
        quiz = held.get("quiz") or {"over": True}
        texts = self.study.file.texts
        if not quiz["over"] and texts is not None:
            answers = self.mind.quiz(person, texts.quiz, quiz["attempt"])
            self._note("quiz", {"attempt": quiz["attempt"], "answers": answers}, after_ms=20_000, now=True)
            return False
        if not self._tried and self._answered == 0:
            self._tried = True
            self.journey.refused = try_all(self.browser, self.study, trials, index=self.journey.index)
        return True

    def _walk(self, held: Mapping[str, Any], trials: Mapping[str, Trial], person: Simulated) -> bool:
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
                    self._trial(trials[shown["trial_id"]], person, step.get("attempt", 1))
                    if self._interrupted(person):
                        return self.journey.outcome == "left"
            if step["step"] == "debrief" and not held["done"]["debrief"]:
                self._note("debrief", {}, after_ms=8000)
        self._send()
        done = self._expect(self.browser.complete(), 200).body
        self.journey.outcome, self.journey.code = "complete", done["code"]
        return True

    def _interrupted(self, person: Simulated) -> bool:
        self._answered += 1
        leaves, reopens = self._answered == person.drops_after, self._answered == person.reloads_after
        if leaves or reopens:
            self._reopen_wanted = reopens and not leaves
            closes = generator(self.mind.seed, "closed", self.journey.index).random() < self.habits.closed
            if leaves or not closes:
                self._send()
        if leaves:
            self.journey.outcome = "left"
        return leaves or reopens

    def _trial(self, trial: Trial, person: Simulated, attempt: int) -> Answer:
        told = self._told.get(trial.trial_id, "")
        shown, score = self._filled(trial)
        given = self.mind.answer(person, shown, self.journey.condition, attempt, told)
        body = {
            "trial_id": trial.trial_id,
            "attempt": attempt,
            **given.body(),
            **score,
            "onset_ms": self.browser.clock_ms % 1e7,
            "frame_ms": 1000 / 60,
            "dropped_frames": 0,
            "input": "key" if given.response else "",
            "focus_lost": 0,
            "reservoir_ms": 0.0,
            "window": "1280x720",
            "pixel_ratio": 1.0,
        }
        key, practising = (trial.trial_id, attempt), trial.phase == "practice"
        told_at_once = practising or trial.payload.get("feedback") is True
        answer = self._note("trial", body, after_ms=given.rt_ms + 500, key=key, now=told_at_once)
        for fact in (answer.body.get("feedback") or {}).values():
            self._told[trial.trial_id] = fact["expected"]
        if trial.phase == "test" and not trial.is_catch and trial.asks:
            self.journey.asked += 1
            self.journey.right += given.response in trial.accepted
        return answer

    def _filled(self, trial: Trial) -> tuple[Trial, dict[str, Any]]:
        """Return a trial as it is shown, and what the answer to it says of the person's own score."""
        if rule_of(trial) is None:
            return trial, {}
        self._send()
        told = self._expect(self.browser.score(trial.trial_id), 200).body
        return replace(trial, payload=told["payload"]), {TOLD: {name: told[name] for name in ("right", "asked")}}

    def _note(
        self, kind: str, body: dict[str, Any], *, after_ms: float, key: Sequence[object] = (), now: bool = False
    ) -> Answer:
        """Put an event into the outbox, and send what has gathered there when it is time to."""
        draws = generator(self.mind.seed, "habits", self.journey.index, kind, *key)
        twice, held, raced, jumps = draws.random(4)
        if jumps < self.habits.clock:
            self.browser.clock_ms += float(draws.uniform(-DAY_MS, DAY_MS))
        self.browser.note(kind, body, after_ms=after_ms)
        if now:
            return self._send()
        self._holding |= bool(held < self.habits.shuffled)
        if len(self.browser.outbox) < (HELD_BACK if self._holding else self.habits.batch):
            return Answer(200, {})
        return self._send(twice=twice < self.habits.twice, raced=raced < self.habits.tabs)

    _reopen_wanted = False

    def _send(self, *, twice: bool = False, raced: bool = False) -> Answer:
        """Send the outbox until it is empty; return what the answers said together."""
        backwards, self._holding = self._holding, False
        told: dict[str, Any] = {"feedback": {}, "practice": None}
        while self.browser.outbox:
            first = self.browser.outbox[0]["seq"]
            answers = self.browser.flush_backwards() if backwards else [self.browser.flush(twice=twice)]
            for answer in answers:
                body = self._expect(answer, 200).body
                told["feedback"] |= body["feedback"]
                told["practice"] = body["practice"] or told["practice"]
            if raced:
                self._race(first)
        return Answer(200, told)

    def _race(self, seq: int) -> None:
        """Say something else under a seq that is taken, from a second window; it must be told so."""
        other = self.browser.window()
        try:
            other.open()
            answer = other.say_at(seq, "focus", {"what": "blur"})
        finally:
            other.close()
            self.browser.retries += other.retries
        if answer.status != 409 or answer.body.get("conflicts") != [seq]:
            raise OffTheRails(f"bot {self.journey.index}: a conflict was answered {answer.status}: {answer.body}.")
        self.journey.raced += 1

    def _expect(self, answer: Answer, status: int) -> Answer:
        if answer.status != status or answer.body.get("faults"):
            raise OffTheRails(f"bot {self.journey.index}: expected {status}, got {answer.status}: {answer.body}.")
        return answer


MakeBrowser = Callable[[str], Browser]
"""From a bot's name to the browser that carries its answers."""

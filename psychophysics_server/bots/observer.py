"""A network as an observer: it takes a study through the same schedule as people, and leaves the same rows."""

from __future__ import annotations

import csv
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.registry import LimenError, unknown
from stimuli.records import Question
from stimuli.trials import Choice, Draw, ForcedChoice, Reveal, pictures_of

from ..storage.database import Database
from ..study.frozen import FrozenStudy, Trial
from .fleet import MAX_BATCH, inside
from .journey import Habits, Journey
from .model import Simulated
from .replies import Given, on_scale

SOURCE = "network"
"""What the rows of observers say; no analysis pools them with people or simulated people."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an observer is shown of one trial: what a person's browser gets, with the pictures as files.

    Attributes
    ----------
    trial_id : the trial's opaque name
    trial_type, phase : see `stimuli.trials`
    payload : what the browser may see; pictures are named by their SHA-256
    pictures : SHA-256 -> PNG file
    options : the answers that can be given, in displayed order; () where nothing is asked (training)
    told : in later attempts at practice, the right answer that feedback gave; else ''
    """

    trial_id: str
    trial_type: str
    phase: str
    payload: Mapping[str, Any]
    pictures: Mapping[str, Path]
    options: tuple[str, ...]
    told: str = ""


Observer = Callable[[Seen], tuple[Any, float | None]]
"""Returns the response and a confidence in [0, 1].

The response is an option's id, a free answer, strokes `[[ms, x, y], ...]`, or the strokes of a drawing, a list of those.
"""


class Observed:
    """The mind of one network over sessions: it never drops out, and meets trials in the order of its schedule.

    Parameters
    ----------
    make
        Called once a session; gives the observer of that session, which may learn from the trials it is shown.
    """

    def __init__(self, study: FrozenStudy, make: Callable[[], Observer], *, name: str) -> None:
        self.study = study
        self.seed = 0
        self.name = name
        self.about: Mapping[str, Any] = {"observer": name}
        self._make = make
        self._observers: dict[int, Observer] = {}

    def person(self, index: int, trials: int, *, reload_share: float = 0.0) -> Simulated:
        """Return somebody who stays to the end."""
        self._observers.setdefault(index, self._make())
        return Simulated(index=index, ability=0.0, careless=False, drops_after=None, reloads_after=None)

    def quiz(self, person: Simulated, questions: Sequence[Question], attempt: int) -> list[str]:
        """Answer the comprehension questions rightly: they are about instructions for people."""
        return [question.answer for question in questions]

    def answer(self, person: Simulated, trial: Trial, condition: str, attempt: int, told: str = "") -> Given:
        """Show a trial to the observer and check what it says."""
        pictures = {name: self.study.pictures[name] for name in pictures_of(trial.payload)}
        seen = Seen(
            trial_id=trial.trial_id,
            trial_type=trial.trial_type,
            phase=trial.phase,
            payload=trial.payload,
            pictures=pictures,
            options=trial.options,
            told=told,
        )
        start = time.perf_counter()
        response, confidence = self._observers[person.index](seen)
        given = self._given(trial, response, confidence, 1000 * (time.perf_counter() - start))
        fault = trial.shown.fault(given.response, given.body())
        if fault:
            raise LimenError(f"observer {self.name}, trial {trial.trial_id}, response '{response}': {fault}.")
        return given

    def _given(self, trial: Trial, response: Any, confidence: float | None, rt_ms: float) -> Given:
        shown = trial.shown
        if isinstance(shown, Reveal):
            return Given(response="done", rt_ms=rt_ms, strokes=[list(map(float, stroke)) for stroke in response])
        if isinstance(shown, Draw):
            return Given(
                response="done", rt_ms=rt_ms, strokes=[[list(map(float, point)) for point in one] for one in response]
            )
        if not trial.options and not (isinstance(shown, Choice) and shown.entry is not None):
            return Given(response="", rt_ms=rt_ms)
        text = "" if trial.options else str(response)
        chosen = str(response) if trial.options else ""
        asked = shown.confidence if isinstance(shown, Choice | ForcedChoice) else None
        level = (
            None if asked is None else on_scale(asked, 0.5 if confidence is None else min(max(confidence, 0.0), 1.0))
        )
        return Given(response=chosen, rt_ms=rt_ms, confidence=level, text=text)


def observe(
    study: FrozenStudy,
    database: Database,
    make: Callable[[], Observer],
    *,
    name: str,
    n: int,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let a network take a study `n` times; sessions are spread over the cells as people are.

    Their rows have the source 'network', and the consent event of each session names the network.

    Parameters
    ----------
    make
        Gives the observer of one session.
    name
        What the network is called.
    n
        Sessions; the number of cells visits each once.
    """
    habits = Habits(twice=0.0, reloads=0.0, batch=MAX_BATCH)
    return inside(study, database, Observed(study, make, name=name), n=n, habits=habits, source=SOURCE, tick=tick)


def load_observer(named: str) -> Callable[[], Observer]:
    """Return what makes observers from `module:name`; a class is made anew for each session, a function is shared.

    Raises
    ------
    LimenError
        If there is no such module or name.
    """
    module_name, _, name = named.partition(":")
    if not module_name or not name:
        raise LimenError(f"observer '{named}': not of the form module:function.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise LimenError(f"observer '{named}': no module '{error.name}' on the path or in {Path.cwd()}.") from None
    if not hasattr(module, name):
        known = [known for known in vars(module) if not known.startswith("_")]
        raise unknown(f"observer module {module_name}", name, known)
    found = getattr(module, name)
    return found if isinstance(found, type) else lambda: found


class Written:
    """An observer whose answers were written down before: a CSV with `response`, perhaps `confidence` (0 to 1), and a key.

    The key is `trial_id` (of the stimulus set's trials.parquet) or `item_id` (the same answer wherever the item is shown).

    Raises
    ------
    LimenError
        If the file cannot be read, lacks a column, or says two things of one trial.
    """

    def __init__(self, path: Path, study: FrozenStudy) -> None:
        self.path = path
        rows = _read(path)
        columns = set(rows[0]) if rows else set()
        self._key = next((name for name in ("trial_id", "item_id") if name in columns), "")
        if not self._key or "response" not in columns:
            given = ", ".join(sorted(columns)) or "none"
            raise LimenError(f"{path}: given columns {given}; needed are 'response' and one of trial_id, item_id.")
        self._answers: dict[str, tuple[str, float | None]] = {}
        for row in rows:
            said = (row["response"], float(row["confidence"]) if row.get("confidence") else None)
            if self._answers.setdefault(row[self._key], said) != said:
                raise LimenError(f"{path}: {self._key} '{row[self._key]}' has two answers.")
        trials = [trial for cell in study.trials.values() for trial in cell]
        self._keys = {trial.trial_id: getattr(trial, self._key) for trial in trials}
        self._rights = {trial.trial_id: trial.expected for trial in trials if trial.phase == "practice"}
        lacking = [t.trial_id for t in trials if t.phase == "test" and getattr(t, self._key) not in self._answers]
        if lacking:
            raise LimenError(f"{path}: {len(lacking)} test trials have no answer, the first is '{lacking[0]}'.")

    def __call__(self, seen: Seen) -> tuple[Any, float | None]:
        """Return what was written of a trial; practice that was not written is passed."""
        passed = (self._rights.get(seen.trial_id, ""), None)
        return self._answers.get(self._keys[seen.trial_id], passed)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise LimenError(f"{path}: cannot be read ({error}).") from None

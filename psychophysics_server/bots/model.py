"""The stated psychometric model: what a simulated person answers, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.registry import LimenError, unknown
from bench.store import sha256_bytes
from stimuli.records import Bots, Question
from stimuli.trials import Choice, Draw, ForcedChoice, Reveal

from ..study.frozen import FrozenStudy, Trial
from .attention import attentive
from .drawings import drawn
from .replies import CLICKS, Given, certainty, entry, hurried, on_scale, rating, walk

CARELESS_SPEED = 0.25
"""A careless person's response times are this share of the others'."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """One simulated person, drawn once; every later draw is keyed by person and trial, so order changes nothing."""

    index: int
    ability: float
    careless: bool
    drops_after: int | None
    """Number of answered trials after which this person leaves for good; None = stays."""
    reloads_after: int | None
    """Number of answered trials after which this person re-opens the study; None = never."""


def generator(seed: int, *key: object) -> np.random.Generator:
    """Return a generator that depends on its key and on nothing else."""
    digest = sha256_bytes("/".join(map(str, (seed, *key))).encode())
    return np.random.Generator(np.random.PCG64(int(digest[:16], 16)))


def success(accuracy: float, *, person: float, item: float, lapse: float, options: int) -> float:
    """Return P(correct) = (1 - lapse) * logistic(logit(accuracy) + person + item) + lapse / options.

    Parameters
    ----------
    accuracy
        Stated accuracy of the condition and session, for the median person and item, before lapses.
    person, item
        Their random effects, in logits; the shifts of the trial's factors are part of the item's.
    lapse
        Share of trials answered at random.
    options
        Number of answers to choose from.
    """
    edge = 1e-9
    share = min(max(accuracy, edge), 1 - edge)
    logit = math.log(share / (1 - share)) + person + item
    return (1 - lapse) / (1 + math.exp(-logit)) + lapse / options


class Psychometrics:
    """The model of `StudyFile.bots` on one frozen study.

    A bot has to be right with a stated probability, so this model reads the right answers from the stimulus set on
    disk; over the wire a bot gets what a browser gets.

    Where a trial has no right answer, the same probability is a level: of a rating, its place on the scale; of a
    choice between two, how often the second option is taken. Reveal rounds with an oracle are won with it; what is
    uncovered follows `attention`. A drawing is of what the exemplar shows with it, else of something else.

    Raises
    ------
    LimenError
        If the study states no model, a condition or session lacks its accuracy, an effect names a factor or a
        level that no trial carries, or a slope a factor that is not numeric.
    """

    def __init__(self, study: FrozenStudy, *, seed: int, bots: Bots | None = None) -> None:
        stated = bots or study.file.bots
        if stated is None:
            raise LimenError(f"study {study.file.study}, key 'bots': nothing was given; state the model of its bots.")
        self.bots = stated
        self.seed = seed
        self.about: Mapping[str, object] = {}
        self._pictures = study.pictures
        self._ease: dict[str, float] = {}
        last = max((trial.session for trials in study.trials.values() for trial in trials), default=0)
        for condition in study.conditions:
            if condition not in stated.accuracy:
                raise unknown(f"study {study.file.study}, key 'bots.accuracy', condition", condition, stated.accuracy)
            if len(stated.accuracy[condition]) < last:
                raise LimenError(
                    f"study {study.file.study}, key 'bots.accuracy.{condition}': given "
                    f"{len(stated.accuracy[condition])} sessions, the study has {last}."
                )
        for condition in stated.attention:
            if condition not in study.conditions:
                raise unknown(f"study {study.file.study}, key 'bots.attention', condition", condition, study.conditions)
        _check_effects(study, stated.effects)
        _check_slopes(study, stated.slopes)

    def person(self, index: int, trials: int, *, reload_share: float = 0.15) -> Simulated:
        """Draw one person for a schedule of `trials` trials."""
        draw = generator(self.seed, "person", index)
        ability = float(draw.normal(0, self.bots.participant_sd))
        careless, drops, reloads = draw.random(3) < (self.bots.careless_share, self.bots.dropout_share, reload_share)
        leaves, reopens = (int(value) for value in draw.integers(1, max(trials, 2), 2))
        return Simulated(
            index=index,
            ability=ability,
            careless=bool(careless),
            drops_after=leaves if drops else None,
            reloads_after=reopens if reloads else None,
        )

    def ease(self, item_id: str) -> float:
        """Return the random effect of an item, the same for everyone."""
        if item_id not in self._ease:
            self._ease[item_id] = float(generator(self.seed, "item", item_id).normal(0, self.bots.item_sd))
        return self._ease[item_id]

    def shift(self, trial: Trial) -> float:
        """Return the sum of the stated effects and slopes of a trial's factors, in logits."""
        sloped = sum(slope * float(trial.factors.get(factor) or 0) for factor, slope in self.bots.slopes.items())
        return sloped + sum(
            levels[_level(trial.factors[factor])]
            for factor, levels in self.bots.effects.items()
            if factor in trial.factors and _level(trial.factors[factor]) in levels
        )

    def probability(self, person: Simulated, trial: Trial, condition: str) -> float:
        """Return P(correct) of one person on one trial."""
        options = max(len(trial.options), 1)
        if person.careless:
            return 1 / options
        if trial.is_catch or trial.phase != "test":
            return self.bots.catch_accuracy
        return success(
            self.bots.accuracy[condition][max(trial.session, 1) - 1],
            person=person.ability,
            item=self.ease(trial.item_id) + self.shift(trial),
            lapse=self.bots.lapse,
            options=options,
        )

    def quiz(self, person: Simulated, questions: Sequence[Question], attempt: int) -> list[str]:
        """Answer the comprehension questions: each right as often as a catch trial, by the careless at random."""
        draw = generator(self.seed, "quiz", person.index, attempt)
        return [
            str(draw.choice(question.options))
            if person.careless or draw.random() >= self.bots.catch_accuracy
            else question.answer
            for question in questions
        ]

    def answer(self, person: Simulated, trial: Trial, condition: str, attempt: int, told: str = "") -> Given:
        """Return the reply to a trial; `told` is the answer that feedback gave in an earlier attempt."""
        draw = generator(self.seed, "answer", person.index, trial.trial_id, attempt)
        speed = CARELESS_SPEED if person.careless else 1.0
        rt = speed * self.bots.rt_median_ms * math.exp(draw.normal(0, self.bots.rt_log_sd))
        chance = self.probability(person, trial, condition)
        shown = trial.shown
        if isinstance(shown, Reveal):
            attention = 0.0 if person.careless else self.bots.attention.get(condition, 0.0)
            return self._reveal(shown, chance, rt, draw, attention=attention)
        if isinstance(shown, Draw):
            right = not person.careless and draw.random() < chance
            strokes = drawn(shown, trial.item_id, draw, right=bool(right))
            return Given(response="done", rt_ms=max(rt, shown.exemplar_ms + strokes[-1][-1][0]), strokes=strokes)
        response = self._choose(person, trial, chance, told, draw)
        given = Given(response=response, rt_ms=rt)
        if isinstance(shown, Choice | ForcedChoice):
            return self._beside(shown, trial, given, chance, draw)
        return given

    def _choose(self, person: Simulated, trial: Trial, chance: float, told: str, draw: np.random.Generator) -> str:
        options = trial.options
        if not options:
            return ""
        if told and not person.careless:
            return told
        if not trial.asks:
            scale = isinstance(trial.shown, Choice) and trial.shown.layout == "scale"
            if person.careless or (not scale and len(options) != 2) or trial.phase != "test":
                return str(draw.choice(options))
            return rating(options, chance, draw) if scale else options[int(draw.random() < chance)]
        if draw.random() < chance:
            return str(draw.choice(trial.accepted)) if len(trial.accepted) > 1 else trial.expected
        others = [option for option in options if option not in trial.accepted]
        return str(draw.choice(others)) if others else trial.expected

    def _beside(
        self, shown: Choice | ForcedChoice, trial: Trial, given: Given, chance: float, draw: np.random.Generator
    ) -> Given:
        """Add what this trial asks for beside the choice."""
        response, rt, late, changes, confidence, text = given.response, given.rt_ms, False, 0, None, ""
        if isinstance(shown, Choice) and shown.speed is not None:
            rt, late, changes = hurried(shown.speed, rt, draw)
            response = "na" if late else response
        if shown.confidence is not None and not late:
            correct = response in trial.accepted if trial.asks else None
            confidence = on_scale(shown.confidence, certainty(chance, 1 / max(len(trial.options), 1), correct, draw))
        if isinstance(shown, Choice) and shown.entry is not None and not late:
            text = entry(shown.entry, draw)
        return Given(
            response=response, rt_ms=rt, confidence=confidence, text=text, timed_out=late, changes=changes
        )  # fmt: skip

    def _reveal(self, shown: Reveal, chance: float, rt: float, draw: np.random.Generator, *, attention: float) -> Given:
        def strokes(boxes: int, start_ms: float = 0.0) -> list[list[float]]:
            if attention:
                return attentive(shown, self._pictures[shown.image], boxes, draw, attention=attention)
            return walk(shown, boxes, draw, start_ms=start_ms)

        if shown.mode == "click":
            marks = strokes(int(draw.integers(CLICKS[0], CLICKS[1] + 1)), shown.lockout_ms)
            return Given(response="done", rt_ms=max(rt, marks[-1][0]), strokes=marks)
        won = shown.oracle and bool(draw.random() < chance)
        spent = min(rt, shown.limit_ms - shown.sample_ms) if won else float(shown.limit_ms)
        boxes = strokes(max(1, int(spent // shown.sample_ms)))
        return Given(response="won" if won else "timeout", rt_ms=max(spent, boxes[-1][0]), strokes=boxes)


def _level(value: object) -> str:
    """Return a factor's level as the study file writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_effects(study: FrozenStudy, effects: Mapping[str, Mapping[str, float]]) -> None:
    carried: dict[str, set[str]] = {}
    for trials in study.trials.values() if effects else ():
        for trial in trials:
            for factor, value in trial.factors.items():
                carried.setdefault(factor, set()).add(_level(value))
    for factor, levels in effects.items():
        if factor not in carried:
            raise unknown(f"study {study.file.study}, key 'bots.effects', factor", factor, sorted(carried))
        for level in levels:
            if level not in carried[factor]:
                where = f"study {study.file.study}, key 'bots.effects.{factor}', level"
                raise unknown(where, level, sorted(carried[factor]))


def _check_slopes(study: FrozenStudy, slopes: Mapping[str, float]) -> None:
    numeric = [factor.name for factor in study.factors if factor.type == "number"] if slopes else []
    for factor in slopes:
        if factor not in numeric:
            raise unknown(f"study {study.file.study}, key 'bots.slopes', numeric factor", factor, numeric)

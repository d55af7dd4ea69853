"""The stated psychometric model: what a simulated person answers, and how long it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.registry import LimenError, unknown
from bench.store import sha256_bytes
from stimuli.records import Bots

from ..frozen import FrozenStudy, Trial

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
    return np.random.default_rng(int(digest[:16], 16))


def success(accuracy: float, *, person: float, item: float, lapse: float, options: int) -> float:
    """Return P(correct) = (1 - lapse) * logistic(logit(accuracy) + person + item) + lapse / options.

    Parameters
    ----------
    accuracy
        Stated accuracy of the condition and session, for the median person and item, before lapses.
    person, item
        Their random effects, in logits.
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

    Raises
    ------
    LimenError
        If the study states no model, or a condition or session lacks its accuracy.
    """

    def __init__(self, study: FrozenStudy, *, seed: int, bots: Bots | None = None) -> None:
        stated = bots or study.file.bots
        if stated is None:
            raise LimenError(f"study {study.file.study}, key 'bots': nothing was given; state the model of its bots.")
        self.bots = stated
        self.seed = seed
        last = max((trial.session for trials in study.trials.values() for trial in trials), default=0)
        for condition in study.conditions:
            if condition not in stated.accuracy:
                raise unknown(f"study {study.file.study}, key 'bots.accuracy', condition", condition, stated.accuracy)
            if len(stated.accuracy[condition]) < last:
                raise LimenError(
                    f"study {study.file.study}, key 'bots.accuracy.{condition}': given "
                    f"{len(stated.accuracy[condition])} sessions, the study has {last}."
                )

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
        return float(generator(self.seed, "item", item_id).normal(0, self.bots.item_sd))

    def probability(self, person: Simulated, trial: Trial, condition: str) -> float:
        """Return P(correct) of one person on one trial."""
        if person.careless:
            return 1 / len(trial.options)
        if trial.is_catch or trial.phase != "test":
            return self.bots.catch_accuracy
        return success(
            self.bots.accuracy[condition][trial.session - 1],
            person=person.ability,
            item=self.ease(trial.item_id),
            lapse=self.bots.lapse,
            options=len(trial.options),
        )

    def answer(
        self, person: Simulated, trial: Trial, condition: str, attempt: int, told: str = ""
    ) -> tuple[str, float]:
        """Return (response, response time in ms); `told` is the answer that feedback gave in an earlier attempt."""
        draw = generator(self.seed, "answer", person.index, trial.trial_id, attempt)
        speed = CARELESS_SPEED if person.careless else 1.0
        rt = speed * self.bots.rt_median_ms * math.exp(draw.normal(0, self.bots.rt_log_sd))
        if not trial.options:
            return "", rt
        if told and not person.careless:
            return told, rt
        if not trial.asks:
            return str(draw.choice(trial.options)), rt
        if draw.random() < self.probability(person, trial, condition):
            return trial.expected, rt
        others = [option for option in trial.options if option != trial.expected]
        return (str(draw.choice(others)) if others else trial.expected), rt

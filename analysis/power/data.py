"""Simulated answers for a power analysis: assumed accuracies and random effects, and data sets of any size drawn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize, special

from bench.registry import LimenError, unknown

from ..mixed_models.margins import population_accuracy
from .rules import answers_of_blocks, right
from .shape import Shape

DEFAULT_SD = {"participant": 0.6, "item": 0.7, "rule": 0.7, "slope": 0.4}
"""Standard deviations in log-odds where nothing is given: those of the validation study of docs/validity.md."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Which level is compared with which; `reference` is None where one level is compared with chance."""

    level: str
    reference: str | None

    @property
    def label(self) -> str:
        """The contrast as results call it."""
        return f"{self.level} - {'chance' if self.reference is None else self.reference}"


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What a simulation takes to be true.

    Attributes
    ----------
    logits : level -> (answer levels,) log-odds of a correct answer of the median person and item; one number a level of the
        factor that follows a person's answers (sessions), or one in all
    shifts : further factor -> level -> log-odds
    sds : 'participant', 'item', 'participant:FACTOR', 'item:FACTOR' -> standard deviation in log-odds; of a slope, that of
        the difference between two levels
    lapse : share of answers given at random
    """

    shape: Shape
    contrast: Contrast
    logits: Mapping[str, tuple[float, ...]]
    shifts: Mapping[str, Mapping[str, float]]
    sds: Mapping[str, float]
    lapse: float = 0.0
    learning: float = 0.0
    """Log-odds gained from the first to the last answer of a block, around the block's middle."""

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the sum of all random effects in one answer; of a preference, in one pair's difference."""
        if self.shape.analysis == "preference":
            return math.sqrt(sum(sd**2 for sd in self.sds.values()))
        k = len(self.shape.levels)
        slopes = [sd for name, sd in self.sds.items() if ":" in name]
        intercepts = [sd for name, sd in self.sds.items() if ":" not in name]
        return math.sqrt(sum(sd**2 for sd in intercepts) + sum(sd**2 / 2 * (1 - 1 / k) for sd in slopes))

    def at(self, scale: float) -> dict[str, np.ndarray]:
        """Return the log-odds of each level with the contrast's effect multiplied: 0 is no effect, 1 the assumed one."""
        found = {name: np.asarray(values, dtype=float) for name, values in self.logits.items()}
        level = self.contrast.level
        base = np.asarray(self._nothing) if self.contrast.reference is None else found[self.contrast.reference]
        found[level] = base + scale * (found[level] - base)
        return found

    @cached_property
    def _nothing(self) -> float:
        """Log-odds at which the population's accuracy is that of guessing."""
        floor = lambda logit: self._population(np.array([logit])) - self.shape.chance  # noqa: E731
        return float(optimize.brentq(floor, -20, 20))

    def _population(self, logits: np.ndarray) -> float:
        grid = np.asarray(logits, dtype=float).ravel()
        for other in self.shape.others:
            shift = np.array([self.shifts.get(other.name, {}).get(level, 0.0) for level in other.levels])
            if other.place == "item":
                grid = (grid[:, None] + shift).ravel()
        share = float(population_accuracy(grid, np.full(len(grid), self.spread))[0].mean())
        return (1 - self.lapse) * share + self.lapse * self.shape.chance

    def accuracies(self, scale: float = 1.0) -> dict[str, float]:
        """Return the population's accuracy at each level: random effects, other factors and lapses averaged."""
        return {name: self._population(values) for name, values in self.at(scale).items()}

    def difference(self, scale: float = 1.0) -> float:
        """Return the contrast on the scale of accuracy; of a preference, the probability to be chosen less a half."""
        if self.shape.analysis == "preference":
            return self._chosen(self.at(scale)) - 0.5
        found = self.accuracies(scale)
        base = self.shape.chance if self.contrast.reference is None else found[self.contrast.reference]
        return found[self.contrast.level] - base

    def _chosen(self, logits: Mapping[str, np.ndarray]) -> float:
        gap = np.asarray(logits[self.contrast.level] - logits[str(self.contrast.reference)], dtype=float)
        share = float(population_accuracy(gap, np.full(len(gap), self.spread))[0].mean())
        return (1 - self.lapse) * share + self.lapse / 2

    def with_effect(self, difference: float) -> Assumed:
        """Return the same with the contrast's level shifted in log-odds until `difference()` is `difference`.

        Raises
        ------
        LimenError
            If no accuracy below 1 and above 0 lies so far from the reference.
        """
        name, reference = self.contrast.level, self.contrast.reference
        base = np.array([self._nothing]) if reference is None else np.asarray(self.logits[reference], dtype=float)

        def shifted(by: float) -> Assumed:
            return replace(self, logits={**self.logits, name: tuple(float(value) for value in base + by)})

        low, high = (shifted(end).difference() for end in (-30.0, 30.0))
        if not low < difference < high:
            raise LimenError(
                f"power, effect: given a difference of {difference:+g}; allowed are those between {low:+.3f} and {high:+.3f}, "
                "where accuracies end."
            )
        return shifted(float(optimize.brentq(lambda by: shifted(by).difference() - difference, -30, 30, xtol=1e-12)))


def allowed_sds(shape: Shape) -> tuple[str, ...]:
    """Name the random effects that a shape has: slopes only of a factor that varies within the unit."""
    if shape.analysis == "preference":
        return ("participant:method", "item:method")
    if shape.analysis == "oddone":
        return ("participant", "rule", "item")
    several = len(shape.levels) > 1
    within = (f"participant:{shape.factor}",) if shape.within and several else ()
    crossed = (f"item:{shape.factor}",) if shape.crossed and several else ()
    return ("participant", "item", *within, *crossed)


def check_sds(given: Mapping[str, float], shape: Shape) -> None:
    """Refuse a standard deviation of an effect that the design does not have, or that is negative.

    Raises
    ------
    LimenError
        Says which names are allowed.
    """
    for name, value in given.items():
        if name not in allowed_sds(shape):
            raise unknown("power, standard deviation", name, allowed_sds(shape))
        if not (math.isfinite(value) and value >= 0):
            raise LimenError(f"power, standard deviation '{name}': given {value}, allowed are numbers from 0.")


def seen_items(shape: Shape, participants: int, items: int) -> np.ndarray:
    """Return which items of the pool each person of a group answers, per level where a person meets all, (people, n).

    People take turns through windows of the pool, as lists do, so that every item is seen equally often or nearly so.
    """
    per = max(shape.trials // len(shape.levels), 1) if shape.within else shape.trials
    per = min(per, items)
    windows = math.ceil(items / per)
    starts = (np.arange(participants) % windows) * per
    return np.asarray((starts[:, None] + np.arange(per)) % items)


def simulate(
    assumed: Assumed, *, participants: int, items: int, scale: float, stream: np.random.Generator
) -> pd.DataFrame:
    """Draw one study.

    Parameters
    ----------
    assumed : Assumed
    participants : int
        Of each group; of all where everyone meets all levels.
    items : int
        Of the pool, of each level where levels have items of their own.
    scale : float
        Multiplies the contrast's effect.
    stream : Generator

    Returns
    -------
    DataFrame
        One row an answer, with the columns that the analysis of the protocol's card reads.
    """
    if assumed.shape.analysis == "preference":
        return _choices(assumed, participants, items, scale, stream)
    if assumed.shape.analysis == "oddone":
        return _blocks(assumed, participants, items, scale, stream)
    shape, levels = assumed.shape, assumed.shape.levels
    rows = _layout(shape, participants, items, stream)
    logits = assumed.at(scale)
    table = np.array([np.broadcast_to(logits[name], max(map(len, logits.values()))) for name in levels])
    turn = rows["turn"] if table.shape[1] > 1 else np.zeros(len(rows["level"]), dtype=int)
    eta = table[rows["level"], turn] + _random(assumed, rows, stream)
    columns: dict[str, object] = {}
    for other in shape.others:
        code = rows["item"] % len(other.levels) if other.place == "item" else rows["turn"]
        shift = np.array([assumed.shifts.get(other.name, {}).get(name, 0.0) for name in other.levels])
        eta = eta + shift[code]
        columns[other.name] = code + 1 if other.name == "session" else np.asarray(other.levels)[code]
    p = (1 - assumed.lapse) * special.expit(eta) + assumed.lapse * shape.chance
    correct = (stream.random(len(p)) < p).astype(float)
    columns = {"condition": "all", **columns, shape.factor: np.asarray(levels)[rows["level"]], "correct": correct}
    names = np.char.mod("p%d", rows["person"]), np.char.mod("i%d", rows["item_id"])
    frame = pd.DataFrame({"participant_id": names[0], "item_id": names[1], **columns})
    return _rated(frame) if shape.analysis == "agreement" else frame


def _layout(shape: Shape, participants: int, items: int, stream: np.random.Generator) -> dict[str, np.ndarray]:
    """Say of every answer who gave it, on which item of the pool, at which level, and in which turn."""
    seen, k = seen_items(shape, participants, items), len(shape.levels)
    per = seen.shape[1]
    person = np.repeat(np.arange(participants), per)
    item = seen.ravel()
    # One order a person: the same items come at other times to others, as lists have it.
    place = np.argsort(stream.random((participants * k, per)), axis=1).reshape(k, -1)
    turns = next((len(other.levels) for other in shape.others if other.place == "answer"), 1)
    level = np.repeat(np.arange(k), len(person))
    return {
        "level": level,
        "person": np.tile(person, k) + (0 if shape.within else level * participants),
        "item": np.tile(item, k),
        "item_id": np.tile(item, k) + (0 if shape.crossed else level * items),
        "turn": (place.ravel() * turns) // per,
    }


def _random(assumed: Assumed, rows: Mapping[str, np.ndarray], stream: np.random.Generator) -> np.ndarray:
    """Draw intercepts of people and items, and slopes centred within each unit, so that intercepts keep their meaning."""
    k = len(assumed.shape.levels)
    total = np.zeros(len(rows["level"]))
    for unit, codes in (("participant", rows["person"]), ("item", rows["item_id"])):
        count = int(codes.max()) + 1
        total += stream.normal(0, assumed.sds.get(unit, 0.0), count)[codes]
        slope = assumed.sds.get(f"{unit}:{assumed.shape.factor}", 0.0)
        if slope > 0:
            effects = stream.normal(0, slope / math.sqrt(2), (count, k))
            total += (effects - effects.mean(axis=1, keepdims=True))[codes, rows["level"]]
    return total


def _rated(frame: pd.DataFrame) -> pd.DataFrame:
    """Write right and wrong answers about a prediction as points of a scale from 1 to 4."""
    machine = frame["machine"] == "right"
    agrees = (frame["correct"] == 1) == machine
    return frame.assign(expected=np.where(machine, 4, 1), response=np.where(agrees, 4, 1))


def _blocks(assumed: Assumed, participants: int, items: int, scale: float, stream: np.random.Generator) -> pd.DataFrame:
    """Draw blocks of problems about one rule; the items of such a study are the rules of each kind."""
    shape = assumed.shape
    logits = [float(assumed.at(scale)[name].mean()) for name in shape.levels]
    frame, eta = answers_of_blocks(
        shape.levels, logits, people=participants, each=items, sessions=shape.trials // shape.block, problems=shape.block,
        sds=assumed.sds, learning=assumed.learning, stream=stream,
    )  # fmt: skip
    return frame.assign(correct=right(eta, shape.chance, assumed.lapse, stream))


def _choices(
    assumed: Assumed, participants: int, items: int, scale: float, stream: np.random.Generator
) -> pd.DataFrame:
    """Draw choices between two methods: strengths, which people and items shift, and no advantage of a side."""
    shape, k = assumed.shape, len(assumed.shape.levels)
    strengths = np.array([float(assumed.at(scale)[name][0]) for name in shape.levels])
    pairs = np.array([(a, b) for a in range(k) for b in range(a + 1, k)])
    per = min(shape.trials, items)
    seen = (np.arange(participants)[:, None] * per + np.arange(per)) % items
    person, item = np.repeat(np.arange(participants), per), seen.ravel()
    pair = pairs[np.tile(np.arange(per) % len(pairs), participants)]
    # Every pair stands both ways round equally often: half of the people see it exchanged.
    swap = (person + np.tile(np.arange(per) // len(pairs), participants)) % 2 == 1
    left, right = np.where(swap, pair[:, 1], pair[:, 0]), np.where(swap, pair[:, 0], pair[:, 1])
    eta = strengths[right] - strengths[left]
    for name, codes, count in (("participant:method", person, participants), ("item:method", item, items)):
        # Of the difference between two methods, so each method's own deviation has this SD over the root of two.
        own = stream.normal(0, assumed.sds.get(name, 0.0) / math.sqrt(2), (count, k))
        eta = eta + own[codes, right] - own[codes, left]
    p = (1 - assumed.lapse) * special.expit(eta) + assumed.lapse / 2
    names = np.asarray(shape.levels)
    chosen = (stream.random(len(p)) < p).astype(int)
    return pd.DataFrame(
        {
            "participant_id": np.char.mod("p%d", person),
            "item_id": np.char.mod("i%d", item),
            "left": names[left],
            "right": names[right],
            "option_position": chosen,
        }
    )

"""What a power analysis assumes, read from the study file and from what is given beside it, each with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy import optimize

from bench.config import Frozen, parse_config
from bench.registry import LimenError, unknown
from stimuli.records import Bots, StudyFile

from ..battery.references import REFERENCES
from .data import DEFAULT_SD, Assumed, Contrast, allowed_sds, check_sds
from .shape import Shape

LEARNING = 1.0
"""Log-odds that people are taken to gain over a block of problems about one rule."""
Direction = Literal["two-sided", "greater", "less"]
Correction = Literal["none", "holm"]
FIRST = ("baseline", *REFERENCES.values(), "random", "neurons")
"""Levels that others are compared with, where the study file names no primary contrast."""
ASIDE = ("control", "random", "none")
"""Levels that are a check of the study rather than its question; compared only if there is no other."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The test that is simulated: which contrast, at which level, in which direction, adjusted for what."""

    contrast: Contrast
    alpha: float = 0.05
    direction: Direction = "two-sided"
    correction: Correction = "holm"
    source: str = "study file, key 'analysis.primary'"


def named(shape: Shape, contrast: Contrast) -> tuple[str, str]:
    """Return quantity and label under which the report's analysis gives a contrast."""
    if shape.analysis == "utility" and contrast.reference is not None:
        return "accuracy difference", contrast.level
    if shape.analysis == "agreement":
        return ("accuracy", contrast.level) if contrast.reference is None else ("accuracy difference", contrast.label)
    if shape.analysis == "preference":
        return "strength difference", contrast.label
    if shape.analysis == "oddone":
        return "accuracy difference of composition over rules, people", contrast.label
    if contrast.reference is None:
        return f"above chance of {shape.factor}", contrast.level
    return f"accuracy difference of {shape.factor}", contrast.label


class Primary(Frozen):
    """The key `analysis.primary` of a study file, where it is a mapping."""

    level: str
    reference: str | None = None
    alpha: float = 0.05
    direction: Direction = "two-sided"
    correction: Correction = "none"


def decision(study: StudyFile, shape: Shape) -> Decision:
    """Read the primary contrast of a study file; where it names none, the first level in question against the reference.

    `analysis.primary` is 'LEVEL - REFERENCE', or a mapping with `level`, `reference`, `alpha`, `direction` ('two-sided',
    'greater', 'less') and `correction` ('none', or 'holm' over all comparisons with the reference).

    Raises
    ------
    LimenError
        If it names a level that the study does not have, or a rule that there is not.
    """
    given = study.analysis.get("primary")
    where = f"study '{study.study}', key 'analysis.primary'"
    if given is None:
        return _assumed_contrast(shape)
    if isinstance(given, str):
        level, _, reference = (part.strip() for part in given.partition(" - "))
        given = {"level": level, **({"reference": reference} if reference else {})}
    if not isinstance(given, Mapping):
        raise LimenError(f"{where}: given {given!r}; allowed are 'LEVEL - REFERENCE' or a mapping with those keys.")
    told = parse_config(dict(given), Primary, where=where)
    for name in (told.level, told.reference):
        if name is not None and name not in shape.levels:
            raise unknown(f"{where}, level", name, shape.levels)
    if not 0 < told.alpha < 1:
        raise LimenError(f"{where}, key 'alpha': given {told.alpha:g}; allowed are numbers between 0 and 1.")
    against = told.reference
    if against is None and len(shape.levels) > 1:
        against = next(name for name in _references(shape) if name != told.level)
    if told.level == against:
        raise LimenError(f"{where}: '{told.level}' is compared with itself; name two levels.")
    return Decision(contrast=Contrast(level=told.level, reference=against), alpha=told.alpha,
                    direction=told.direction, correction=told.correction)  # fmt: skip


def _references(shape: Shape) -> list[str]:
    return [*(name for name in FIRST if name in shape.levels), *shape.levels]


def _assumed_contrast(shape: Shape) -> Decision:
    source = "default: the study file names no 'analysis.primary'"
    if len(shape.levels) == 1:
        return Decision(contrast=Contrast(level=shape.levels[0], reference=None), source=source)
    reference = _references(shape)[0]
    level = next(name for name in (*_asked(shape), *shape.levels) if name != reference)
    return Decision(contrast=Contrast(level=level, reference=reference), source=source)


def _asked(shape: Shape) -> list[str]:
    return [name for name in shape.levels if name not in ASIDE]


@dataclass(frozen=True)
class Told:
    """Assumptions with, for each number, where it was taken from."""

    assumed: Assumed
    sources: Mapping[str, str]


def assume(
    study: StudyFile,
    shape: Shape,
    contrast: Contrast,
    *,
    effect: float | None = None,
    accuracy: float | None = None,
    sds: Mapping[str, float] | None = None,
) -> Told:
    """Assemble what is assumed: given values first, then the study file's bots, then defaults.

    Parameters
    ----------
    effect : float, optional
        Difference of accuracies of the contrast, in the population; what the bots say if left out.
    accuracy : float, optional
        The population's accuracy at the reference; what the bots say if left out, or midway between chance and 1.
    sds : mapping, optional
        Standard deviations in log-odds by name: see `allowed_sds`.

    Raises
    ------
    LimenError
        If a standard deviation is none of this design, or no effect is assumed.
    """
    given = dict(sds or {})
    check_sds(given, shape)
    bots = study.bots
    chosen, sources = _sds(given, bots, shape)
    lapse = bots.lapse if bots is not None and accuracy is None else 0.0
    sources["lapse"] = "bots of the study file" if bots is not None and accuracy is None else "default: none"
    logits, sources["accuracy"] = _logits(bots, shape)
    shifts = {} if bots is None else {k: dict(v) for k, v in bots.effects.items() if k != shape.factor}
    learning = LEARNING if shape.block else 0.0
    if shape.block:
        sources["learning"] = "default; it hardly changes a contrast between rules"
    held = Assumed(
        shape=shape, contrast=contrast, logits=logits, shifts=shifts, sds=chosen, lapse=lapse, learning=learning
    )
    if accuracy is not None:
        held, sources["accuracy"] = _shifted_to(held, accuracy), "given"
    sources["effect"] = "bots of the study file" if effect is None else "given"
    if effect is not None:
        held = held.with_effect(effect)
    if abs(held.difference()) < 1e-6:
        raise LimenError(
            f"study '{study.study}', power: no effect is assumed for {contrast.label}; give --effect, a difference of "
            "accuracies, or let the accuracies of `bots` differ."
        )
    return Told(held, sources)


def _sds(given: Mapping[str, float], bots: Bots | None, shape: Shape) -> tuple[dict[str, float], dict[str, str]]:
    chosen: dict[str, float] = {}
    sources: dict[str, str] = {}
    for name in allowed_sds(shape):
        key = f"sd {name}"
        stated = None if bots is None or ":" in name else f"{name}_sd"
        if name in given:
            chosen[name], sources[key] = float(given[name]), "given"
        elif stated is not None and bots is not None and stated in bots.model_fields_set:
            chosen[name], sources[key] = float(getattr(bots, stated)), "bots of the study file"
        else:
            chosen[name] = DEFAULT_SD["slope" if ":" in name else name]
            known = "default" if name == "rule" else "default, that of the validation in docs/validity.md"
            sources[key] = known
    return chosen, sources


def _logits(bots: Bots | None, shape: Shape) -> tuple[dict[str, tuple[float, ...]], str]:
    """Give each level its log-odds: from the bots' accuracies of its condition and their shift of its factor."""
    if bots is None:
        middle = (1 + shape.chance) / 2
        same = 0.0 if shape.analysis == "preference" else math.log(middle / (1 - middle))
        return dict.fromkeys(shape.levels, (same,)), "default: midway between guessing and always right"
    shifts = bots.effects.get(shape.factor, {})
    if shape.analysis == "preference":
        return {name: (float(shifts.get(name, 0.0)),) for name in shape.levels}, "bots of the study file"
    turns = next((len(other.levels) for other in shape.others if other.place == "answer"), 1)
    found = {}
    for name in shape.levels:
        values: Any = bots.accuracy.get(name) or next(iter(bots.accuracy.values()))
        values = (*values, *[values[-1]] * turns)[:turns]
        found[name] = tuple(math.log(one / (1 - one)) + float(shifts.get(name, 0.0)) for one in values)
    return found, "bots of the study file"


def _shifted_to(held: Assumed, accuracy: float) -> Assumed:
    """Move all levels by one number of log-odds so that the reference has a stated accuracy."""
    if held.shape.analysis == "preference" or held.contrast.reference is None:
        raise LimenError(
            "power, accuracy: the reference of this study is a fixed number, so none can be given; give --effect."
        )
    if not 0.001 < accuracy < 0.999:
        raise LimenError(f"power, accuracy: given {accuracy:g}; allowed are numbers between 0.001 and 0.999.")
    reference = held.contrast.reference

    def moved(by: float) -> Assumed:
        return replace(held, logits={name: tuple(one + by for one in values) for name, values in held.logits.items()})

    gap = lambda by: moved(by).accuracies()[reference] - accuracy  # noqa: E731
    return moved(float(optimize.brentq(gap, -30, 30, xtol=1e-12)))

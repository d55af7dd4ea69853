"""Simulated people of a frozen study: their answers in the table the analysis reads, and what is true of the population they are from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special

from analysis.load.study import DEFAULTS, Study
from analysis.mixed_models.formula import parse
from psychophysics_server.bots.model import Psychometrics, Simulated
from psychophysics_server.study.frozen import FrozenStudy, Trial
from stimuli.records import Bots

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
SHARES = WEIGHTS / WEIGHTS.sum()
SLOPE = 0.4
"""Standard deviation, in log-odds, of the difference between two levels over items, and over people who meet both."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One comparison of a study: where its estimate stands in the result, and which levels it is about.

    `reference` is None where a level is compared with guessing. `log_odds`: the estimate is a difference of strengths.
    """

    quantity: str
    label: str
    factor: str
    level: str
    reference: str | None
    log_odds: bool = False


class Varied(Psychometrics):
    """The psychometric model of the bots where the contrast's effect differs between items, and between people who meet both."""

    def __init__(self, study: FrozenStudy, *, seed: int, bots: Bots, contrast: Contrast, slope: float) -> None:
        super().__init__(study, seed=seed, bots=bots)
        self._contrast, self._slope = contrast, slope
        self._now: tuple[object, ...] = ()
        self._draws = np.random.default_rng([seed, 1])
        self._known: dict[tuple[object, ...], float] = {}

    def probability(self, person: Simulated, trial: Trial, condition: str) -> float:
        """Return P(correct), the slopes of this person and item counted in."""
        level = level_of(trial, condition, self._contrast.factor)
        self._now = (("item", trial.item_id, level), ("person", person.index, level))
        return super().probability(person, trial, condition)

    def shift(self, trial: Trial) -> float:
        """Return the stated effects with this item's and this person's deviation from them."""
        return (
            super().shift(trial) + sum(self._deviation(key) for key in self._now)
            if self._slope
            else super().shift(trial)
        )

    def _deviation(self, key: tuple[object, ...]) -> float:
        if key not in self._known:
            self._known[key] = float(self._draws.normal(0, self._slope / np.sqrt(2)))
        return self._known[key]


def level_of(trial: Trial, condition: str, factor: str) -> str:
    """Return the level of a factor in a trial, '' where it has none."""
    return condition if factor == "condition" else str(trial.factors.get(factor) or "")


def asked(study: FrozenStudy, cell: str) -> list[Trial]:
    """List the test trials of a cell that are analysed: no catch trial, nothing shown again."""
    trials = study.trials[cell]
    return [t for t in trials if t.phase == "test" and not t.is_catch and not t.answer.get("repeat_of")]


def steady(bots: Bots, **changed: Any) -> Bots:
    """Return the bots' model without the careless and those who leave, whom exclusions are for."""
    return bots.model_copy(update={"careless_share": 0.0, "dropout_share": 0.0, **changed})


def without(bots: Bots, contrast: Contrast) -> Bots:
    """Return the model in which all levels of a contrast's factor are alike: those of the reference."""
    effects = {name: levels for name, levels in bots.effects.items() if name != contrast.factor}
    if contrast.log_odds:
        effects = {}
    if contrast.factor == "condition" or contrast.reference in bots.accuracy:
        base = bots.accuracy[str(contrast.reference)]
        return steady(bots, effects=effects, slopes={}, accuracy=dict.fromkeys(bots.accuracy, base))
    return steady(bots, effects=effects, slopes={})


def at_chance(study: FrozenStudy, bots: Bots, chance: float) -> Bots:
    """Return the model in which the population's accuracy is that of guessing, in every condition and for every item."""
    spread = float(np.hypot(bots.participant_sd, bots.item_sd))
    logit = optimize.brentq(lambda x: population(x, spread) - chance, -20, 20)
    sessions = len(next(iter(bots.accuracy.values())))
    level = (float(special.expit(logit)),) * sessions
    return steady(bots, effects={}, slopes={}, accuracy=dict.fromkeys(study.conditions, level))


def population(logit: float, spread: float) -> float:
    """Average a probability over normal deviations of its log-odds."""
    return float(special.expit(logit + spread * NODES) @ SHARES)


def truth(study: FrozenStudy, bots: Bots, contrast: Contrast, *, slope: float) -> float:
    """Return the contrast in the population of people and items: the mean over the frozen trials, other factors' levels alike.

    Parameters
    ----------
    slope
        What `Varied` was given.
    """
    if contrast.log_odds:
        shifts = bots.effects.get("right", {})
        return shifts.get(contrast.level, 0.0) - shifts.get(str(contrast.reference), 0.0)
    card = json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8"))["card"]
    others = fixed_factors(card, study, contrast.factor)
    mind, rows = Psychometrics(study, seed=0, bots=bots), []
    within = any(
        len({level_of(t, c.condition, contrast.factor) for t in asked(study, c.cell)}) > 1 for c in study.cells
    )
    spread = float(np.sqrt(bots.participant_sd**2 + bots.item_sd**2 + slope**2 / 2 * (2 if within else 1)))
    for cell in study.cells:
        for trial in asked(study, cell.cell):
            if not trial.asks:
                continue
            stated = bots.accuracy[cell.condition][max(trial.session, 1) - 1]
            share = population(float(special.logit(stated)) + mind.shift(trial), spread)
            share = (1 - bots.lapse) * share + bots.lapse / max(len(trial.options), 1)
            level = level_of(trial, cell.condition, contrast.factor)
            rows.append((level, *(other_level(trial, cell.condition, name) for name in others), share))
    table = pd.DataFrame(rows, columns=["level", *others, "share"])
    means = table.groupby(["level", *others])["share"].mean().groupby("level").mean()
    base = card["chance"] if contrast.reference is None else means[contrast.reference]
    return float(means[contrast.level] - base)


def other_level(trial: Trial, condition: str, factor: str) -> str:
    """Return the level of a further factor; sessions are told by the trial."""
    return str(trial.session) if factor == "session" else level_of(trial, condition, factor)


def fixed_factors(card: Mapping[str, Any], study: FrozenStudy, factor: str) -> list[str]:
    """List the formula's further factors that have levels."""
    parsed = parse(card["formula"]) if "(1|" in str(card["formula"]) else None
    groups = {name for part in parsed.random for name in part.factors} if parsed else set()
    numeric = {one.name for one in study.factors if one.type == "number"}
    names = [name for name in parsed.columns if name not in groups | {parsed.response, factor}] if parsed else []
    return [name for name in names if name not in numeric]


def simulate(study: FrozenStudy, mind: Psychometrics) -> Study:
    """Let as many people as the quota asks take the frozen study in process; return what reading an export would give."""
    rows: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for cell in study.cells:
        trials = asked(study, cell.cell)
        for _ in range(cell.quota):
            person = mind.person(len(people), len(trials))
            name = f"p{len(people):04d}"
            people.append({"participant_id": name, "condition": cell.condition})
            facts = {"participant_id": name, "condition": cell.condition, "list": cell.list}
            rows += [facts | answer_row(mind, person, trial, cell.condition) for trial in trials]
    table = pd.DataFrame(rows)
    table = table.assign(**{name: value for name, value in DEFAULTS.items() if name not in table.columns})
    sessions = pd.DataFrame(people).assign(
        source="bot", state="COMPLETE", consented=True, finished=True, excluded=False, exclusion_reason=""
    )
    return as_read(study, table.assign(source="bot"), sessions)


def answer_row(mind: Psychometrics, person: Simulated, trial: Trial, condition: str) -> dict[str, Any]:
    """Return one answer as the export writes it."""
    given = mind.answer(person, trial, condition, 1)
    position = trial.options.index(given.response) if given.response in trial.options else -1
    return {
        "item_id": trial.item_id,
        "session": trial.session,
        "k_seen": trial.k_seen,
        "response": given.response,
        "option_position": position,
        "expected": trial.expected,
        "correct": float(given.response in trial.accepted) if trial.asks else np.nan,
        "rt_ms": given.rt_ms,
        "confidence": np.nan if given.confidence is None else given.confidence,
        "model_correct": np.nan,
        **trial.factors,
    }


def as_read(study: FrozenStudy, trials: pd.DataFrame, sessions: pd.DataFrame) -> Study:
    """Return the validated responses of a simulated study, as `analysis.load` gives those of an export."""
    held = json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8"))["card"]
    conditions: Sequence[str] = study.conditions
    return Study(
        name=study.file.study, version=str(study.file.version), trials=trials, sessions=sessions,
        conditions=tuple(conditions), baseline="baseline" if "baseline" in conditions else None, source="bot",
        chance=held["chance"], provenance={"study_file": study.file.model_dump(mode="json")}, files=(), card=held, plan={},
        within=False,
    )  # fmt: skip

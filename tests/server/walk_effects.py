"""What the simulated people of a walk were given, beside what the report says: one line for each contrast that a protocol is about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special

from analysis.models.clickme import clickme
from psychophysics_server.bots.model import Psychometrics
from psychophysics_server.study.frozen import FrozenStudy, Trial

ABOVE = "split-half correlation above null"
GAMES = 3
"""Games played in process to say what agreement the attention of simulated players gives."""


@dataclass(frozen=True)
class Effect:
    """One contrast: what is true of the simulated population, and the report's estimate."""

    contrast: str
    given: float
    value: float
    low: float | None
    high: float | None

    @property
    def recovered(self) -> bool:
        """Whether the interval holds what was given."""
        return self.low is not None and self.high is not None and self.low <= self.given <= self.high

    def __str__(self) -> str:
        ends = "no interval" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.contrast}: given {self.given:.3f}, found {self.value:.3f} {ends}"


def effects(study: FrozenStudy, report: Path, n: int) -> list[Effect]:
    """Return every contrast of the report that the people's model says something about."""
    card = json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8"))["card"]
    of = {"preference": of_preference, "clickme": of_clickme, "drawing": of_drawing, "utility": of_utility}
    asked = of.get(str(card["analysis"]), of_accuracy)
    said = dict[tuple[str, str], dict[str, Any]]()
    for one in estimates(report):
        said.setdefault((str(one["quantity"]), str(one["label"])), one)
    return [
        Effect(f"{quantity}, {label}", given, one["value"], one.get("low"), one.get("high"))
        for (quantity, label), given in asked(study, said, n)
        if (one := said.get((quantity, label))) is not None
    ]


Given = Iterator[tuple[tuple[str, str], float]]
Said = dict[tuple[str, str], dict[str, Any]]


def estimates(report: Path) -> list[dict[str, Any]]:
    """List every estimate of `results.json`, wherever it stands; the primary analysis comes before that without exclusions."""
    found: list[dict[str, Any]] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if {"quantity", "label", "value"} <= {*node}:
                found.append(node)
            for below in node.values():
                look(below)
        elif isinstance(node, list):
            for below in node:
                look(below)

    path = report / "results.json"
    look(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})
    return found


def tested(study: FrozenStudy, cell: str) -> list[Trial]:
    """List the test trials of a cell that are analysed."""
    return [t for t in study.trials[cell] if t.phase == "test" and not t.is_catch]


def expected(study: FrozenStudy, n: int, groups: Callable[[Trial, str], str]) -> dict[str, float]:
    """Return the mean probability of being right (of the second option, where nothing is right) of each group of trials."""
    mind, found = Psychometrics(study, seed=0), dict[str, list[float]]()
    for cell in study.cells:
        trials = tested(study, cell.cell)
        for index in range(n):
            person = mind.person(index, max(len(trials), 1))
            for trial in trials if not person.careless else ():
                found.setdefault(groups(trial, cell.condition), []).append(
                    mind.probability(person, trial, cell.condition)
                )
    return {name: float(np.mean(values)) for name, values in found.items()}


def of_accuracy(study: FrozenStudy, said: Said, n: int) -> Given:
    """Yield the differences of accuracy between two levels of a factor."""
    known = dict[str, dict[str, float]]()
    for quantity, label in said:
        before, _, factor = quantity.partition("accuracy difference of ")
        factor = factor.removesuffix(" (mixed model)").removesuffix(" over rules, people")
        high, dash, low = label.partition(" - ")
        if before or not factor or not dash or " " in factor:
            continue
        if factor not in known:
            known[factor] = expected(study, n, lambda trial, condition, name=factor: level(trial, condition, name))  # type: ignore[misc]
        if {high, low} <= {*known[factor]}:
            yield (quantity, label), known[factor][high] - known[factor][low]


def level(trial: Trial, condition: str, factor: str) -> str:
    """Return a trial's level of a factor."""
    return condition if factor == "condition" else str(trial.factors.get(factor, ""))


def of_utility(study: FrozenStudy, said: Said, n: int) -> Given:
    """Yield each condition's Utility: its accuracy over that of the baseline, both averaged over sessions."""
    shares = expected(study, n, lambda trial, condition: f"{condition}\n{trial.session}")
    means = {
        name: np.mean([share for key, share in shares.items() if key.split("\n")[0] == name])
        for name in study.conditions
    }
    for quantity, label in said:
        if quantity == "utility (ratio_of_means)" and label in means:
            yield (quantity, label), float(means[label] / means["baseline"])
    yield from of_accuracy(study, said, n)


def of_preference(study: FrozenStudy, said: Said, n: int) -> Given:
    """Yield differences of strength, by the Bradley-Terry model that fits the expected choices best."""
    del n
    mind = Psychometrics(study, seed=0)
    person = next(p for p in (mind.person(i, 1) for i in range(100)) if not p.careless)
    trials = [(t, c.condition) for c in study.cells for t in tested(study, c.cell)]
    shares = np.array([mind.probability(person, trial, condition) for trial, condition in trials])
    names = sorted({str(t.factors[side]) for t, _ in trials for side in ("left", "right")})
    design = np.zeros((len(trials), len(names) + 1))
    design[:, -1] = 1
    for row, (trial, _) in enumerate(trials):
        design[row, names.index(str(trial.factors["right"]))] += 1
        design[row, names.index(str(trial.factors["left"]))] -= 1
    free = np.delete(design, 0, axis=1)

    def loss(strengths: np.ndarray) -> float:
        return float((np.logaddexp(0, free @ strengths) - shares * (free @ strengths)).sum())

    strengths = np.concatenate([[0.0], optimize.minimize(loss, np.zeros(free.shape[1])).x[:-1]])
    for quantity, label in said:
        high, dash, low = label.partition(" - ")
        if quantity == "strength difference" and dash:
            yield (quantity, label), float(strengths[names.index(high)] - strengths[names.index(low)])
        if quantity == "preference" and label in names:
            yield (quantity, label), float(special.expit(strengths[names.index(label)] - strengths.mean()))


def of_drawing(study: FrozenStudy, said: Said, n: int) -> Given:
    """Yield what the critic should find: of right drawings it knows as many as of the generator's own, of the others none."""
    if ("recognisability", "generator (control)") not in said:
        yield from of_clickme(study, said, n)
        return
    ceiling = said["recognisability", "generator (control)"]["value"]
    right = {name: share * ceiling for name, share in expected(study, n, lambda _, condition: condition).items()}
    for name in study.conditions:
        yield ("recognisability", name), right[name]
    for high in study.conditions:
        for low in study.conditions:
            yield ("recognisability difference", f"{high} − {low}"), right[high] - right[low]


def of_clickme(study: FrozenStudy, said: Said, n: int) -> Given:
    """Yield how far halves of the players should agree: what games in process give; a walk without attention gives none.

    The games are of other people; the report's interval is over images and speaks of these people, so with few of them it
    need not hold what is given.
    """
    attention = study.file.bots.attention if study.file.bots else {}
    for name in study.conditions:
        if (ABOVE, name) in said:
            games = [rounds(study, n, seed) for seed in range(100, 100 + GAMES)] if attention.get(name) else []
            found = [clickme(game[game["condition"] == name]).get(ABOVE, name).value for game in games]
            yield (ABOVE, name), float(np.mean(found)) if found else 0.0


def rounds(study: FrozenStudy, n: int, seed: int) -> pd.DataFrame:
    """Return the rounds of `n` simulated people, as the export's strokes have them; whoever leaves is left out."""
    mind, cells = Psychometrics(study, seed=seed), list(study.cells)
    found: list[dict[str, Any]] = []
    for index in range(n):
        cell = cells[index % len(cells)]
        trials = tested(study, cell.cell)
        person = mind.person(index, len(trials))
        for trial in trials if person.drops_after is None else ():
            shown: Any = trial.shown
            given = mind.answer(person, trial, cell.condition, 1)
            found.append(
                {
                    "participant_id": f"p{index}", "condition": cell.condition, "item_id": trial.item_id,
                    "width": shown.size[0], "height": shown.size[1], "box_px": shown.box_px, "outcome": given.response,
                    "strokes": json.dumps(given.strokes),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def told(found: Sequence[Effect]) -> str:
    """Say how many intervals hold what was given, and the first contrasts in words."""
    if not found:
        return "no contrast"
    held = f"{sum(one.recovered for one in found)} of {len(found)} intervals hold what was given"
    return "; ".join([*map(str, found[:3]), held])

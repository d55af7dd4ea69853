"""References of a unit on the analysis level, for both tasks: what was given is inside the interval, nothing given is not found.

People who follow the bots' model take the frozen schedules in process, many studies of each kind, and the card's own model is fitted
to each. Everybody is attentive; people and items differ (standard deviations .5 and .4 logits).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from analysis.models.crossed import crossed
from analysis.results import Estimate
from bench.store import Artifact, Store
from psychophysics_server.bots.model import Psychometrics
from psychophysics_server.study.frozen import FrozenStudy, open_frozen
from stimuli.build import build
from stimuli.designs.visualization import visualization
from stimuli.records import Bots, StudyFile

pytestmark = pytest.mark.long

NULLS, GIVEN, PEOPLE = 20, 8, 16
SPREAD = {"participant_sd": 0.5, "item_sd": 0.4}
KINDS = ("natural", "synthetic", "none")
LEVELS = {"natural": 0.85, "synthetic": 0.75, "none": 0.6}
SCHEMES = "correct ~ scheme + (1|participant) + (1|item)"


@dataclass(frozen=True)
class Task:
    """One of the protocol's tasks: its design, and the formula that is fitted."""

    design: Mapping[str, Any]
    formula: str = visualization.card.formula  # type: ignore[attr-defined]


SHARED = {"per_list": 6, "units": 6, "lists": 2, "batches": 2, "practice": 1, "catch": 1, "size": 32}
TASKS = {
    "reference": Task({**SHARED, "schemes": ["min-max-4"], "batches": 3}),
    "occlusion": Task({**SHARED, "schemes": ["max-4"], "task": "occlusion"}),
    "min-max": Task({**SHARED, "schemes": ["max-4", "min-max-4"], "batches": 3}, SCHEMES),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("road-kinds")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def frozen(store: Store) -> dict[str, FrozenStudy]:
    """Freeze a study of each task."""
    return {
        name: open_frozen(
            build(
                StudyFile(
                    study=name, version=1, protocol="visualization", title="Parts", run="demo", contact="a@b.org",
                    conditions=KINDS, quota=PEOPLE, design=dict(task.design), bots=Bots(accuracy=dict.fromkeys(KINDS, (0.6,))),
                ),
                store,
            )
        )
        for name, task in TASKS.items()
    }  # fmt: skip


def bots(levels: Mapping[str, float], scheme: float = 0.0) -> Bots:
    """Return attentive people with an accuracy for each kind of reference, and a shift for grids of both extremes."""
    effects = {"scheme": {"min-max-4": scheme}} if scheme else {}
    return Bots(accuracy={name: (level,) for name, level in levels.items()}, effects=effects, lapse=0, careless_share=0,
                dropout_share=0, **SPREAD)  # fmt: skip


def answers(study: FrozenStudy, people: Bots, seed: int) -> pd.DataFrame:
    """Let everybody answer the trials that the model is fitted to."""
    mind, rows, number = Psychometrics(study, seed=seed, bots=people), [], 0
    for cell in study.cells:
        trials = [t for t in study.trials[cell.cell] if t.phase == "test" and not t.is_catch and t.asks]
        for _ in range(cell.quota):
            person, number = mind.person(number, len(trials)), number + 1
            for trial in trials:
                said = mind.answer(person, trial, cell.condition, 1).response
                facts = {"participant_id": f"p{number:03d}", "item_id": trial.item_id, "condition": cell.condition}
                rows.append({**facts, **trial.factors, "correct": float(said == trial.expected)})
    return pd.DataFrame(rows)


def gap(high: float, low: float) -> float:
    """Return the population's difference of two accuracies, given in logits, over people and items."""
    spread = np.hypot(*SPREAD.values()) * stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    return float((special.expit(high + spread) - special.expit(low + spread)).mean())


def of_kind(data: pd.DataFrame, kind: str) -> Estimate:
    """Return the difference between a kind of references and none, by the card's own model."""
    found = crossed(data, formula=TASKS["reference"].formula, chance=0.5, references={"reference": "none"})
    return found.get("accuracy difference of reference", f"{kind} - none")


def of_scheme(data: pd.DataFrame) -> Estimate:
    """Return the difference between grids of both extremes and of favourites alone, where references are shown and help alike."""
    shown = data[data["reference"] != "none"]
    found = crossed(shown, formula=SCHEMES, chance=0.5, references={"scheme": "max-4"})
    return found.get("accuracy difference of scheme", "min-max-4 - max-4")


def most(studies: int) -> int:
    """Return how many misses at a rate of .05 no more than 3 in 1,000 such runs exceed."""
    return int(stats.binom.isf(0.003, studies, 0.05))


@pytest.mark.parametrize("task", ["reference", "occlusion"])
def test_references_that_help_nobody_are_not_found_too_often(frozen: dict[str, FrozenStudy], task: str) -> None:
    alike = bots(dict.fromkeys(KINDS, 0.7))
    p = [of_kind(answers(frozen[task], alike, seed), "natural").p for seed in range(NULLS)]
    assert sum(one < 0.05 for one in p) <= most(NULLS)


@pytest.mark.parametrize("task", ["reference", "occlusion"])
@pytest.mark.parametrize("kind", ["natural", "synthetic"])
def test_what_references_give_is_inside_nearly_every_interval(
    frozen: dict[str, FrozenStudy], task: str, kind: str
) -> None:
    truth = gap(special.logit(LEVELS[kind]), special.logit(LEVELS["none"]))
    found = [of_kind(answers(frozen[task], bots(LEVELS), 100 + seed), kind) for seed in range(GIVEN)]
    assert sum(not one.low <= truth <= one.high for one in found) <= most(GIVEN)
    assert sum(one.p < 0.05 for one in found) > GIVEN / 4


def test_a_scheme_that_tells_no_more_is_not_found_too_often(frozen: dict[str, FrozenStudy]) -> None:
    alike = bots(dict.fromkeys(KINDS, 0.7))
    p = [of_scheme(answers(frozen["min-max"], alike, seed)).p for seed in range(NULLS)]
    assert sum(one < 0.05 for one in p) <= most(NULLS)


def test_what_the_weakest_pictures_add_is_inside_nearly_every_interval(frozen: dict[str, FrozenStudy]) -> None:
    people, more = bots(dict.fromkeys(KINDS, 0.6), 0.8), special.logit(0.6) + 0.8
    found = [of_scheme(answers(frozen["min-max"], people, 100 + seed)) for seed in range(GIVEN)]
    truth = gap(more, special.logit(0.6))
    assert sum(not one.low <= truth <= one.high for one in found) <= most(GIVEN)
    assert sum(one.p < 0.05 for one in found) > GIVEN / 2

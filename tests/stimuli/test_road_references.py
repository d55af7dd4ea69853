"""Reference grids from frozen set to result: bots take the studies, and the effects they were given are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis.models.crossed import crossed
from bench.store import Artifact, Store
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import Library
from stimuli.build import build
from stimuli.designs.basis import basis
from stimuli.designs.visualization import visualization
from stimuli.records import Bots, Checks, StudyFile

PEOPLE = 30
MODEL: dict[str, Any] = {
    "participant_sd": 0.4, "item_sd": 0.2, "lapse": 0.0, "careless_share": 0.0, "dropout_share": 0.0, "catch_accuracy": 1.0,
}  # fmt: skip
BASIS = {"pairs": 2, "per_list": 2, "lists": 4, "query_pairs": 2, "maximum": 4, "minimum": 2, "high": [80, 100],
         "low": [0, 20], "practice": 2, "catch": 2, "references": ["free", "matched", "mixed"], "size": 64}  # fmt: skip
KINDS = {"schemes": ["max-4", "min-max-4"], "units": 6, "per_list": 6, "lists": 3, "batches": 3, "practice": 2, "catch": 2,
         "size": 64}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("road-references")
    fake_run(root)
    return Store(root)


def _answers(store: Store, folder: Path, n: int, **facts: Any) -> pd.DataFrame:
    """Build a study, let bots take it, export it, and read the answers meant for a mixed model."""
    made = build(
        StudyFile(
            version=1, title="Parts", run="demo", contact="a@b.org", quota=PEOPLE,
            checks=Checks(catch_accuracy=0.5, quiz_attempts=3, practice_attempts=9), **facts,
        ),
        store,
    )  # fmt: skip
    study, database = Library(store).by_key(made.key), Database(folder / "bots.sqlite")
    try:
        journeys = run_inside(study, database, n=n, seed=2)
        assert {journey.outcome for journey in journeys} == {"complete"}
        export(database, study, folder / "out", sources=("bot",), stale_s=1e6)
    finally:
        database.close()
    return pd.read_csv(next((folder / "out" / "data").glob("*_description-model_data.csv")))


def _gap(low: float, high: float) -> float:
    """The population's difference of two accuracies, given in logits, by integration over people and items."""
    draws = np.random.default_rng(0).normal(0, np.hypot(MODEL["participant_sd"], MODEL["item_sd"]), 200_000)
    return float(special.expit(high + draws).mean() - special.expit(low + draws).mean())


def _study(name: str, design: dict[str, Any]) -> StudyFile:
    return StudyFile(
        study=name, version=1, protocol="basis", title="Parts", run="demo", contact="a@b.org", quota=PEOPLE,
        conditions=("all",), design=design, bots=Bots(accuracy={"all": (0.6,)}),
    )  # fmt: skip


@pytest.mark.long
def test_without_an_effect_the_analysis_of_a_frozen_schedule_does_not_reject_too_often(store: Store) -> None:
    """30 studies of 24 people on the lists of a frozen set: more than 5 rejections at .05 come up in 3 of 1,000 such runs."""
    design = {**BASIS, "pairs": 3, "per_list": 2, "lists": 3, "references": ["free"], "query_pairs": 1, "minimum": 0}
    trials = build(_study("road-null", design), store).rows("trials.parquet")
    asked = trials[(trials["phase"] == "test") & ~trials["is_catch"]]
    asked = pd.concat([asked, pd.DataFrame([json.loads(one) for one in asked["factors"]], index=asked.index)], axis=1)
    lists = [asked[asked["list"] == number] for number in (1, 2, 3)]
    rejected = []
    for seed in range(30):
        draws = np.random.default_rng(seed)
        people = pd.concat(
            [lists[i % 3].assign(participant_id=f"p{i:02d}", ability=draws.normal(0, 0.6)) for i in range(24)]
        )
        ease = dict(
            zip(sorted(people["item_id"].unique()), draws.normal(0, 0.5, people["item_id"].nunique()), strict=True)
        )
        chance = special.expit(0.8 + people["ability"] + people["item_id"].map(ease))
        answers = people.assign(correct=(draws.random(len(people)) < chance).astype(float)).reset_index(drop=True)
        result = crossed(answers, formula=basis.card.formula)  # type: ignore[attr-defined]
        rejected.append(result.of("accuracy difference of basis")[0].p < 0.05)  # type: ignore[operator]
    assert sum(rejected) <= 5


@pytest.mark.long
def test_bots_who_understand_directions_better_are_found_out(store: Store, tmp_path: Path) -> None:
    answers = _answers(
        store, tmp_path, PEOPLE, study="road-basis", protocol="basis", conditions=("all",), design=BASIS,
        bots=Bots(accuracy={"all": (0.6,)}, effects={"basis": {"dictionary": 1.2}}, **MODEL),
    )  # fmt: skip
    assert len(answers) == PEOPLE * 2 * 2 * 2 * 3
    formula = basis.card.formula  # type: ignore[attr-defined]
    result = crossed(answers, formula=formula, chance=0.5, references={"basis": "neuron"})
    found = result.get("accuracy difference of basis", "dictionary - neuron")
    assert found.low <= _gap(special.logit(0.6), special.logit(0.6) + 1.2) <= found.high
    assert found.p is not None
    assert found.p < 0.05
    assert found.n == len(answers)


@pytest.mark.long
def test_bots_whom_references_help_are_found_out(store: Store, tmp_path: Path) -> None:
    given = {"natural": (0.88,), "synthetic": (0.75,), "none": (0.55,)}
    answers = _answers(
        store, tmp_path, 3 * PEOPLE, study="road-kinds", protocol="visualization", conditions=tuple(given), design=KINDS,
        bots=Bots(accuracy=given, **MODEL),
    )  # fmt: skip
    formula = visualization.card.formula  # type: ignore[attr-defined]
    result = crossed(answers, formula=formula, chance=0.5, references={"reference": "none"})
    for kind in ("natural", "synthetic"):
        found = result.get("accuracy difference of reference", f"{kind} - none")
        assert found.low <= _gap(special.logit(0.55), special.logit(given[kind][0])) <= found.high
        assert found.p is not None
        assert found.p < 0.05

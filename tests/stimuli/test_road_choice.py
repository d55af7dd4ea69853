"""The road of the choice protocols: built, taken by simulated people in this process, exported, read and analysed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.models.agreement import agreement
from analysis.models.crossed import crossed
from analysis.models.preference import preference
from bench.store import Artifact, Store
from fake_crops import make_fake_crops
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import open_frozen
from stimuli.build import build
from stimuli.protocol import DESIGNS
from stimuli.records import StudyFile

PLAIN = {"lapse": 0, "careless_share": 0, "dropout_share": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("road-choice")
    fake_run(root)
    make_fake_crops(root)
    return Store(root)


def _taken(store: Store, folder: Path, n: int, **facts: Any) -> pd.DataFrame:
    """Return the answers at test of `n` simulated people, as an export gives them."""
    study = StudyFile(**{"version": 1, "title": "Road", "contact": "study@example.org", "quota": n, **facts})
    frozen = open_frozen(build(study, store))
    with closing(Database(folder / "answers.db")) as database:
        journeys = run_inside(frozen, database, n=n, seed=4)
        export(database, frozen, folder / "export", sources=["bot"], stale_s=60.0)
    assert {journey.outcome for journey in journeys} == {"complete"}
    # Not `analysis.load`, which refuses an export with questions that have no right answer.
    trials = pd.read_csv(next((folder / "export" / "data").glob("study-" + study.study.replace("-", "") + "_data.csv")))
    return trials[trials["phase"] == "test"]


@pytest.mark.long
def test_stated_strengths_of_explanations_are_recovered(store: Store, tmp_path: Path) -> None:
    stated = {"grad_cam": 0.8, "saliency": 0.3, "image_gradient": 0.0}
    effects = {"right": stated, "left": {name: -value for name, value in stated.items()}}
    bots = {"accuracy": {"pairs": (0.5,)}, "effects": effects, "participant_sd": 0, "item_sd": 0, **PLAIN}
    design = {"methods": tuple(stated), "size": 32, "repeats": 4}
    data = _taken(store, tmp_path, 80, study="road-preference", protocol="preference", run="demo",
                  conditions=("pairs",), design=design, bots=bots)  # fmt: skip
    found = preference(data, reference="image_gradient")
    for name in ("grad_cam", "saliency"):
        item = found.get("strength difference", f"{name} - image_gradient")
        assert item.low <= stated[name] <= item.high
    assert found.get("term", "all strengths are equal").p < 0.001


@pytest.mark.long
def test_a_stated_difference_between_dictionaries_is_recovered(store: Store, tmp_path: Path) -> None:
    bots = {"accuracy": {"neurons": (0.4,), "nmf": (0.7,)}, "participant_sd": 0.3, "item_sd": 0.0, **PLAIN}
    design = {"layer": "late", "size": 32, "trials": 10}
    data = _taken(store, tmp_path, 60, study="road-intruder", protocol="intruder", run="crops",
                  conditions=("neurons", "nmf"), design=design, bots=bots)  # fmt: skip
    card = DESIGNS.card("intruder")
    found = crossed(data, formula=card.formula, chance=card.chance, references={"condition": "neurons"})  # type: ignore[attr-defined]
    gap = found.get("accuracy difference of condition", "nmf - neurons")
    assert gap.low <= 0.3 <= gap.high
    assert gap.p < 0.001


@pytest.mark.long
def test_agreement_reaches_the_analysis_with_its_ratings(store: Store, tmp_path: Path) -> None:
    effects = {"machine": {"right": 1.5, "wrong": -1.5}}
    bots = {"accuracy": {"grad_cam": (0.5,)}, "effects": effects, "participant_sd": 0, "item_sd": 0, **PLAIN}
    data = _taken(store, tmp_path, 60, study="road-agreement", protocol="agreement", run="demo",
                  conditions=("grad_cam",), design={"size": 32}, bots=bots)  # fmt: skip
    found = agreement(data)
    assert found.get("bias to agree", "grad_cam").low > 0
    assert found.get("bias to agree", "grad_cam").n == 60
    assert found.get("understanding, after less before", "grad_cam").n == 60

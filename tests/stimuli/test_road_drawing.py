"""One-shot drawing from frozen set to analysis: the effect given to simulated people comes back, by both tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.drawings import read_drawings
from analysis.importance import read_rounds, write_maps
from analysis.models.clickme import clickme
from analysis.models.drawing import drawing
from bench.store import Store
from psychophysics_server.bots.fleet import inside
from psychophysics_server.bots.model import Psychometrics
from psychophysics_server.bots.observer import Seen, observe
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import FrozenStudy, Library
from stimuli.build import build
from stimuli.records import Bots, Checks, StudyFile
from stimuli.sketches import sketch, sketch_id
from stimuli.trials import Draw

pytestmark = pytest.mark.long
PEOPLE = 32
ACCURACY = {"view": 0.95, "memory": 0.6}


def study_file(name: str, accuracy: dict[str, float], **design: object) -> StudyFile:
    return StudyFile(
        study=name,
        version=1,
        protocol="drawing",
        title="Draw another one",
        contact="study@example.org",
        quota=16,
        conditions=tuple(accuracy),
        design={"categories": 12, "drawings": 6, "size": 96, "people": 4, **design},
        checks=Checks(quiz_attempts=3),
        bots=Bots(
            accuracy={k: (v,) for k, v in accuracy.items()}, careless_share=0, dropout_share=0, catch_accuracy=1.0,
            participant_sd=0.3, item_sd=0.3, lapse=0,
        ),
    )  # fmt: skip


def taken(file: StudyFile, folder: Path) -> tuple[Path, Store]:
    store = Store(folder / "store")
    build(file, store)
    study = Library(store).newest(file.study)
    database = Database(folder / "answers.sqlite")
    try:
        journeys = inside(study, database, Psychometrics(study, seed=3), n=PEOPLE if len(file.conditions) > 1 else 16)
        assert {journey.outcome for journey in journeys} == {"complete"}
        return export(database, study, folder / "export", sources=("bot",), stale_s=3600).folder, store
    finally:
        database.close()


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder, _ = taken(study_file("road-drawing", ACCURACY), tmp_path_factory.mktemp("draw"))
    return read_drawings(folder)


def test_an_export_holds_each_drawing_once_without_practice(drawings: pd.DataFrame) -> None:
    assert len(drawings) == PEOPLE * 6
    assert not drawings.duplicated(["participant_id", "item_id"]).any()
    assert drawings.groupby(["condition", "item_id"]).size().tolist() == [8] * 24
    assert (drawings["phase"] == "test").all()


def test_the_share_of_right_drawings_given_to_people_comes_back(drawings: pd.DataFrame) -> None:
    result = drawing(drawings, ways=12, permutations=200)
    ceiling = result.get("recognisability", "generator (control)").value
    for condition, accuracy in ACCURACY.items():
        found = result.get("recognisability", condition)
        assert found.low <= accuracy * ceiling + 0.02
        assert found.high >= accuracy * ceiling - 0.02
        assert result.get("recognisability above null", condition).p < 0.01
    found = result.get("recognisability difference", "view − memory")
    assert found.low > 0
    assert found.low <= (0.95 - 0.6) * ceiling <= found.high
    assert result.get("diversity difference", "view − memory").high < 0


class Sampler:
    """A model that sees the exemplar and redraws something of its category: it knows which one from outside."""

    def __init__(self, study: FrozenStudy) -> None:
        self.items = {t.trial_id: (t.item_id, t.shown) for trials in study.trials.values() for t in trials}
        self.number = 5000

    def __call__(self, seen: Seen) -> tuple[list[list[list[float]]], None]:
        item, shown = self.items[seen.trial_id]
        assert isinstance(shown, Draw)
        self.number += 1
        strokes = sketch(sketch_id(item.split("/")[0], self.number))
        return [[[0.0, *map(float, np.floor(point * shown.size[0]))] for point in one] for one in strokes], None


def test_a_network_that_draws_takes_the_same_schedule_and_leaves_the_same_rows(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    build(study_file("road-model", {"view": 0.9}), store)
    study = Library(store).newest("road-model")
    database = Database(tmp_path / "m.sqlite")
    try:
        observe(study, database, lambda: Sampler(study), name="sampler", n=8)
        folder = export(database, study, tmp_path / "export", sources=("network",), stale_s=3600).folder
    finally:
        database.close()
    rows = read_drawings(folder)
    assert set(rows["source"]) == {"network"}
    assert drawing(rows, ways=12, permutations=20).get("recognisability", "view").value > 0.85


def test_uncovered_sketches_give_importance_maps(tmp_path: Path) -> None:
    file = study_file("road-uncover", {"uncover": 0.5}, task="uncover", reveal_ms=2000)
    folder, store = taken(file, tmp_path)
    rounds = read_rounds(folder)
    assert len(rounds) == 16 * 6
    assert set(rounds["word"]) <= {item.split("/")[0].removeprefix("doodle-") for item in rounds["item_id"]}
    found = clickme(rounds, side=32).get("split-half correlation above null", "uncover")
    assert found.low < 0.1
    assert found.n == 12
    maps = write_maps(folder, tmp_path / "maps", store, side=32)
    assert maps.tensors("maps.safetensors")["maps"].shape == (12, 32, 32)

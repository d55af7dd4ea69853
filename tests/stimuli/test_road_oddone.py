"""The whole road of the odd-one-out protocol: built, taken by bots and a network, exported, analysed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.models.oddone import oddone
from bench.images import read_picture
from bench.store import Store
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.bots.model import Psychometrics
from psychophysics_server.bots.observer import observe
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import FrozenStudy, open_frozen
from stimuli.build import build
from stimuli.records import Bots, StudyFile

pytestmark = pytest.mark.long

RULES = ["colour", "size", "position", "flip", "shape-colour", "size-rotation", "colour-count", "shape-position"]
PEOPLE = 32


def frozen(root: Path, effect: float) -> FrozenStudy:
    """Build a study whose bots are better at elementary rules by `effect` logits."""
    file = StudyFile(
        study="odd-road",
        version=1,
        protocol="oddone",
        title="Odd",
        conditions=("everyone",),
        contact="study@example.org",
        design={"rules": RULES, "sessions": 4, "problems": 8, "size": 64},
        quota=PEOPLE,
        bots=Bots(
            accuracy={"everyone": (0.7,) * 4},
            effects={"composition": {"elementary": effect / 2, "composed": -effect / 2}},
            careless_share=0,
            dropout_share=0,
        ),
    )
    return open_frozen(build(file, Store(root)))


def by_colour(seen):
    """A network that looks at nothing but the mean colour: the picture that lies farthest from the three others."""
    faces = [face["pictures"][0] for face in seen.payload["faces"]]
    if not seen.options:
        return "colour, perhaps", None
    inks = []
    for name in faces:
        pixels = read_picture(seen.pictures[name]).reshape(-1, 3).astype(float)
        inks.append(pixels[pixels.min(axis=1) < 130].mean(axis=0))
    apart = [np.linalg.norm(ink - np.median(inks, axis=0)) for ink in inks]
    return seen.options[int(np.argmax(apart))], 0.5


def taken(tmp_path: Path, study: FrozenStudy, *, network: bool = False) -> pd.DataFrame:
    """Let bots, and perhaps a network, take the study; return the answers of the export."""
    database = Database(tmp_path / "road.sqlite")
    try:
        run_inside(study, database, n=PEOPLE, seed=3)
        if network:
            observe(study, database, lambda: by_colour, name="mean-colour", n=len(study.cells))
        export(database, study, tmp_path / "out", sources=("bot", "network"), stale_s=1e9)
    finally:
        database.close()
    trials = pd.read_csv(tmp_path / "out/data/study-oddroad_data.csv")
    return trials[trials["phase"] == "test"]


def difference(trials: pd.DataFrame):
    result = oddone(trials, formula=None, draws=50)
    return next(
        one for one in result.estimates if one.quantity == "accuracy difference of composition over rules, people"
    )


def test_the_effect_given_to_the_bots_is_recovered(tmp_path: Path) -> None:
    study = frozen(tmp_path, 1.6)
    mind = Psychometrics(study, seed=3)
    trials = [trial for cell in study.trials.values() for trial in cell if trial.asks and trial.phase == "test"]
    chances: dict[str, list[float]] = {"elementary": [], "composed": []}
    for index in range(PEOPLE):
        person = mind.person(index, len(trials))
        for trial in trials:
            chances[trial.factors["composition"]].append(mind.probability(person, trial, "everyone"))
    truth = np.mean(chances["elementary"]) - np.mean(chances["composed"])
    found = difference(taken(tmp_path, study))
    assert found.low < truth < found.high
    assert found.low > 0


def test_a_network_takes_the_same_trials_and_stands_beside_people(tmp_path: Path) -> None:
    study = frozen(tmp_path, 0.0)
    answers = taken(tmp_path, study, network=True)
    assert set(answers["source"]) == {"bot", "network"}
    result = oddone(answers, formula=None, draws=50)
    scores = {one.label: one for one in result.estimates if one.quantity == "accuracy of rule, networks"}
    # The mean colour of the ink is all it needs for 'colour', and no help where colour is free.
    assert scores["colour"].value > 0.9
    assert scores["flip"].value < 0.7
    gaps = {one.label: one.value for one in result.estimates if one.quantity == "people minus networks"}
    assert gaps["colour"] < 0 < gaps["flip"]


def test_descriptions_are_exported_beside_the_answers(tmp_path: Path) -> None:
    study = frozen(tmp_path, 0.0)
    database = Database(tmp_path / "said.sqlite")
    try:
        run_inside(study, database, n=8, seed=1)
        export(database, study, tmp_path / "out", sources=("bot",), stale_s=1e9)
    finally:
        database.close()
    table = pd.read_csv(next((tmp_path / "out").glob("data/study-oddroad_data.csv")))
    said = table[table["problem"] == 0]
    assert len(said) == 8 * 4
    assert said["has_text"].all()
    assert said["correct"].isna().all()

"""The reveal game from frozen set to alignment: bots play it, the export gives maps, and what was planted is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from analysis.cli import analyze
from analysis.importance import read_rounds, write_maps
from analysis.measures.importance_maps import Filters
from analysis.models.clickme import clickme
from bench import api
from bench.engine import Engine, Network
from bench.registry import LimenError
from bench.store import Artifact, Store
from psychophysics_server.bots.fleet import inside
from psychophysics_server.bots.model import Psychometrics, generator
from psychophysics_server.bots.replies import Given
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import FrozenStudy, Library
from stimuli.build import build
from stimuli.records import Bots, Checks, StudyFile
from stimuli.trials import Reveal

SIZE, PEOPLE = 64, 32


def study_file(name: str) -> StudyFile:
    return StudyFile(
        study=name,
        version=1,
        protocol="clickme",
        title="Uncover it",
        run="demo",
        conditions=("oracle",),
        contact="study@example.org",
        quota=PEOPLE,
        design={"images": 24, "rounds": 12, "lists": 4, "size": SIZE, "practice": 1, "catch": 2, "limit_ms": 3000},
        checks=Checks(catch_accuracy=0.5, quiz_attempts=3),
        bots=Bots(accuracy={"oracle": (0.6,)}, careless_share=0, dropout_share=0, catch_accuracy=1.0),
    )


class Diagnostic(Psychometrics):
    """People who walk around the object of the picture: each step goes to a place drawn around its middle."""

    def __init__(self, study: FrozenStudy, objects: dict[str, np.ndarray], *, seed: int) -> None:
        super().__init__(study, seed=seed)
        self.objects = objects

    def answer(self, person: Any, trial: Any, condition: str, attempt: int, told: str = "") -> Given:
        given = super().answer(person, trial, condition, attempt, told)
        if not isinstance(trial.shown, Reveal) or not given.strokes:
            return given
        shown, draw = trial.shown, generator(self.seed, "walk", person.index, trial.trial_id, attempt)
        rows, columns = np.nonzero(self.objects[trial.item_id])
        scale = shown.size[0] / self.objects[trial.item_id].shape[1]
        here, strokes = None, []
        for time, _, _ in given.strokes:
            pick = int(draw.integers(len(rows)))
            aim = (np.array([columns[pick], rows[pick]]) + 0.5) * scale
            here = aim if here is None else here + np.clip(aim - here, -shown.step_px, shown.step_px)
            here = np.clip(here, 0, shown.size[0] - 1e-3)
            strokes.append([time, float(here[0]), float(here[1])])
        return Given(response=given.response, rt_ms=given.rt_ms, strokes=strokes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("road-clickme")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def objects(store: Store) -> dict[str, np.ndarray]:
    """Image id -> bool mask of the object: where the artificial 'grad_cam' is weak."""
    run = next(iter(store.all("runs")))
    images = store.open("images", run.manifest["parents"]["images"]).rows()
    maps = store.open("explanations", run.manifest["parents"]["explanations/grad_cam"]).tensors("maps.safetensors")[
        "maps"
    ]
    return {row.image_id: maps[row.index] < 0.5 for row in images.itertuples()}


def play(store: Store, folder: Path, name: str, mind: Callable[[FrozenStudy], Psychometrics]) -> Path:
    build(study_file(name), store)
    study = Library(store).newest(name)
    database = Database(folder / f"{name}.sqlite")
    try:
        journeys = inside(study, database, mind(study), n=PEOPLE)
        assert {journey.outcome for journey in journeys} == {"complete"}
        return export(database, study, folder / name, sources=("bot",), stale_s=3600).folder
    finally:
        database.close()


@pytest.fixture(scope="module")
def games(store: Store, objects: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("games")
    return {
        "planted": play(store, folder, "planted", lambda study: Diagnostic(study, objects, seed=1)),
        "random": play(store, folder, "random", lambda study: Psychometrics(study, seed=1)),
    }


@pytest.fixture(scope="module")
def maps(store: Store, games: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    out = tmp_path_factory.mktemp("maps")
    return {name: write_maps(folder, out, store, side=32) for name, folder in games.items()}


class Blind(torch.nn.Module):
    """Two logits of the mean colour."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))[:, :2]


def align(store: Store, human: Artifact, explained: np.ndarray) -> api.ScoreResult:
    run = next(iter(store.all("runs")))
    pictures = store.open("images", run.manifest["parents"]["images"]).tensors("pictures.safetensors")["pictures"]
    engine = Engine(Network(name="blind", module=Blind(), classes=("a", "b"), size=32), device="cpu", precision="fp32")
    return api.score("human_alignment", engine, pictures, explained[:, None], 0, human=str(human.path))


def test_catch_and_practice_rounds_are_not_part_of_the_maps(store: Store, games: dict[str, Path]) -> None:
    rounds = read_rounds(games["random"])
    assert len(rounds) == PEOPLE * 12
    assert rounds.groupby("item_id")["participant_id"].nunique().tolist() == [PEOPLE // 2] * 24


def test_people_who_uncover_the_object_agree_and_random_walks_do_not(games: dict[str, Path]) -> None:
    found = {name: clickme(read_rounds(folder), side=32) for name, folder in games.items()}
    planted = found["planted"].get("split-half correlation above null", "oracle")
    assert planted.low > 0.3
    assert found["planted"].get("split-half ceiling", "oracle").value > 0.8
    nothing = found["random"].get("split-half correlation above null", "oracle")
    assert nothing.low < 0 < nothing.high


def test_maps_of_people_who_uncover_the_object_align_with_it_and_random_ones_do_not(
    store: Store, objects: dict[str, np.ndarray], maps: dict[str, Artifact]
) -> None:
    truth = np.stack([mask.astype(np.float32) for mask in objects.values()])
    planted, nothing = (align(store, maps[name], truth) for name in ("planted", "random"))
    assert planted.n == nothing.n == 24
    assert planted.gain.low > 0.2
    assert nothing.gain.low < 0.05
    assert nothing.gain.mean < 0.1
    assert np.nanmean(planted.extra["dice"]) > 0.6


def test_the_same_export_gives_the_same_maps(store: Store, games: dict[str, Path], maps: dict[str, Artifact]) -> None:
    assert write_maps(games["planted"], maps["planted"].path.parents[1], store, side=32).path == maps["planted"].path
    assert maps["planted"].verify() == []


def test_the_command_writes_the_maps_and_says_where(store: Store, games: dict[str, Path], tmp_path: Path) -> None:
    command = ["maps", str(games["planted"]), "-o", str(tmp_path), "--store", str(store.root), "--side", "32"]
    said = CliRunner().invoke(analyze, command, catch_exceptions=False)
    assert said.exit_code == 0
    assert "24 images" in said.output
    written = next(iter(Store(tmp_path).all("human_maps")))
    assert str(written.path) in said.output
    assert written.rows()["people"].tolist() == [16] * 24


def test_faults_of_a_user_are_one_sentence(store: Store, games: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(LimenError, match="no image has enough people"):
        write_maps(games["planted"], tmp_path, store, filters=Filters(min_people=17))
    with pytest.raises(LimenError, match="oracle"):
        write_maps(games["planted"], tmp_path, store, condition="alone")
    with pytest.raises(LimenError, match="an export of a reveal game"):
        read_rounds(tmp_path)
    with pytest.raises(LimenError, match="is not there"):
        write_maps(games["planted"], tmp_path, Store(tmp_path), side=32)

"""The road of the bias scenario: bots that go by what explanations show of the background, exported and analysed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.load import load
from analysis.models.utility import utility
from bench.registry import LimenError
from bench.store import Artifact, Store
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.bots.model import Psychometrics, success
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import FrozenStudy, open_frozen
from stimuli.build import build
from stimuli.records import StudyFile

CONDITIONS = ("baseline", "saliency", "grad_cam", "craft")
SLOPE = 16.0
PLAIN = {"lapse": 0, "careless_share": 0, "dropout_share": 0, "participant_sd": 0.3, "item_sd": 0.2}


def _study(**bots: object) -> StudyFile:
    accuracy = dict.fromkeys(CONDITIONS, (0.55, 0.55, 0.55))
    return StudyFile(
        study="road-bias", version=1, protocol="utility", title="Road", run="demo", conditions=CONDITIONS, quota=40,
        contact="study@example.org", design={"scenario": "bias", "size": 32},
        bots={"accuracy": accuracy, **PLAIN, **bots},
    )  # fmt: skip


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> FrozenStudy:
    root = tmp_path_factory.mktemp("road-bias")
    fake_run(root, n=160, craft=True)
    return open_frozen(build(_study(slopes={"region_mass": SLOPE}), Store(root)))


def _taught(frozen: FrozenStudy, condition: str) -> pd.Series:
    """Return the mean of what a condition's explanations showed of the background, by session."""
    rows = [
        (trial.session, trial.factors["region_mass"])
        for cell in frozen.cells if cell.condition == condition
        for trial in frozen.trials[cell.cell] if trial.phase == "test" and not trial.is_catch
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["session", "mass"]).groupby("session")["mass"].mean()


def test_a_slope_moves_the_logit_by_what_the_trial_says(frozen: FrozenStudy) -> None:
    model = Psychometrics(frozen, seed=0)
    cell = next(cell for cell in frozen.cells if cell.condition == "grad_cam")
    trial = next(trial for trial in frozen.trials[cell.cell] if trial.phase == "test" and not trial.is_catch)
    person = model.person(0, 10)
    assert trial.factors["region_mass"] > 0
    expected = success(
        0.55, person=person.ability, item=model.ease(trial.item_id) + SLOPE * trial.factors["region_mass"],
        lapse=0, options=2,
    )  # fmt: skip
    assert model.probability(person, trial, "grad_cam") == pytest.approx(expected)
    bare = next(cell for cell in frozen.cells if cell.condition == "baseline")
    assert {model.shift(trial) for trial in frozen.trials[bare.cell]} == {0.0}


@pytest.mark.parametrize("factor", ["region_masss", "condition"])
def test_a_slope_on_what_no_trial_carries_is_refused(frozen: FrozenStudy, factor: str) -> None:
    bots = frozen.file.bots.model_copy(update={"slopes": {factor: 1.0}})  # type: ignore[union-attr]
    with pytest.raises(LimenError, match=r"key 'bots.slopes', numeric factor: unknown name.*allowed are region_mass"):
        Psychometrics(frozen, seed=0, bots=bots)


@pytest.mark.long
def test_bots_that_use_the_background_of_explanations_predict_better_than_the_baseline(
    frozen: FrozenStudy, tmp_path: Path
) -> None:
    with closing(Database(tmp_path / "answers.db")) as database:
        journeys = run_inside(frozen, database, n=40 * len(CONDITIONS), seed=5)
        export(database, frozen, tmp_path / "export", sources=["bot"], stale_s=60.0)
    assert {journey.outcome for journey in journeys} == {"complete"}
    study = load(tmp_path / "export")
    assert study.provenance["protocol"]["pool"]["scenario"] == "bias"
    assert study.provenance["protocol"]["rules"][0].startswith("Scenario 'bias'")
    data = study.answers()
    found = utility(data, bootstrap=0)
    grad_cam = found.get("utility (ratio_of_means)", "grad_cam")
    assert grad_cam.low > 1
    assert grad_cam.n == 40
    # What the maps of each condition gave these bots, at the median person and item; so a little too far from one half.
    for name in ("grad_cam", "craft"):
        logit = np.log(0.55 / 0.45) + SLOPE * _taught(frozen, name)
        given = (1 / (1 + np.exp(-logit))).mean() / 0.55
        item = found.get("utility (ratio_of_means)", name)
        assert item.low <= given <= item.high
    order = data.groupby("condition")["correct"].mean()
    assert order["grad_cam"] > order["baseline"]
    assert data.loc[data["condition"] == "baseline", "region_mass"].eq(0).all()


@pytest.mark.long
def test_at_zero_slope_the_interval_leaves_one_out_at_the_nominal_rate() -> None:
    """400 studies of 2 x 30 bots on 21 images, none of whom makes use of anything: about 5 in 100 miss."""
    draws, misses, studies = np.random.default_rng(6), 0, 400
    for _ in range(studies):
        ease = draws.normal(0, 0.4, 21)
        person = draws.normal(0, 0.5, (60, 1))
        chance = 1 / (1 + np.exp(-(np.log(0.55 / 0.45) + person + ease)))
        correct = (draws.random((60, 21)) < chance).astype(float)
        table = pd.DataFrame({
            "participant_id": np.repeat(np.arange(60), 21).astype(str),
            "condition": np.repeat(["baseline", "grad_cam"], 30 * 21),
            "session": np.tile(np.repeat([1, 2, 3], 7), 60),
            "k_seen": np.tile(np.repeat([5, 10, 15], 7), 60),
            "correct": correct.ravel(),
        })  # fmt: skip
        found = utility(table, bootstrap=0).get("utility (ratio_of_means)", "grad_cam")
        misses += not found.low <= 1 <= found.high
    low, high = stats.binom.interval(0.999, studies, 0.05)
    assert low <= misses <= high

"""Pre-registration: the plan says all that was decided, its hash holds it, exports carry it, and deviations are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from analysis.load import load
from analysis.plan import compose, deviations, keep, read_plan
from analysis.plan.cli import check_plan, freeze
from analysis.power import grid, runner
from analysis.power.assume import assume, decision
from analysis.power.files import Analysis, run_grid, write
from analysis.power.shape import shape_of
from bench.registry import LimenError
from bench.store import Artifact, Store
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.export.check import check_export
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import open_frozen
from psychophysics_server.study.plan import content_hash, frozen_plan
from stimuli.build import build
from stimuli.records import StudyFile
from stimuli.study import resolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def changed(one: StudyFile, **facts: Any) -> StudyFile:
    return StudyFile(**{**one.model_dump(exclude_unset=True), **facts})


@pytest.fixture(scope="module")
def road(
    tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact], small_study_file: StudyFile
) -> Any:
    """Build a study, freeze its plan, let bots take it, export it."""
    root = tmp_path_factory.mktemp("plan")
    fake_run(root / "store")
    store = Store(root / "store")
    primary = {"level": "grad_cam", "reference": "baseline", "direction": "greater"}
    analysis = {"primary": primary, "hypotheses": ["Grad-CAM helps."], "equivalence_margin": 0.05}
    study = changed(small_study_file, study="planned", analysis=analysis)
    file = root / "planned.yaml"
    file.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_unset=True)))
    artifact = build(study, store)
    told = CliRunner().invoke(freeze, [str(file), "--store", str(store.root)], catch_exceptions=False)
    frozen = open_frozen(artifact)
    with closing(Database(root / "answers.db")) as database:
        run_inside(frozen, database, n=12, seed=1)
        export(database, frozen, root / "export", sources=["bot"], stale_s=60.0)
    return SimpleNamespace(root=root, store=store, study=study, file=file, artifact=artifact, told=told)


def test_the_command_writes_plan_and_page_and_prints_the_hash(road):
    plan = read_plan(road.root / "planned.plan.json")
    assert f"SHA-256: {plan['sha256']}" in road.told.output
    page = (road.root / "planned.plan.md").read_text()
    for text in (
        plan["sha256"],
        "Grad-CAM helps.",
        "grad_cam against baseline",
        "catch_accuracy: 0.5",
        "`correct ~ condition",
    ):
        assert text in page


def test_the_plan_says_all_that_was_decided(road):
    plan = read_plan(road.root / "planned.plan.json")
    assert plan["stimuli"] == road.artifact.key
    assert plan["contrasts"] == ["accuracy difference: grad_cam"]
    assert plan["primary"]["direction"] == "greater"
    assert plan["exclusions"] == {"catch_accuracy": 0.5, "practice_attempts": 5}
    assert (plan["participants"], plan["participants_per_condition"]) == (8, 4)
    assert plan["answers_held"] == {"live": 0}
    assert plan["further"] == {"equivalence_margin": 0.05}
    assert plan["power"] is None


def test_equal_content_has_one_hash_in_any_order_and_a_changed_figure_another():
    plan = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert content_hash(plan) == content_hash({"b": {"d": None, "c": [1, 2]}, "a": 1, "sha256": "anything"})
    assert content_hash(plan) != content_hash({"a": 1, "b": {"c": [2, 1], "d": None}})


def test_a_plan_edited_after_the_freeze_is_refused(road, tmp_path):
    plan = json.loads((road.root / "planned.plan.json").read_text())
    file = tmp_path / "edited.json"
    file.write_text(json.dumps({**plan, "participants": 400}))
    with pytest.raises(LimenError, match="was changed after it was frozen"):
        read_plan(file)


def test_nothing_is_frozen_twice(road, tmp_path):
    plan = compose(road.study, road.artifact, now=NOW)
    with pytest.raises(LimenError, match="its plan was frozen before"):
        keep(plan, tmp_path / "again.json", road.store)
    assert not (tmp_path / "again.json").exists()
    with pytest.raises(LimenError, match="never overwritten"):
        keep(plan, road.root / "planned.plan.json", road.store)


def test_the_export_carries_the_plan_and_is_still_fit_to_share(road):
    told = json.loads((road.root / "export" / "provenance.json").read_text())
    assert told["plan"] == read_plan(road.root / "planned.plan.json")
    assert check_export(road.root / "export").faults == []


def test_a_stimulus_set_without_a_plan_exports_none(small_study):
    assert frozen_plan(small_study) == {}


def test_a_plan_changed_in_the_store_stops_the_export(road, tmp_path):
    import shutil

    shutil.copytree(road.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    file = next(store.all("plans")).path / "plan.json"
    file.write_text(file.read_text().replace("Grad-CAM helps.", "Grad-CAM harms."))
    with pytest.raises(LimenError, match="was changed after it was frozen"):
        frozen_plan(next(one for one in store.all("stimuli")))


def test_a_study_run_as_planned_differs_in_its_numbers_of_people_alone(road):
    study, plan = load(road.root / "export"), read_plan(road.root / "planned.plan.json")
    assert study.plan == plan
    found = deviations(plan, study)
    assert all("participants to analyse; planned were 4" in one for one in found)


def test_each_kind_of_deviation_is_told(road):
    study, plan = load(road.root / "export"), read_plan(road.root / "planned.plan.json")
    told = {**study.provenance, "stimuli": "another", "checks": {"catch_accuracy": 0.75}}
    told["study_file"] = {**told["study_file"], "analysis": {"primary": "baseline - grad_cam"}}
    sessions = study.sessions.assign(excluded=True, exclusion_reason="researcher")
    card = {**study.card, "formula": "correct ~ 1 + (1|participant)"}
    other = replace(study, version="2", provenance=told, sessions=sessions, card=card)
    text = " ".join(deviations({**plan, "answers_held": {"live": 3}}, other))
    for part in (
        "was changed after it was frozen", "stimulus set is another", "version of the study is 2", "formula of the primary",
        "primary contrast is 'baseline - grad_cam'", "'catch_accuracy' is 0.75; in the plan it is 0.5",
        "'practice_attempts' is not applied", "excluded by hand", "3 sessions of participants were held already",
        "has 0 participants to analyse",
    ):  # fmt: skip
        assert part in text


def test_the_check_names_the_deviations_and_fails(road):
    plan = road.root / "planned.plan.json"
    result = CliRunner().invoke(check_plan, [str(plan), str(road.root / "export")])
    expected = deviations(read_plan(plan), load(road.root / "export"))
    assert bool(result.exit_code) == bool(expected)
    assert all(one in result.output for one in expected)


def test_the_power_analysis_that_gave_n_is_in_the_plan_and_another_studys_is_refused(road, tmp_path):
    shape = shape_of(resolve(road.study), road.artifact)
    test = decision(road.study, shape)
    held = assume(road.study, shape, test.contrast)
    tasks = grid(held.assumed, test, {"participants": (4,), "items": (8,)}, sims=1, seed=5, search=False)
    with runner(1) as run:
        cells = tuple(run_grid(tasks, run))
    write(Analysis(study="planned", study_version=1, protocol="utility", sources=held.sources, cells=cells), tmp_path)
    power = json.loads((tmp_path / "power.json").read_text())
    plan = compose(road.study, road.artifact, power=power, now=NOW)
    assert plan["power"]["seed"] == 5
    assert plan["power"]["chosen"][0]["participants"] == 4
    assert plan["power"]["assumed"]["sources"]["effect"] == "bots of the study file"
    with pytest.raises(LimenError, match="is of study 'other'"):
        compose(road.study, road.artifact, power={**power, "study": "other"}, now=NOW)
    with pytest.raises(LimenError, match="no cell of 9 participants"):
        compose(changed(road.study, quota=9), road.artifact, power=power, now=NOW)


def test_the_shape_read_off_a_built_set_is_the_one_its_file_tells(road):
    built, told = shape_of(resolve(road.study), road.artifact), shape_of(resolve(road.study))
    for name in ("factor", "levels", "within", "crossed", "trials", "analysis", "chance"):
        assert getattr(built, name) == getattr(told, name)
    assert built.source.startswith("stimulus set")


def test_the_commands_hang_on_the_study_group_by_entry_points():
    import click

    from psychophysics_server.cli import study

    assert {"freeze", "check-plan"} <= set(study.list_commands(click.Context(study)))

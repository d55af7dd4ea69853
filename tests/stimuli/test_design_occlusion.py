"""The causal occlusion task: the copy whose square changes the unit less is expected, and every broken rule is found."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.images import occluded
from bench.overlay import enlarge
from bench.registry import LimenError
from bench.store import Artifact, Store
from psychophysics_server.bots.fleet import inside
from psychophysics_server.bots.model import Psychometrics
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import Library
from stimuli.build import build, verify
from stimuli.designs.visualization import visualization
from stimuli.protocol import Tables
from stimuli.records import Bots, StudyFile

DESIGN: dict[str, Any] = {
    "task": "occlusion", "schemes": ["max-4"], "units": 4, "per_list": 2, "lists": 4, "batches": 2, "practice": 1,
    "catch": 1, "size": 64, "layers": ["early"],
}  # fmt: skip


def study_file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "covered", "version": 1, "protocol": "visualization", "title": "Parts", "run": "demo",
        "conditions": ("natural", "synthetic", "none"), "contact": "a@b.org", "design": DESIGN, "quota": 8, "seed": 5,
    }  # fmt: skip
    facts |= changes
    return StudyFile(**facts, bots=Bots(accuracy=dict.fromkeys(facts["conditions"], (0.8,)), dropout_share=0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> tuple[Store, Artifact]:
    root = tmp_path_factory.mktemp("covered")
    return Store(root), fake_run(root)


@pytest.fixture(scope="module")
def made(run: tuple[Store, Artifact]) -> Artifact:
    return build(study_file(), run[0])


def audit(made: Artifact, **changes: pd.DataFrame) -> list[str]:
    study, options = StudyFile.model_validate(made.config["file"]), made.config["design"]["options"]
    held = {name: made.rows(f"{name}.parquet") for name in ("trials", "cells", "items")} | changes
    tables = Tables(study, options, held["trials"], held["cells"], held["items"])
    return visualization.audit(tables)  # type: ignore[attr-defined,no-any-return]


def rows(made: Artifact) -> list[dict[str, Any]]:
    read = made.rows("trials.parquet").to_dict("records")
    return [{str(k): json.loads(v) if k in {"payload", "answer", "factors"} else v for k, v in r.items()} for r in read]


def facts(made: Artifact) -> dict[str, Any]:
    return {row["item_id"]: json.loads(row["facts"]) for row in made.rows("items.parquet").to_dict("records")}


def pixels(made: Artifact, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(made.file(f"pictures/{name}.png").read_bytes())) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_built_study_verifies_and_is_the_same_again(run: tuple[Store, Artifact], made: Artifact) -> None:
    assert verify(made) == []
    assert build(study_file(), run[0]).manifest["files"] == made.manifest["files"]


def test_the_activations_told_are_those_of_the_run_on_the_copies_that_are_shown(
    run: tuple[Store, Artifact], made: Artifact
) -> None:
    store, bench_run = run
    parents = bench_run.manifest["parents"]
    held = store.open("occlusions", parents["occlusions/neurons @ early"]).tensors("occlusions.safetensors")
    pool = store.open("images", parents["images/concepts"]).tensors("pictures.safetensors")["pictures"]
    large, compared = [enlarge(one, 64) for one in pool], 0
    for known in facts(made).values():
        atom = known["atoms"][0][2]
        for batch in known["batches"]:
            names = [one["picture"] for one in (batch["base"], batch["high"][0], batch["low"][0])]
            if not {f"pictures/{name}.png" for name in names} <= set(made.manifest["files"]):
                continue
            compared += 1
            base = pixels(made, batch["base"]["picture"])
            (index,) = (i for i, one in enumerate(large) if np.array_equal(one, base))
            (place,) = np.flatnonzero(held["index"] == index)
            peak = held["peak"][place, :, atom]
            assert batch["base"]["activation"] == pytest.approx(held["whole"][place, atom])
            assert batch["high"][0]["activation"] == pytest.approx(peak.max())
            assert batch["low"][0]["activation"] == pytest.approx(peak.min())
            assert peak.max() - peak.min() >= 0.1 * held["whole"][place, atom]
            for part in ("high", "low"):
                shown = pixels(made, batch[part][0]["picture"])
                assert np.array_equal(shown, enlarge(occluded(pool[index], batch[part][0]["box"], 128), 64))
    assert compared >= 8


def test_a_trial_shows_the_favourite_above_its_copies_and_none_of_it_among_the_references(made: Artifact) -> None:
    known = facts(made)
    for row in rows(made):
        grids = {grid["polarity"]: grid["pictures"] for grid in row["payload"]["references"]}
        batch = known[row["item_id"]]["batches"][row["factors"]["batch"]]
        assert grids["base"] == [batch["base"]["picture"]]
        assert ("max" in grids) == (row["condition"] != "none")
        assert not set(grids["base"]) & set(grids.get("max", ()))
        right = row["payload"]["queries"][row["payload"]["options"].index(row["answer"]["expected"])]
        other = next(name for name in row["payload"]["queries"] if name != right)
        assert other == batch["low"][0]["picture"]
        assert right == (batch["base"] if row["is_catch"] else batch["high"][0])["picture"]


def test_steps_of_confidence_say_what_they_mean(made: Artifact) -> None:
    for row in rows(made):
        confidence = row["payload"]["confidence"]
        assert (confidence["levels"], confidence["low"], confidence["high"]) == (3, "unsure", "certain")


def test_texts_speak_of_covered_copies(made: Artifact) -> None:
    texts = StudyFile.model_validate(made.config["file"]).texts
    assert texts is not None
    assert "grey square" in texts.instructions[1].body
    assert "not covered at all" in texts.debrief.body


def _trial(change: Callable[[dict[str, Any]], None], *, catch: bool = False) -> Callable[[Artifact], dict[str, Any]]:
    def planted(made: Artifact) -> dict[str, Any]:
        trials = made.rows("trials.parquet")
        shown = (trials["phase"] == "test") & (trials["is_catch"] == catch) & (trials["condition"] == "natural")
        place = trials.index[shown][0]
        payload, answer = (json.loads(trials.at[place, name]) for name in ("payload", "answer"))
        change({"payload": payload, "answer": answer})
        trials.at[place, "payload"], trials.at[place, "answer"] = json.dumps(payload), json.dumps(answer)
        return {"trials": trials}

    return planted


def _item(change: Callable[[dict[str, Any]], None]) -> Callable[[Artifact], dict[str, Any]]:
    def planted(made: Artifact) -> dict[str, Any]:
        items = made.rows("items.parquet")
        known = json.loads(items.at[0, "facts"])
        change(known)
        items.at[0, "facts"] = json.dumps(known)
        return {"items": items}

    return planted


def _other(row: dict[str, Any]) -> None:
    row["answer"]["expected"] = next(o for o in row["payload"]["options"] if o != row["answer"]["expected"])


def _base(row: dict[str, Any]) -> None:
    row["payload"]["references"][-1]["pictures"] = ["0" * 64]


def _swap(known: dict[str, Any]) -> None:
    batch = known["batches"][1]
    batch["high"], batch["low"] = batch["low"], batch["high"]


VIOLATIONS: dict[str, tuple[Callable[[Artifact], dict[str, Any]], str]] = {
    "the other copy is expected": (_trial(_other), "does not expect"),
    "another favourite": (_trial(_base), "another favourite picture"),
    "a catch trial expects the covered copy": (_trial(_other, catch=True), "does not offer its favourite picture"),
    "copies in the other order": (_item(_swap), "not in the stated order"),
    "one place": (_item(lambda k: k["batches"][1]["high"][0].update(box=k["batches"][1]["low"][0]["box"])), "at one place"),
    "another size": (_item(lambda k: k["batches"][1]["high"][0].update(box=[0, 0, 3, 3])), "differ in size"),
    "a favourite twice": (
        _item(lambda k: k["batches"][1].update(base=k["batches"][2]["base"])), "favourite picture twice"),
    "a favourite among references": (
        _item(lambda k: k["batches"][1]["max"][0].update(picture=k["batches"][2]["base"]["picture"])),
        "favourite picture among its references"),
    "no effect": (
        _item(lambda k: k["batches"][1]["low"][0].update(activation=k["batches"][1]["high"][0]["activation"])),
        "differ by less"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(VIOLATIONS))
def test_the_audit_finds(made: Artifact, name: str) -> None:
    planted, says = VIOLATIONS[name]
    assert audit(made) == []
    assert any(says in fault for fault in audit(made, **planted(made)))


@pytest.mark.parametrize(("design", "says"), [
    ({"schemes": ["min-max-4"]}, "favourite pictures alone"), ({"hardness": 90}, "it says nothing"),
    ({"effect": 1.0}, "design.units"), ({"basis": "none"}, "no layer has features"),
])  # fmt: skip
def test_what_cannot_be_is_refused(run: tuple[Store, Artifact], design: dict[str, Any], says: str) -> None:
    changed = {**DESIGN, **design}
    if "basis" in design:
        changed.pop("layers")
    with pytest.raises(LimenError, match=says):
        build(study_file(study="wrong", design=changed), run[0])


def test_a_run_without_occlusions_is_refused_in_a_sentence(run: tuple[Store, Artifact]) -> None:
    options = {"basis": "neurons", "layers": ("early",), "task": "occlusion", "kinds": ("natural",), "schemes": ()}
    with pytest.raises(LimenError, match="concepts.occlusions"):
        visualization.needs(study_file(conditions=("natural",)), options, ["features/neurons @ early"])  # type: ignore[attr-defined]


def test_bots_take_it_to_the_end(run: tuple[Store, Artifact], made: Artifact, tmp_path: Path) -> None:
    study = Library(run[0]).newest("covered")
    database = Database(tmp_path / "covered.sqlite")
    try:
        journeys = inside(study, database, Psychometrics(study, seed=0), n=3)
    finally:
        database.close()
    assert {journey.outcome for journey in journeys} <= {"complete", "screened_out"}
    assert any(journey.outcome == "complete" for journey in journeys)

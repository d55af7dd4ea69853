"""The distinction protocol: four class explanations, the right one at each place equally often, and its audit."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.overlay import overlay, span
from bench.records import ImageRow, PredictionRow, frame
from bench.registry import LimenError
from bench.store import Artifact, Store, artifact_key, sha256_bytes
from stimuli.build import _tables, build, draw, plan, verify
from stimuli.designs.distinction import _alike, distinction
from stimuli.protocol import Tables
from stimuli.records import ItemRow, StudyFile
from stimuli.render import Show
from stimuli.study import load_study

DESIGN = {"size": 32, "lists": 2, "trials": 8}
FIRST = 1
"""Row of the first question of the first cell: a rating comes before it."""
NAMES = [f"kind-{number}" for number in range(6)]


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "four", "version": 1, "protocol": "distinction", "title": "Which?", "run": "classes", "quota": 8,
        "conditions": ("grad_cam", "random"), "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    """Write a run of 60 pictures of six classes, every second one mistaken; map values tell their class and rank."""
    root: Path = tmp_path_factory.mktemp("distinction")
    fake_run(root)
    store, made, n = Store(root), np.random.default_rng(0), 60
    pictures = made.integers(0, 256, (n, 16, 16, 3)).astype(np.uint8)
    truth, logits = np.arange(n) % 6, made.normal(size=(n, 6)).astype(np.float32)
    logits[np.arange(n), np.where(np.arange(n) // 6 % 2, (truth + 1) % 6, truth)] += 9
    top, found = logits.argmax(1), {}

    def put(role: str, files: dict[str, Any], parents: dict[str, str]) -> None:
        kind, config = role.partition("/")[0], {"role": role}
        with store.write(kind, config, parents=parents) as draft:
            for name, content in files.items():
                if name.endswith("parquet"):
                    draft.write_rows(content, name)
                elif name.endswith("json"):
                    draft.write_json(content, name)
                else:
                    draft.write_tensors(content, name)
        found[role] = artifact_key(kind, config, list(parents.values()))

    hashes = [sha256_bytes(picture.tobytes()) for picture in pictures]
    rows = [ImageRow(image_id=f"i{i}", index=i, label=int(truth[i]), class_name=NAMES[truth[i]], group="", sha256=hashes[i])
            for i in range(n)]  # fmt: skip
    put("images", {"rows.parquet": frame(ImageRow, rows), "pictures.safetensors": {"pictures": pictures}}, {})
    said = [PredictionRow(image_id=f"i{i}", index=i, predicted=int(top[i]), predicted_class=NAMES[top[i]], probability=0.9,
                          correct=bool(top[i] == truth[i])) for i in range(n)]  # fmt: skip
    put("predictions", {"rows.parquet": frame(PredictionRow, said)}, {"images": found["images"]})
    classes = np.argsort(-logits, axis=1)[:, :4].astype(np.int64)
    outside = ~(classes == truth[:, None]).any(axis=1)
    classes[outside, -1] = truth[outside]
    for label in ("grad_cam", "random"):
        maps = np.abs(made.normal(size=(n, 4, 16, 16))).astype(np.float32) * np.array([8, 4, 2, 1])[:, None, None]
        files = {"maps.safetensors": {"maps": maps, "classes": classes}, "classes.json": NAMES}
        put(f"class_explanations/{label}", files, {"images": found["images"]})
    with store.write("runs", {"name": "classes"}, parents=found) as draft:
        draft.write_json({}, "none.json")
    return store


@pytest.fixture(scope="module")
def tables(store: Store) -> Tables:
    made = plan(_file(), store)
    return _tables(made, draw(made))


def _asked(tables: Tables) -> pd.DataFrame:
    return tables.trials[tables.trials["block"] == "distinction"]


def test_conditions_show_the_same_images_with_the_right_one_at_the_same_place(tables: Tables) -> None:
    places: dict[tuple[int, str], set[int]] = {}
    for row in _asked(tables).to_dict("records"):
        place = json.loads(row["payload"])["options"].index(json.loads(row["answer"])["expected"])
        places.setdefault((row["list"], row["item_id"]), set()).add(place)
    assert len(places) == 16
    assert all(len(found) == 1 for found in places.values())


def test_no_class_is_named_unless_it_is_asked_for(store: Store, tables: Tables) -> None:
    assert not any(name in payload for payload in tables.trials["payload"] for name in NAMES)
    named = draw(plan(_file(design={**DESIGN, "names": True}), store))
    for trial in (trial for trial in named.trials if trial.block == "distinction"):
        payload, label = json.loads(trial.payload), json.loads(trial.answer)["label"]
        assert payload["faces"][payload["options"].index(json.loads(trial.answer)["expected"])]["label"] == label


def test_a_joint_scale_shows_weaker_maps_weaker_and_one_of_each_map_does_not(store: Store) -> None:
    def colour(scope: str) -> list[float]:
        from stimuli.render import Album

        album, means = Album(), []
        drawn = draw(plan(_file(design={**DESIGN, "normalisation": scope}), store))
        album.pictures.update(drawn.pictures)
        for rank in (0, 3):
            names = [
                json.loads(item.facts)["pictures"]["grad_cam"][rank] for item in drawn.items if item.role == "main"
            ]
            means.append(float(np.mean([np.ptp(album.pixels(name).astype(int), axis=-1).mean() for name in names])))
        return means

    strong, weak = colour("joint")
    first, last = colour("map")
    assert weak < 0.6 * strong
    assert abs(first - last) < 0.2 * first


@pytest.mark.parametrize("show", ["positive", "magnitude", "signed"])
def test_a_joint_scale_is_one_of_the_four_maps_and_each_map_can_have_its_own(store: Store, show: Show) -> None:
    signed = show == "signed"
    for scope in ("joint", "map"):
        made = plan(_file(conditions=("grad_cam",), design={**DESIGN, "normalisation": scope, "show": show}), store)
        drawn = draw(made)
        item = next(item for item in drawn.items if item.role == "main")
        place = int(made.material.images.set_index("image_id").loc[item.item_id, "index"])
        maps = np.asarray(made.material.artifact("class_explanations/grad_cam").tensors("maps.safetensors")["maps"])[
            place
        ]
        maps = {"positive": np.maximum(maps, 0), "magnitude": np.abs(maps), "signed": maps}[show]
        for rank, name in enumerate(json.loads(item.facts)["pictures"]["grad_cam"]):
            ends = span(maps if scope == "joint" else maps[rank], 99.0, signed=signed)
            expected = overlay(made.material.pictures[place], maps[rank], ends, 32, signed=signed)
            assert sha256_bytes(drawn.pictures[name]) == name
            with Image.open(io.BytesIO(drawn.pictures[name])) as stored:
                assert np.array_equal(np.asarray(stored.convert("RGB")), expected)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(half=st.integers(1, 7), lists=st.integers(1, 3), seed=st.integers(0, 999))
def test_any_size_keeps_the_rules(store: Store, half: int, lists: int, seed: int) -> None:
    drawn = draw(plan(_file(design={"size": 32, "trials": 2 * half, "lists": lists}, seed=seed), store))
    assert sum(item.role == "main" for item in drawn.items) == 2 * half * lists


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(store: Store) -> None:
    first, again, other = (draw(plan(_file(seed=seed), store)) for seed in (0, 0, 1))
    assert (first.pictures, first.trials, first.cells) == (again.pictures, again.trials, again.cells)
    assert first.trials != other.trials


def _without(item: ItemRow, condition: str) -> ItemRow:
    facts = json.loads(item.facts)
    facts["pictures"][condition] = facts["pictures"][condition][:1] * 4
    return replace(item, facts=json.dumps(facts))


def test_images_that_nobody_can_answer_stay_and_are_counted(store: Store) -> None:
    drawn = draw(plan(_file(), store))
    assert drawn.pool["alike"] == {"grad_cam": 0, "random": 0}
    shown = [item for item in drawn.items if item.role == "main"]
    some = [_without(item, "grad_cam") if i < 3 else item for i, item in enumerate(shown)]
    assert _alike(_file(), some, "grad_cam") == 3


def test_an_explanation_that_does_not_depend_on_the_class_is_refused(store: Store) -> None:
    items = [_without(item, "random") for item in draw(plan(_file(), store)).items if item.role == "main"]
    with pytest.raises(LimenError, match="given 'random', which explains all classes of an image alike"):
        _alike(_file(), items, "random")


def test_two_empty_maps_may_stand_at_either_place(tables: Tables) -> None:
    trial = _asked(tables).iloc[0]
    items = tables.items.copy()
    row = items.index[items["item_id"] == trial["item_id"]][0]
    facts = json.loads(str(items.loc[row, "facts"]))
    kept, lost = facts["pictures"][trial["condition"]][:2]
    trials = tables.trials.assign(payload=tables.trials["payload"].str.replace(lost, kept))
    items.loc[row, "facts"] = str(items.loc[row, "facts"]).replace(lost, kept)
    assert distinction.audit(replace(tables, trials=trials, items=items)) == []  # type: ignore[attr-defined]


def test_a_built_set_verifies(store: Store) -> None:
    assert verify(build(_file(study="four-built"), store)) == []


def _change(tables: Tables, part: str, change: Callable[[dict[str, Any]], Any]) -> Tables:
    trials = tables.trials.copy()
    value = json.loads(str(trials.loc[FIRST, part]))
    change(value)
    trials.loc[FIRST, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _facts(tables: Tables, change: Callable[[dict[str, Any]], Any]) -> Tables:
    items = tables.items.copy()
    value = json.loads(str(items.loc[0, "facts"]))
    change(value)
    items.loc[0, "facts"] = json.dumps(value)
    return replace(tables, items=items)


def _all_left(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    for row in range(FIRST, FIRST + 8):
        payload, answer = (json.loads(str(trials.loc[row, name])) for name in ("payload", "answer"))
        while payload["options"][0] != answer["expected"]:
            for name in ("options", "faces"):
                payload[name].append(payload[name].pop(0))
        trials.loc[row, "payload"] = json.dumps(payload)
    return replace(tables, trials=trials)


def _rating(tables: Tables, moment: str, change: Callable[[dict[str, Any]], Any]) -> Tables:
    trials = tables.trials.copy()
    place = trials.index[trials["item_id"] == moment][0]
    value = json.loads(str(trials.loc[place, "payload"]))
    change(value)
    trials.loc[place, "payload"] = json.dumps(value)
    return replace(tables, trials=trials)


def _item(tables: Tables, source: int) -> Tables:
    trials = tables.trials.copy()
    trials.loc[FIRST, "item_id"] = trials.loc[FIRST + source, "item_id"]
    return replace(tables, trials=trials)


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "another answer": (lambda t: _change(t, "payload", lambda p: p["faces"].append(p["faces"].pop(0))), "of the true class"),
    "an answer not offered": (lambda t: _change(t, "answer", lambda a: a.update(expected="x")), "not offered"),
    "a strange picture": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(pictures=["0" * 64])), "four explanations"),
    "a class named": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(label="kind-1")), "names classes"),
    "the prediction told": (lambda t: _change(t, "payload", lambda p: p["panels"][0].update(text="kind-1")), "above the options"),
    "a method named": (lambda t: _change(t, "payload", lambda p: p.update(question="grad_cam")), "sends 'grad_cam'"),
    "telling ids": (lambda t: _change(t, "payload", lambda p: p["options"].__setitem__(0, "a")), "not opaque"),
    "one place": (_all_left, "differ by more than one"),
    "another script": (_all_left, "at other places than another condition"),
    "twice": (lambda t: _item(t, 1), "asks about an image twice"),
    "another list's": (lambda t: _item(t, 11), "stands in 2 lists"),
    "a score too early": (lambda t: _rating(t, "rating after", lambda p: p.update(score={})), "before the last rating"),
    "another score": (lambda t: _rating(t, "rating told", lambda p: p["score"].update(block="")), "another score"),
    "no last rating": (lambda t: replace(t, trials=t.trials[t.trials["item_id"] != "rating told"]), "planned are"),
    "a trial less": (lambda t: replace(t, trials=t.trials.drop(index=FIRST)), "half of 8"),
    "all right": (lambda t: replace(t, items=t.items.assign(model_correct=True)), "half of 8"),
    "another factor": (lambda t: _change(t, "factors", lambda f: f.update(machine="?")), "factor 'machine'"),
    "three classes": (lambda t: _facts(t, lambda f: f["classes"].__setitem__(3, f["classes"][2])), "four different ones"),
    "another truth": (lambda t: _facts(t, lambda f: f.update(truth=(f["truth"] + 1) % 4)), "is of another class"),
    "another prediction": (lambda t: replace(t, items=t.items.assign(predicted="x")), "not the predicted one"),
    "right by mistake": (lambda t: replace(t, items=t.items.assign(predicted=t.items["label"])), "does not follow"),
}  # fmt: skip


def test_the_drawn_tables_break_no_rule(tables: Tables) -> None:
    assert distinction.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_audit_finds(tables: Tables, name: str) -> None:
    plant, told = VIOLATIONS[name]
    faults = distinction.audit(plant(tables))  # type: ignore[attr-defined]
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"run": "demo"}, "explained_classes: 4"),
        ({"conditions": ("gradcam",)}, "grad_cam"),
        ({"design": {**DESIGN, "trials": 7}}, "even numbers"),
        ({"design": {**DESIGN, "trials": 40}}, "gets right and the run has 30"),
        ({"quota": 1}, "quota"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LimenError, match=told):
        build(_file(**changes), store)


def test_the_example_study_file_is_valid() -> None:
    assert load_study("configs/studies/distinction.yaml").protocol == "distinction"


def test_drawing_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.distinction; print([n for n in ('torch', 'flask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

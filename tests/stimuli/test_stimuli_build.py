"""A frozen stimulus set: whole, the same again anywhere, and never changed silently."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.registry import LimenError
from bench.store import Artifact, Store, sha256_bytes, sha256_file
from stimuli.build import build, verify
from stimuli.records import CellRow, ItemRow, Page, StudyFile, Texts, TrialRow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def built(tmp_path: Path, fake_run: Callable[..., Artifact], small_study_file: StudyFile) -> Artifact:
    """Return a set of its own for tests that damage it."""
    fake_run(tmp_path)
    return build(small_study_file, Store(tmp_path))


def test_a_built_set_verifies(small_study: Artifact) -> None:
    assert verify(small_study) == []


def test_a_set_holds_the_files_of_the_contract(small_study: Artifact) -> None:
    names = set(small_study.manifest["files"])
    pictures = {name for name in names if name.startswith("pictures/")}
    tables = {"trials.parquet", "cells.parquet", "items.parquet"}
    assert names - pictures == tables | {"study.json", "protocol.json", "contact.png"}
    assert all(re.fullmatch(r"pictures/[0-9a-f]{64}\.png", name) for name in pictures)
    assert all(sha256_file(small_study.file(name)) == Path(name).stem for name in pictures)


@pytest.mark.parametrize(
    ("name", "record"), [("trials.parquet", TrialRow), ("cells.parquet", CellRow), ("items.parquet", ItemRow)]
)
def test_tables_have_the_columns_of_their_records(small_study: Artifact, name: str, record: type) -> None:
    assert list(small_study.rows(name).columns) == list(record.__dataclass_fields__)  # type: ignore[attr-defined]


def test_the_parents_name_the_run_and_what_is_shown(small_study: Artifact) -> None:
    assert set(small_study.manifest["parents"]) == {"run", "images", "predictions", "explanations/grad_cam"}


def test_the_frozen_study_file_is_whole(small_study: Artifact, small_study_file: StudyFile) -> None:
    study = StudyFile.model_validate_json(small_study.file("study.json").read_text(encoding="utf-8"))
    assert study.texts is not None
    assert study.texts.contact == small_study_file.contact
    assert study.design["wrong_share"] == 0.5
    assert study.conditions == small_study_file.conditions


def test_the_protocol_names_the_card_the_pool_and_the_rules(small_study: Artifact) -> None:
    facts = json.loads(small_study.file("protocol.json").read_text(encoding="utf-8"))
    assert facts["card"]["citation"] == "arXiv:2112.04417"
    assert facts["card"]["random"] == ["participant", "item"]
    assert facts["conditions"]["baseline"] == {"explanation": None, "artifact": None}
    assert facts["conditions"]["grad_cam"]["artifact"] == small_study.manifest["parents"]["explanations/grad_cam"]
    assert len(facts["rules"]) >= 5


def test_two_stores_give_the_same_key_and_the_same_bytes(
    tmp_path: Path, fake_run: Callable[..., Artifact], small_study: Artifact, small_study_file: StudyFile
) -> None:
    fake_run(tmp_path)
    again = build(small_study_file, Store(tmp_path))
    assert again.key == small_study.key
    assert again.manifest["files"] == small_study.manifest["files"]


def test_another_seed_gives_other_trials(
    small_study: Artifact, small_study_file: StudyFile, small_store: Store
) -> None:
    other = build(small_study_file.model_copy(update={"seed": 4, "study": "small-seed"}), small_store)
    assert list(other.rows("trials.parquet")["item_id"]) != list(small_study.rows("trials.parquet")["item_id"])


def test_building_an_identical_study_gives_the_set_that_is_there(built: Artifact, small_study_file: StudyFile) -> None:
    store = Store(built.path.parents[1])
    assert build(small_study_file, store).manifest["created"] == built.manifest["created"]
    assert len(list(store.all("stimuli"))) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 9}, "file.seed"),
        ({"title": "Another title"}, "file.title"),
        ({"quota": 8}, "file.quota"),
        ({"conditions": ("baseline", "saliency"), "bots": None}, "explanations/grad_cam"),
        (
            {"design": {"sessions": 2, "train": 2, "test": 3, "lists": 2, "practice": 2, "size": 48}},
            "design.lockout_ms",
        ),
    ],
)
def test_a_frozen_version_with_other_content_is_refused(
    built: Artifact, small_study_file: StudyFile, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(LimenError) as refused:
        build(small_study_file.model_copy(update=changes), Store(built.path.parents[1]))
    assert f"study 'small' version 1 was frozen as {built.key} with other content (" in str(refused.value)
    assert named in str(refused.value)
    assert str(refused.value).endswith("; raise the version.")


def test_changed_words_are_refused_too(built: Artifact, small_study_file: StudyFile) -> None:
    page = Page(title="t", body="b")
    texts = Texts(consent=page, instructions=(page,), debrief=page, contact="study@example.org")
    with pytest.raises(LimenError, match=r"with other content \(file\.texts\); raise the version\."):
        build(small_study_file.model_copy(update={"texts": texts}), Store(built.path.parents[1]))


def test_the_next_version_stands_beside_the_first(built: Artifact, small_study_file: StudyFile) -> None:
    store = Store(built.path.parents[1])
    second = build(small_study_file.model_copy(update={"version": 2, "title": "Another title"}), store)
    assert second.key != built.key
    assert len(list(store.all("stimuli"))) == 2


def test_a_run_with_more_scores_but_the_same_pictures_changes_nothing(
    built: Artifact, small_study_file: StudyFile
) -> None:
    store = Store(built.path.parents[1])
    old = store.open("runs", built.manifest["parents"]["run"])
    with store.write("runs", {**old.config, "metrics": ["one more"]}, parents=old.manifest["parents"]) as draft:
        draft.write_bytes(b"", "plan.yaml")
    assert build(small_study_file, store).key == built.key


def test_a_run_with_other_pictures_is_refused_for_a_frozen_version(
    built: Artifact, fake_run: Callable[..., Artifact], small_study_file: StudyFile
) -> None:
    fake_run(built.path.parents[1], seed=5)
    with pytest.raises(LimenError, match=r"other content \(explanations/grad_cam, images, predictions\)"):
        build(small_study_file, Store(built.path.parents[1]))


def test_verify_catches_a_flipped_byte(built: Artifact) -> None:
    picture = next(iter(sorted(built.path.glob("pictures/*.png"))))
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(bytes(data))
    faults = verify(built)
    assert any("content differs from the manifest's SHA-256" in fault for fault in faults)
    assert any("the content is not what the name says" in fault for fault in faults)


def test_verify_catches_an_edited_trials_table(built: Artifact) -> None:
    path = built.file("trials.parquet")
    table = pd.read_parquet(path)
    table.loc[table.index[-1], "is_catch"] = True
    table.to_parquet(path, index=False)
    assert any("trials.parquet: content differs" in fault for fault in verify(built))


def test_verify_catches_an_edited_table_whose_hash_was_edited_too(built: Artifact) -> None:
    path = built.file("trials.parquet")
    table = pd.read_parquet(path)
    row = table.index[table["phase"] == "test"][0]
    table.loc[row, "payload"] = json.dumps({**json.loads(table.loc[row, "payload"]), "reservoir": []})
    table.to_parquet(path, index=False)
    _rewrite(built, "trials.parquet")
    faults = verify(Store(built.path.parents[1]).open("stimuli", built.key))
    assert any("the reservoir is not the" in fault for fault in faults)


def test_verify_catches_an_edited_study_file(built: Artifact) -> None:
    path = built.file("study.json")
    path.write_text(path.read_text(encoding="utf-8").replace("boat", "ship"), encoding="utf-8")
    _rewrite(built, "study.json")
    faults = verify(Store(built.path.parents[1]).open("stimuli", built.key))
    assert any("study.json differs from the manifest" in fault for fault in faults)


def test_verify_catches_another_config_under_the_same_key(built: Artifact) -> None:
    path = built.path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["config"]["file"]["seed"] = 99
    path.write_text(json.dumps(manifest), encoding="utf-8")
    faults = verify(Store(built.path.parents[1]).open("stimuli", built.key))
    assert any("config and parents do not give this key" in fault for fault in faults)


def test_verify_catches_a_missing_and_a_foreign_file(built: Artifact) -> None:
    next(iter(built.path.glob("pictures/*.png"))).unlink()
    (built.path / "pictures" / "extra.png").write_bytes(b"x")
    faults = verify(built)
    assert any("missing" in fault for fault in faults)
    assert any("extra.png: not named in the manifest" in fault for fault in faults)


def _rewrite(artifact: Artifact, name: str) -> None:
    """Put a file's present hash into the manifest, as a careful forger would."""
    path = artifact.path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    data = artifact.file(name).read_bytes()
    manifest["files"][name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_maps_of_another_number_of_images_are_refused(
    tmp_path: Path, fake_run: Callable[..., Artifact], small_study_file: StudyFile
) -> None:
    run = fake_run(tmp_path)
    store = Store(tmp_path)
    with store.write("explanations", {"method": "short"}) as draft:
        draft.write_tensors({"maps": np.zeros((3, 4, 4), dtype=np.float32)}, "maps.safetensors")
    short = [artifact.key for artifact in store.all("explanations")][-1]
    parents = {**run.manifest["parents"], "explanations/grad_cam": short}
    with store.write("runs", {"name": "demo", "again": 1}, parents=parents) as draft:
        draft.write_bytes(b"", "plan.yaml")
    with pytest.raises(
        LimenError, match=r"explanation 'grad_cam': given maps of shape \(3, 4, 4\), allowed is \(96, H, W\)"
    ):
        build(small_study_file, store)


def test_building_imports_neither_torch_nor_flask(tmp_path: Path, fake_run: Callable[..., Artifact]) -> None:
    fake_run(tmp_path)
    program = (
        "import sys; from bench.store import Store; from stimuli.build import build, verify; import stimuli.cli; "
        "from stimuli.records import StudyFile; "
        "study = StudyFile(study='small', version=1, protocol='utility', title='t', run='demo', quota=4, "
        "conditions=('baseline', 'grad_cam'), contact='a@b.org', design={'size': 32, 'lists': 1}); "
        f"assert verify(build(study, Store({str(tmp_path)!r}))) == []; "
        "print(sorted({'torch', 'flask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

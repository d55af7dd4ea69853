"""An artifact is whole or it is not there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.registry import LimenError
from bench.store import MANIFEST, Store, artifact_key, canonical_json, latest


def write(store, value=1, **config):
    with store.write("things", {"value": value, **config}, parents={"a": "k1"}, seed=3) as draft:
        draft.write_rows(pd.DataFrame({"x": [1, 2]}))
        draft.write_tensors({"t": np.arange(4, dtype=np.float32)}, "t.safetensors")
        draft.write_bytes(b"p", "pictures/p.png")
        draft.summary["mean"] = 1.5
    return artifact_key("things", {"value": value, **config}, ["k1"])


def test_written_artifact_reads_back_whole(tmp_path):
    store = Store(tmp_path)
    artifact = store.open("things", write(store))
    assert artifact.rows()["x"].tolist() == [1, 2]
    assert artifact.tensors("t.safetensors")["t"].tolist() == [0, 1, 2, 3]
    assert artifact.file("pictures/p.png").read_bytes() == b"p"
    assert artifact.summary["mean"] == 1.5
    assert artifact.manifest["parents"] == {"a": "k1"}
    assert artifact.manifest["seed"] == 3
    assert artifact.verify() == []


def test_a_failed_write_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.write("things", {"value": 1}) as draft:
        draft.write_bytes(b"half", "half.bin")
        raise ZeroDivisionError
    assert list((tmp_path / "things").iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    store = Store(tmp_path)
    write(store)
    with pytest.raises(LimenError, match="nothing is overwritten"):
        write(store)


def test_half_written_folder_is_ignored_named_and_replaced(tmp_path):
    store = Store(tmp_path)
    key = artifact_key("things", {"value": 1}, ["k1"])
    torn = tmp_path / "things" / key
    torn.mkdir(parents=True)
    (torn / "rows.parquet").write_bytes(b"half a file")
    assert store.get("things", key) is None
    assert store.half_written() == [torn]
    with pytest.raises(LimenError, match="half-written"):
        store.open("things", key)
    assert write(store) == key
    assert store.open("things", key).verify() == []


def test_two_writers_of_one_artifact_leave_the_first(tmp_path):
    store = Store(tmp_path)
    with store.write("things", {"value": 1}) as late:
        late.write_bytes(b"late", "who")
        with store.write("things", {"value": 1}) as early:
            early.write_bytes(b"early", "who")
    (artifact,) = store.all("things")
    assert artifact.file("who").read_bytes() == b"early"
    assert artifact.verify() == []
    assert store.half_written() == []


def test_verify_names_a_changed_and_a_missing_file(tmp_path):
    store = Store(tmp_path)
    artifact = store.open("things", write(store))
    artifact.file("pictures/p.png").write_bytes(b"q")
    artifact.file("rows.parquet").unlink()
    faults = " ".join(artifact.verify())
    assert "p.png: content differs" in faults
    assert "rows.parquet: missing" in faults


def test_key_depends_on_kind_config_and_parents_not_on_order():
    base = artifact_key("a", {"x": 1, "y": 2}, ["p", "q"])
    assert artifact_key("a", {"y": 2, "x": 1}, ["q", "p"]) == base
    assert (
        len(
            {
                base,
                artifact_key("b", {"x": 1, "y": 2}, ["p", "q"]),
                artifact_key("a", {"x": 2, "y": 2}, ["p", "q"]),
                artifact_key("a", {"x": 1, "y": 2}, ["p"]),
            }
        )
        == 4
    )


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError):
        canonical_json({"x": float("nan")})


def test_latest_takes_the_newest_that_fits(tmp_path):
    store = Store(tmp_path)
    write(store, 1, name="demo")
    newest = write(store, 2, name="demo")
    write(store, 3, name="other")
    assert latest(store, "things", name="demo").key == newest
    with pytest.raises(LimenError, match=r"unknown name 'dmo'; allowed are demo, other; did you mean 'demo'\?"):
        latest(store, "things", name="dmo")


def test_unknown_file_is_refused_with_what_there_is(tmp_path):
    store = Store(tmp_path)
    artifact = store.open("things", write(store))
    with pytest.raises(LimenError, match=r"did you mean 'rows.parquet'"):
        artifact.file("row.parquet")


def test_a_manifest_that_is_not_json_is_one_sentence(tmp_path):
    store = Store(tmp_path)
    key = write(store)
    (tmp_path / "things" / key / MANIFEST).write_text("{")
    with pytest.raises(LimenError, match="not a manifest"):
        store.get("things", key)

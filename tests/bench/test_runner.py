"""A run resumes: killed at any moment and started again, it ends in the same rows, bit for bit."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bench import zoo
from bench.plan import load_plan
from bench.records import Score, ScoreRow, columns
from bench.report import number, write_report
from bench.runner import Progress, Runner, load_engines
from bench.store import Store

PLAN = """
name: small
network: tiny@digits
images: {set: digits, n: 12}
attributions: [random, saliency, grad_cam, {rise: {masks: 60, side: 4}}]
metrics: [{deletion: {steps: 8}}, {mu_fidelity: {subsets: 30}}, sparseness]
null_draws: 2
concepts:
  images: {set: collages, n: 60, options: {objects: 10}}
  layers: [LAYER]
  k: 6
  dictionaries: [neurons, pca, nmf]
  seeds: 3
  crops: 3
  metrics: [dictionary_stability, reconstruction_r2]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    zoo.load_network("tiny@digits", cache=folder, progress=False)
    return folder


@pytest.fixture
def plan_path(tmp_path, cache):
    network = zoo.load_network("tiny@digits", cache=cache, progress=False)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("LAYER", network.layer))
    return path


def run(path, store, cache, monkeypatch, progress=None):
    monkeypatch.setenv("LIMEN_CACHE", str(cache))
    plan = load_plan(path)
    engines = load_engines(plan, device="cpu", precision="fp32", progress=False)
    return Runner(plan, store, engines, progress or Progress()).run()


def content(store: Path) -> dict[str, str]:
    """Hash every file of every artifact except manifests, whose times and costs may differ."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in {"manifest.json", "table.parquet"} and "/." not in str(path)
    }


@pytest.mark.long
def test_run_leaves_rows_the_next_packages_can_read(plan_path, tmp_path, cache, monkeypatch):
    store = Store(tmp_path / "store")
    artifact = run(plan_path, store, cache, monkeypatch)
    table = artifact.rows("table.parquet")
    assert list(table.columns) == columns(Score)
    assert len(table) == 4 * 3 + 3 * 2
    assert np.isfinite(table[["value", "low", "high", "null", "gain"]]).all().all()
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    for role, key in artifact.manifest["parents"].items():
        assert store.open(role.split("/")[0], key).verify() == []
    scores = store.open("scores", artifact.manifest["parents"]["scores/saliency/deletion"])
    assert set(columns(ScoreRow)) <= set(scores.rows().columns)
    assert len(scores.rows()) == 12
    crops = store.open(
        "dictionaries",
        artifact.manifest["parents"]["dictionaries/nmf @ " + artifact.config["concepts"]["layers"][0] + " seed 0"],
    )
    assert crops.tensors("crops.safetensors")["crops"].shape[:2] == (6, 3)


def test_second_run_makes_nothing_again(plan_path, tmp_path, cache, monkeypatch):
    store = Store(tmp_path / "store")
    first = run(plan_path, store, cache, monkeypatch)
    before = content(store.root)
    made = []
    second = run(plan_path, store, cache, monkeypatch, Progress(done=lambda reused: made.append(not reused)))
    assert second.key == first.key
    assert content(store.root) == before
    assert sum(made) == 0


@pytest.mark.long
def test_killed_ten_times_and_resumed_ends_in_the_same_rows(plan_path, tmp_path, cache, monkeypatch):
    whole = Store(tmp_path / "whole")
    run(plan_path, whole, cache, monkeypatch)
    draw = np.random.default_rng(0)
    torn = tmp_path / "torn"
    environment = {**os.environ, "LIMEN_CACHE": str(cache)}

    def command(store):
        code = "from bench.cli import limen; limen()"
        options = ["--store", str(store), "--device", "cpu", "--precision", "fp32"]
        return [sys.executable, "-c", code, "bench", "run", str(plan_path), *options]

    def finished():
        return len(list(torn.glob("*/*/manifest.json")))

    for _ in range(10):
        process = subprocess.Popen(command(torn), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Each run comes one to three artifacts further, then dies within the next few.
        goal = finished() + int(draw.integers(1, 4))
        while finished() < goal:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
            assert process.poll() is None, "it ended before it was killed"
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=float(draw.uniform(0, 0.15)))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command(torn), env=environment, check=True, capture_output=True, text=True)
    assert content(torn) == content(whole.root)
    assert "small" in done.stdout


@pytest.mark.long
def test_replicates_of_a_dictionary_see_different_data(plan_path, tmp_path, cache, monkeypatch):
    store = Store(tmp_path / "store")
    artifact = run(plan_path, store, cache, monkeypatch)
    layer = artifact.config["concepts"]["layers"][0]
    keys = [artifact.manifest["parents"][f"dictionaries/pca @ {layer} seed {seed}"] for seed in range(3)]
    atoms = [store.open("dictionaries", key).tensors("dictionary.safetensors")["atoms"] for key in keys]
    assert not np.allclose(np.abs(atoms[0]), np.abs(atoms[1]), atol=1e-3)
    table = artifact.rows("table.parquet").set_index(["method", "metric"])
    assert table.loc[("pca", "dictionary_stability"), "value"] < 0.9999
    assert table.loc[("neurons", "dictionary_stability"), "value"] == pytest.approx(1.0)


def test_report_page_shows_every_score_with_its_null(plan_path, tmp_path, cache, monkeypatch):
    store = Store(tmp_path / "store")
    artifact = run(plan_path, store, cache, monkeypatch)
    page = write_report(artifact, store, tmp_path / "page").read_text()
    table = artifact.rows("table.parquet")
    for row in table.to_dict("records"):
        assert number(row["value"]) in page
        assert number(row["null"]) in page
    drawn = page.count("data:image/png") + page.count('class="scroll drawing"')
    assert drawn == len(list((tmp_path / "page" / "figures").glob("*.png"))) >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


SPACE_PLAN = """
name: waves
network: tiny@digits
images: {set: digits, split: train, n: 8}
space: wavelets:haar:2
attributions: [gradient_input, {smoothgrad: {samples: 4, preset: captum}}]
metrics: [{deletion: {steps: 4}}, {avg_sensitivity: {samples: 3}}, mege]
null_draws: 2
"""


@pytest.mark.long
def test_a_plan_may_explain_in_another_space_explain_again_and_compare_retrained_networks(tmp_path, cache, monkeypatch):
    path = tmp_path / "plan.yaml"
    path.write_text(SPACE_PLAN)
    store = Store(tmp_path / "store")
    artifact = run(path, store, cache, monkeypatch)
    table = artifact.rows("table.parquet")
    assert set(table["metric"]) == {"deletion", "avg_sensitivity", "mege"}
    assert len(table) == 2 * 3
    assert np.isfinite(table[["value", "null"]]).all().all()
    assert table["convention"].str.contains("wavelets").any()
    explanation = store.open("explanations", artifact.manifest["parents"]["explanations/gradient_input"])
    tensors = explanation.tensors("maps.safetensors")
    assert set(tensors) == {"maps", "credit"}, "what is drawn, and the credit of the coefficients"
    assert tensors["maps"].shape == tensors["credit"].shape == (8, 32, 32)
    assert "preset=captum" in " ".join(table["options"])

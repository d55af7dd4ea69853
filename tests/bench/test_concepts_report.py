"""The page of a run of concepts: every score with its floor, cards that add up, the same bytes again, no torch needed twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bench import concept_page, zoo
from bench.cli import bench
from bench.concept_figures import CONTROLS, looks_of
from bench.plan import load_plan, untrained
from bench.report import number, write_report
from bench.runner import Progress, Runner, load_engines
from bench.store import Artifact, Store

PLAN = """
name: small-page
network: tiny@digits
null_draws: 1
concepts:
  images: {set: collages, n: 24, options: {objects: 6}}
  layers: [LAYER]
  positions: true
  k: 6
  dictionaries: [random, pca, kmeans, {topk: {active: [1, 3], steps: 20, batch_size: 64}}]
  seeds: 2
  untrained: true
  metrics: [reconstruction_r2, {energy_matched: {points: 3, null_draws: 1}}]
  attributions: [gradient_input]
  attribution_metrics: [{deletion: {steps: 3}}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Artifact, Store]:
    folder = tmp_path_factory.mktemp("page")
    network = zoo.load_network("tiny@digits", cache=folder, progress=False)
    path = folder / "plan.yaml"
    path.write_text(PLAN.replace("LAYER", str(network.layer)))
    plan, store = load_plan(path), Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMEN_CACHE", str(folder))
        engines = load_engines(plan, device="cpu", precision="fp32", progress=False)
        return Runner(plan, store, engines, Progress()).run(), store


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> Path:
    return write_report(*run, tmp_path_factory.mktemp("out") / "page")


def test_the_page_shows_every_score_with_its_null_on_trained_and_untrained_weights(run, page):
    text = page.read_text()
    for row in run[0].rows("table.parquet").to_dict("records"):
        assert number(row["value"]) in text
        if row["network"] == "tiny@digits":
            assert number(row["null"]) in text
    assert "Trained against untrained weights" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text


def test_every_picture_has_a_text_and_every_figure_a_file(page):
    text = page.read_text()
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", text))
    figures = {path.stem for path in (page.parent / "figures").glob("*.png")}
    assert {"pareto", "energy_matched", "C-deletion", "scores"} < figures
    assert any(name.startswith("strategies") for name in figures)


def test_the_page_is_the_same_bytes_again(run, page, tmp_path):
    again = write_report(*run, tmp_path / "again")
    assert again.read_bytes() == page.read_bytes()
    for path in (page.parent / "figures").iterdir():
        assert (again.parent / "figures" / path.name).read_bytes() == path.read_bytes()


def test_a_card_shows_the_concepts_that_add_most_and_says_what_the_others_add(run):
    fits = concept_page.trained(concept_page.fits_of(*run), run[0])
    (layer,) = concept_page.cards(fits)
    assert [one["method"] for one in layer["methods"]] == ["random", "pca", "kmeans", "topk (active=1)"]
    pca = layer["methods"][1]
    told = next(fit for fit in fits if fit.label == "pca").told
    mean = told["credit"].astype(np.float64).mean(axis=0)
    shares = mean / abs(mean.sum())
    assert pca["of"] == "logit"
    assert [card["concept"] for card in pca["cards"]] == list(np.argsort(-shares, kind="stable")[: concept_page.CARDS])
    np.testing.assert_allclose([card["share"] for card in pca["cards"]], np.sort(shares)[::-1][:4], rtol=1e-6)
    assert pca["rest"] == pytest.approx(1 - sum(card["share"] for card in pca["cards"]))
    assert all(card["low"] <= card["share"] <= card["high"] for card in pca["cards"])
    assert all(card["crops"] for card in pca["cards"])


def test_credit_that_does_not_add_up_is_not_called_a_share_of_the_logit(run):
    fit, doubled = (concept_page.fits_of(*run)[1] for _ in range(2))
    assert fit.label == "pca"
    assert fit.complete
    doubled.told["credit"] = 2 * doubled.told["credit"]
    assert not doubled.complete


def test_untrained_networks_are_apart_from_the_boards(run):
    fits = concept_page.fits_of(*run)
    assert {fit.network for fit in fits} == {"tiny@digits", untrained("tiny@digits")}
    assert {fit.network for fit in concept_page.trained(fits, run[0])} == {"tiny@digits"}
    (control,) = concept_page.controls(run[0], run[0].rows("table.parquet"))
    assert [method["name"] for method in control["methods"]][:2] == ["random", "pca"]


def test_trained_and_untrained_are_alike_where_the_interval_of_their_difference_holds_zero():
    def row(value: float, half: float) -> dict[str, float]:
        return {"value": value, "low": value - half, "high": value + half}

    rows = {("a", "m", "s"): row(0.5, 0.03), ("b", "m", "s"): row(0.4, 0.04)}
    found = concept_page._difference(rows, ("a", "b"), "m", "s")
    assert found["low"] == pytest.approx(0.05)
    assert not found["alike"]
    rows["b", "m", "s"] = row(0.46, 0.04)
    assert concept_page._difference(rows, ("a", "b"), "m", "s")["alike"]
    rows["b", "m", "s"] = row(0.1, np.nan)
    assert concept_page._difference(rows, ("a", "b"), "m", "s")["alike"], "an unknown interval excludes nothing"
    assert concept_page._difference(rows, ("a", "c"), "m", "s") is None


def test_every_method_has_a_look_of_its_own_and_the_controls_are_grey():
    names = ["random", "pca", *(f"method {index}" for index in range(10))]
    looks = looks_of(names)
    assert len(set(looks.values())) == len(names)
    assert looks["random"].colour == looks["pca"].colour
    assert {looks[name].line for name in CONTROLS} == {":", "--"}


@pytest.mark.long
def test_the_plan_in_the_checkout_runs_from_the_command_line_to_a_page(tmp_path, monkeypatch):
    """A smaller `configs/concepts.yaml`: fewer pictures and fits, an untrained network, so that nothing is trained first."""
    text = (Path(__file__).parents[2] / "configs" / "concepts.yaml").read_text()
    changes = {
        r"network: resnet@scenes\b": "network: untrained@scenes",
        r"evaluator: resnet@scenes_biased": "evaluator: untrained@digits",
        r"n: 128": "n: 20",
        r"k: 32": "k: 6",
        r"seeds: 4": "seeds: 2",
        r"active: \[2, 4, 8\], batch_size: 1024": "active: [1, 3], steps: 20, batch_size: 64",
        r"active: \[2, 8\], batch_size: 1024": "active: [1, 3], steps: 20, batch_size: 64",
        r"points: 6": "points: 3",
    }
    for pattern, wanted in changes.items():
        text, count = re.subn(pattern, wanted, text)
        assert count, pattern
    plan, store, output = tmp_path / "plan.yaml", tmp_path / "store", tmp_path / "page"
    plan.write_text(text)
    monkeypatch.setenv("LIMEN_CACHE", str(tmp_path / "cache"))
    commands = (
        ["run", str(plan), "--store", str(store), "--device", "cpu", "--precision", "fp32"],
        ["table", str(plan), "--store", str(store), "-o", str(tmp_path / "table.csv")],
        ["report", str(plan), "--store", str(store), "-o", str(output)],
    )
    for command in commands:
        result = CliRunner().invoke(bench, command)
        assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["layer"]) == {"stage3", "stage4"}
    assert {"neurons", "pca", "kmeans", "nmf", "archetypal (active=3)", "relaxed_archetypal (active=1)"} < set(
        table["method"]
    )
    assert table.groupby(["layer", "method"])["metric"].nunique().nunique() == 1
    figures = {path.stem for path in (output / "figures").glob("*.png")}
    assert figures == {
        "costs",
        "costs_2",
        "pareto",
        "energy_matched",
        "C-deletion",
        "C-insertion",
        "strategies_stage3",
        "strategies_stage4",
        "scores",
    }
    page = (output / "report.html").read_text()
    assert page.count('class="card"') >= 2 * 8 * 4


def test_dictionaries_are_listed_under_their_plural():
    one, many = (CliRunner().invoke(bench, ["list", kind, "--json"]) for kind in ("dictionary", "dictionaries"))
    assert many.exit_code == 0
    assert many.output == one.output

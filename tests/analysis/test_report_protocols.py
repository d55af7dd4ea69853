"""Reports of every protocol, from exports that simulated people left: the answer, the numbers behind it, the page."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from analysis.battery import SECONDARY
from analysis.drawings import read_drawings
from analysis.models import ANALYSES
from analysis.report import write_report
from bench.registry import LimenError
from bench.store import sha256_file
from stimuli.protocol import DESIGNS

STAMP = "2026-01-02 03:04 UTC"
SENTENCES = {
    "utility": "Explanations helped simulated observers predict the model: grad_cam most, with +",
    "basis": "Simulated observers recognised what directions of a dictionary respond to better than what single neurons",
    "visualization": "Simulated observers told better which picture activates a unit with natural references than with none",
    "agreement": "Simulated observers who saw grad_cam told right from wrong predictions better than chance: accuracy",
    "distinction": "Simulated observers picked the explanation of the right class better than chance: grad_cam",
    "preference": "Simulated observers preferred some explanations over others (F(2, 22) = ",
    "intruder": "Simulated observers found the crop of another concept better than chance: nmf",
    "subcluster": "Simulated observers put crops with their sub-concept better than chance: nmf",
    "clickme": "It could not be shown that simulated observers uncovered the same parts of a picture",
    "oddone": "Simulated observers found elementary rules more easily than compositions of two: +",
    "drawing": "Simulated observers who saw one example drew new ones that are recognised: view",
}
"""What the effects given to the simulated people make each report say first; a random walk uncovers nothing in common."""
PRIMARY: dict[str, tuple[str, str, float, float]] = {
    "utility": ("accuracy difference", "grad_cam", 0.1, 0.45),
    "basis": ("accuracy difference of basis", "dictionary - neuron", 0.1, 0.55),
    "visualization": ("accuracy difference of reference", "natural - none", 0.2, 0.55),
    "agreement": ("bias to agree", "grad_cam", 0.1, 0.6),
    "distinction": ("accuracy difference of condition", "grad_cam - random", 0.2, 0.5),
    "preference": ("preference", "grad_cam", 0.55, 0.85),
    "intruder": ("accuracy difference of condition", "nmf - neurons", 0.25, 0.55),
    "subcluster": ("above chance of condition", "nmf", 0.1, 0.48),
    "clickme": ("split-half correlation above null", "oracle", -0.25, 0.25),
    "oddone": ("accuracy difference of composition over rules, people", "elementary - composed", 0.15, 0.6),
    "drawing": ("recognisability above null", "view", 0.5, 1.0),
}
"""Quantity, label, and where the estimate must lie for the effect that was planted."""
QUICK = ("preference", "intruder")
PROTOCOLS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in SENTENCES]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Return `reported(protocol) -> (page, export)`; each is made once."""
    root = tmp_path_factory.mktemp("protocols")
    import protocol_exports

    store, made = protocol_exports.make_store(root / "store"), {}

    def report(protocol: str) -> tuple[Path, Path]:
        if protocol not in made:
            export = protocol_exports.make_export(protocol, store, root / "exports")
            made[protocol] = (write_report(export, root / "reports" / protocol, timestamp=STAMP), export)
        return made[protocol]

    (root / "reports").mkdir()
    return report


def content(page: Path) -> dict[str, Any]:
    return json.loads((page.parent / "results.json").read_text())  # type: ignore[no-any-return]


def test_every_protocol_is_tested_here() -> None:
    assert set(SENTENCES) == set(PRIMARY) == set(DESIGNS.names())


@pytest.mark.long
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_answer_is_that_of_the_planted_effect_with_interval_and_n(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    page, _ = reported(protocol)
    found = content(page)
    assert found["answer"].startswith(SENTENCES[protocol])
    assert re.search(r"\[.?\d+\.\d+, .?\d+\.\d+\]", found["answer"])
    assert re.search(r"\d+ simulated observers", found["answer"])
    assert "p " in found["answer"] or protocol == "clickme"
    text = html.unescape(page.read_text())
    assert text.index(found["answer"]) < text.index("Who took part")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_primary_analysis_is_the_cards_and_finds_what_was_planted(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    found = content(reported(protocol)[0])
    quantity, label, low, high = PRIMARY[protocol]
    named = DESIGNS.card(protocol).analysis  # type: ignore[attr-defined]
    assert found["primary"] == {"utility": "mixed_model"}.get(named, named)
    primary = found["analyses"][found["primary"]]
    assert primary["role"] == "primary"
    item = next(e for e in primary["estimates"] if (e["quantity"], e["label"]) == (quantity, label))
    assert low < item["value"] < high
    assert item["low"] < item["value"] < item["high"]
    assert item["n"] > 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_value_of_the_page_stands_without_its_interval_or_a_reason_and_its_n(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    page, _ = reported(protocol)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", page.read_text(), re.S)
    values = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    estimated = [
        cells
        for cells in values
        if len(cells) == 5 and re.search(r"(participants|trials|drawings|images|rules)$", cells[0])
    ]
    assert len(estimated) > 2
    bare = [cells for cells in estimated if "[" not in cells[1]]
    flags = " ".join(re.findall(r'<p class="note">(.*?)</p>', page.read_text(), re.S))
    assert all(cells[1].endswith("–") and "–:" in flags for cells in bare), bare[:3]
    assert all(int(re.sub(r"\D", "", cells[0])) > 0 for cells in estimated if "–" not in cells[1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_further_analysis_was_left_out_and_everything_lies_beside_the_page(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    page, _ = reported(protocol)
    assert not [warning for warning in content(page)["warnings"] if "was left out" in warning]
    folder = page.parent
    assert {p.stem for p in (folder / "figures").glob("*.svg")} == {p.stem for p in (folder / "figures").glob("*.png")}
    tables = {p.stem for p in (folder / "tables").glob("*.csv")}
    assert tables - {"participants"} == {p.stem for p in (folder / "tables").glob("*.tex")}
    assert {"flow", "codebook"} <= tables
    assert tables & {"contrasts", "estimates"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_methods_name_the_hypothesis_the_rules_and_every_parent(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    page, export = reported(protocol)
    told = json.loads((export / "provenance.json").read_text())
    text = html.unescape(page.read_text())
    assert told["protocol"]["card"]["hypothesis"] in text
    assert all(rule in text for rule in told["protocol"]["rules"])
    assert all(key in text for key in told["parents"].values())
    assert "no frozen plan came with the data" in text.lower()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_participant_is_named_and_nothing_is_fetched(
    reported: Callable[[str], tuple[Path, Path]], protocol: str
) -> None:
    page, export = reported(protocol)
    sessions = next(export.glob("data/*sessions_data.csv")).read_text().splitlines()
    people = [line.split(",")[0] for line in sessions[1:]]
    assert len(people) > 10
    for path in page.parent.rglob("*"):
        if path.suffix in {".html", ".json", ".csv", ".tex", ".svg"}:
            written = path.read_text()
            assert not [person for person in people if person in written], path
    assert "<script" not in page.read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page.read_text())
    ids = re.findall(r'\sid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page.read_text())) <= set(ids)


def test_the_same_export_gives_the_same_bytes(reported: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    page, export = reported("preference")
    again = write_report(export, tmp_path / "again", timestamp=STAMP)
    files = sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again.parent) for path in again.parent.rglob("*") if path.is_file())
    for name in files:
        assert (page.parent / name).read_bytes() == (again.parent / name).read_bytes(), name


def test_a_secondary_analysis_that_fails_costs_a_sentence_and_not_the_report(
    reported: Callable[[str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = reported("intruder")[1]
    load = type(ANALYSES).load

    def broken(trials: Any, **options: Any) -> None:
        raise ZeroDivisionError("a slope of nothing")

    monkeypatch.setattr(
        type(ANALYSES), "load", lambda self, name: broken if name == "reaction_time" else load(self, name)
    )
    found = content(write_report(export, tmp_path / "out", timestamp=STAMP))
    assert "reaction_time" not in found["analyses"]
    assert "The secondary analysis 'reaction_time' was left out: a slope of nothing." in found["warnings"]
    assert found["answer"].startswith(SENTENCES["intruder"])


@pytest.mark.long
def test_samples_of_models_stand_beside_drawings_with_their_hash(
    reported: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    page, export = reported("drawing")
    drawn = read_drawings(export)
    noise = np.random.default_rng(0)
    held = {str(item): noise.integers(0, 256, (4, 48, 48)).astype(np.uint8) for item in sorted(set(drawn["item_id"]))}
    save_file(held, tmp_path / "noise.safetensors")
    found = content(write_report(export, tmp_path / "out", samples=[tmp_path / "noise.safetensors"], timestamp=STAMP))
    primary = found["analyses"]["drawing"]["estimates"]
    assert any(item["quantity"] == "recognisability" and item["label"] == "noise" for item in primary)
    assert sha256_file(tmp_path / "noise.safetensors") in json.dumps(found["provenance"])
    assert (page.parent / "figures" / "drawing_plane.png").exists()


def test_samples_beside_no_drawings_are_refused(reported: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(LimenError, match="holds no drawings"):
        write_report(reported("preference")[1], tmp_path / "out", samples=["a.safetensors"], timestamp=STAMP)


def test_every_secondary_analysis_is_registered() -> None:
    assert {one.name for one in SECONDARY} <= set(ANALYSES.names())


def test_a_frozen_plan_is_on_the_page_with_what_was_done_otherwise(
    reported: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    from psychophysics_server.study.plan import HASH, content_hash

    export = shutil.copytree(reported("intruder")[1], tmp_path / "export")
    told = json.loads((export / "provenance.json").read_text())
    card = told["protocol"]["card"]
    plan = {
        "study": told["study"], "study_version": 1, "stimuli": told["stimuli"], "frozen": "2026-01-01",
        "hypotheses": [card["hypothesis"]], "design": {"conditions": ["neurons", "nmf"]},
        "analysis": {"name": "crossed", "formula": card["formula"]},
        "contrasts": ["accuracy difference of condition: nmf - neurons"], "primary": None,
        "exclusions": told["checks"], "participants": 40, "participants_per_condition": 20, "stop_rule": "when full",
    }  # fmt: skip
    told["plan"] = {**plan, HASH: content_hash(plan)}
    (export / "provenance.json").write_text(json.dumps(told))
    page = write_report(export, tmp_path / "out", timestamp=STAMP)
    found = content(page)["plan"]
    assert found["sha256"] == told["plan"][HASH]
    assert found["deviations"] == [
        "Condition 'neurons' has 15 participants to analyse; planned were 20.",
        "Condition 'nmf' has 15 participants to analyse; planned were 20.",
    ]
    text = html.unescape(page.read_text())
    assert found["sha256"] in text
    assert found["deviations"][0] in text
    assert "no frozen plan came" not in text.lower()


@pytest.mark.long
def test_exclusions_show_the_primary_analysis_without_them(
    reported: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    export = shutil.copytree(reported("intruder")[1], tmp_path / "export")
    sessions = next(export.glob("data/*sessions_data.csv"))
    lines = sessions.read_text().splitlines()
    header = lines[0].split(",")
    cells = lines[1].split(",")
    cells[header.index("excluded")], cells[header.index("exclusion_reason")] = "True", "min_median_rt_ms"
    sessions.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    page = write_report(export, tmp_path / "out", timestamp=STAMP)
    found = content(page)
    assert found["without_exclusions"]["estimates"][0]["n"] == 240
    assert found["analyses"]["crossed"]["estimates"][0]["n"] == 232
    assert "The primary analysis after the exclusions and with nobody excluded" in page.read_text()
    assert math.isfinite(found["without_exclusions"]["estimates"][0]["value"])


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_fits_the_window(reported: Callable[[str], tuple[Path, Path]], width: int, scheme: Any) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: no page was looked at in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        for protocol in SENTENCES:
            page = context.new_page()
            page.goto(reported(protocol)[0].as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, protocol
            page.close()
        browser.close()

"""The report: what it says of planted effects, its files, its bytes, and how it stands in a browser."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.cli import analyze
from analysis.exclusions import flow, with_and_without
from analysis.load import load, read_scores
from analysis.models import ANALYSES
from analysis.models.model_split import model_split
from analysis.models.participant_means import participant_means
from analysis.report import analyse, utility_lines, write_report
from bench.registry import LimenError

STAMP = "2026-01-02 03:04 UTC"
FEW = {
    "baseline": (0.56, 0.60, 0.62),
    "control": (0.55, 0.60, 0.61),
    "grad_cam": (0.85, 0.90, 0.92),
    "rise": (0.57, 0.60, 0.62),
    "saliency": (0.57, 0.60, 0.62),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One report of a small study, and the export behind it."""
    conftest = sys.modules[
        next(name for name in sys.modules if name.endswith("conftest") and hasattr(sys.modules[name], "ACCURACY"))
    ]
    folder = tmp_path_factory.mktemp("report")
    export = conftest.write_folder(
        folder / "export", *conftest.simulate(conftest.Synthetic(FEW, people=16, person_sd=0.3, seed=2))
    )
    conftest.score_frame().to_csv(folder / "scores.csv", index=False)
    page = write_report(export, folder / "out", folder / "scores.csv", timestamp=STAMP)
    return page, export, folder / "scores.csv"


def results(page) -> dict:
    return json.loads((page.parent / "results.json").read_text())


def test_the_planted_helper_is_the_answer(written):
    answer = results(written[0])["answer"]
    assert answer.startswith("Explanations helped simulated observers predict the model: grad_cam most")
    assert "no other helped reliably" in answer
    assert answer in html.unescape(written[0].read_text())


@pytest.mark.long
def test_without_any_effect_the_answer_claims_none(synthetic_export):
    study = load(synthetic_export(accuracy=dict.fromkeys(("baseline", "control", "rise"), (0.6,) * 3), people=15))
    analysed = analyse(study)
    assert analysed.answer.startswith("No explanation could be shown to help simulated observers")
    assert "not evidence of no effect" in analysed.further


def test_simulated_observers_are_declared_at_the_top_and_in_the_warnings(written):
    page = written[0].read_text()
    assert page.index("come from simulated observers") < page.index('id="answer"')
    assert results(written[0])["warnings"][0] == "These responses come from simulated observers, not from people."


@pytest.mark.long
def test_answers_of_people_carry_no_such_banner(synthetic_export, tmp_path):
    page = write_report(synthetic_export(source="live", accuracy=FEW, people=6), tmp_path / "out", timestamp=STAMP)
    assert "simulated" not in page.read_text()
    assert results(page)["simulated"] is False


@pytest.mark.long
def test_the_same_input_gives_the_same_bytes(written, tmp_path):
    page, export, scores = written
    again = write_report(export, tmp_path / "again", scores, timestamp=STAMP)
    files = sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again.parent) for path in again.parent.rglob("*") if path.is_file())
    for name in files:
        assert (page.parent / name).read_bytes() == (again.parent / name).read_bytes(), name


def test_a_report_overwrites_nothing(written):
    page, export, _ = written
    before = page.read_bytes()
    with pytest.raises(LimenError, match="already exists, and a report overwrites nothing"):
        write_report(export, page.parent)
    assert page.read_bytes() == before


def test_a_failed_report_leaves_no_folder(synthetic_export, tmp_path):
    with pytest.raises(LimenError):
        write_report(synthetic_export(), tmp_path / "out", tmp_path / "no-scores.csv")
    assert not (tmp_path / "out").exists()


def test_figures_and_tables_lie_beside_the_page(written):
    folder = written[0].parent
    figures = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert figures == {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"accuracy", "flow", "learning", "link", "model_split", "utility"} <= figures
    tables = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"accuracy", "contrasts", "utility", "comparisons", "flow", "exclusions", "link", "leaderboard"} <= tables


def test_every_parent_is_named_with_its_hash(written):
    provenance = results(written[0])["provenance"]
    assert len(provenance["files"]) == 5
    assert provenance["stimuli"] == "5f0c2b7a9d3e4c1b8a6f7e2d"
    page = written[0].read_text()
    assert all(item["sha256"] in page for item in provenance["files"])
    assert "runs/ab12" in page


def test_no_participant_is_named_in_the_report(written):
    page, export, _ = written
    people = pd.read_csv(next(export.glob("data/*sessions_data.csv")))["participant_id"]
    for path in page.parent.rglob("*"):
        if path.suffix in {".html", ".json", ".csv", ".svg"}:
            text = path.read_text()
            assert not [person for person in people if person in text], path


class Page(HTMLParser):
    """Collect ids, links and whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        for key in ("href", "xlink:href", "src"):
            value = given.get(key)
            if value and value.startswith("#"):
                self.targets.append(value[1:])
            elif value and not value.startswith("data:"):
                self.fetched.append(value)


def test_the_page_is_one_file_with_unique_ids_and_no_broken_link(written):
    page = Page()
    page.feed(written[0].read_text())
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    assert "<script" not in written[0].read_text()


@pytest.mark.long
def test_hostile_names_are_inert(synthetic_export, tmp_path):
    nasty = "<script>alert(1)</script>"
    page = write_report(
        synthetic_export(accuracy={"baseline": (0.6,) * 3, nasty: (0.7,) * 3}, people=6), tmp_path / "out"
    )
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()


def test_exclusions_are_shown_with_what_they_change(written):
    frame = pd.DataFrame(results(written[0])["exclusions"])
    assert list(frame["n"]) == [16] * 5
    assert list(frame["n_everyone"]) == [17] * 5
    everyone = results(written[0])["without_exclusions"]
    assert {item["n"] for item in everyone["estimates"]} == {17 * 5 * 21}


def test_the_flow_adds_up_in_every_condition(synthetic_export):
    study = load(synthetic_export())
    counts = flow(study).set_index("step")[["all", *study.conditions]]
    assert (counts.loc["entered"] - counts.loc["no consent"] == counts.loc["consented"]).all()
    assert (
        counts.loc["consented"] - counts.loc["withdrew"] - counts.loc["did not finish"] == counts.loc["finished"]
    ).all()
    assert (counts.loc["finished"] - counts.loc["excluded: catch_accuracy"] == counts.loc["analysed"]).all()
    assert (counts[list(study.conditions)].sum(axis=1) == counts["all"]).all()
    assert counts.loc["analysed", "all"] == study.answers()["participant_id"].nunique()


def test_people_who_withdrew_are_told_from_people_who_left(synthetic_export):
    def edit(trials, sessions):
        left = sessions.index[~sessions["finished"]][:2]
        sessions.loc[left, "state"] = "WITHDRAWN"
        return trials[~trials["participant_id"].isin(sessions.loc[left, "participant_id"])], sessions

    counts = flow(load(synthetic_export(edit))).set_index("step")["all"]
    assert (counts["withdrew"], counts["did not finish"]) == (2, 4)


def test_the_terminal_summary_repeats_the_answer_and_each_condition(written):
    lines = utility_lines(results(written[0]))
    assert results(written[0])["answer"] in lines
    assert [line.split()[0] for line in lines[-5:]] == ["baseline", "control", "grad_cam", "rise", "saliency"]
    assert lines[-5].endswith("1 by definition")


def test_a_person_who_fails_two_checks_stands_in_both_rows(synthetic_export):
    def edit(trials, sessions):
        sessions.loc[sessions["excluded"], "exclusion_reason"] = "catch_accuracy;min_median_rt_ms"
        return trials, sessions

    counts = flow(load(synthetic_export(edit))).set_index("step")["all"]
    assert counts["excluded: catch_accuracy"] == counts["excluded: min_median_rt_ms"] == 6
    assert counts["finished"] - counts["analysed"] == 6


def test_without_exclusions_both_halves_of_the_comparison_agree(synthetic_export):
    frame = with_and_without(load(synthetic_export(careless=0)), "ratio_of_means")
    assert list(frame["accuracy"]) == list(frame["accuracy_everyone"])


@pytest.mark.long
def test_without_exclusions_the_primary_test_is_not_run_twice(synthetic_export):
    assert analyse(load(synthetic_export(careless=0, people=6))).everyone is None


def test_participant_means_are_means_of_persons_not_of_trials():
    rows = [("a", "baseline", 1.0)] * 9 + [("b", "baseline", 0.0)] + [("c", "x", 1.0), ("d", "x", 0.0)]
    frame = pd.DataFrame(rows, columns=["participant_id", "condition", "correct"]).assign(session=1, k_seen=np.nan)
    assert participant_means(frame).get("accuracy", "baseline").value == 0.5


def test_the_split_shows_a_planted_confirmation_bias():
    rng = np.random.default_rng(0)
    rows = [
        {"participant_id": f"{c}{i}", "condition": c, "model_correct": float(right), "correct": float(rng.random() < (0.9 if right else 0.3))}
        for c in ("baseline", "x") for i in range(20) for right in (0, 1) for _ in range(10)
    ]  # fmt: skip
    item = model_split(pd.DataFrame(rows)).get("right minus wrong", "x")
    assert item.low < 0.6 < item.high
    assert item.p < 0.001


def test_without_the_models_answers_the_split_is_refused_by_name():
    frame = pd.DataFrame(
        {
            "participant_id": list("abcd"),
            "condition": ["baseline", "x"] * 2,
            "correct": [0.0, 1.0, 1.0, 0.0],
            "model_correct": np.nan,
        }
    )
    result = model_split(frame)
    assert result.flags == ("undefined",)
    assert result.estimates == ()


OWN_COLUMNS = {"link", "link_datasets", "oddone", "preference", "self_ratings"}
"""Analyses of tables that this study does not leave; each is tested on its own."""


@pytest.mark.parametrize("name", ANALYSES.names())
def test_every_analysis_has_a_card_and_says_what_it_did(name, synthetic_export):
    assert ANALYSES.card(name).kind == "analysis"
    assert ANALYSES.card(name).summary.endswith(".")
    if name not in OWN_COLUMNS:
        result = ANALYSES.load(name)(load(synthetic_export(people=5)).answers())
        assert result.name == name
        assert len(result.method) > 40


@pytest.mark.long
def test_a_condition_answered_all_right_is_reported_by_flags(synthetic_export, tmp_path):
    def edit(trials, sessions):
        trials.loc[(trials["condition"] == "rise") & trials["correct"].notna(), "correct"] = 1.0
        return trials, sessions

    page = write_report(synthetic_export(edit, people=6), tmp_path / "out", timestamp=STAMP)
    content = results(page)
    assert "separation" in content["analyses"]["cluster_glm"]["flags"]
    assert "separation" in content["analyses"]["mixed_model"]["flags"]
    assert not [
        e for e in content["analyses"]["cluster_glm"]["estimates"] if e["label"] == "rise" and e["p"] is not None
    ]
    assert any("infinite" in warning and "rise" in warning for warning in content["warnings"])


@pytest.mark.long
def test_one_person_in_a_condition_is_reported_by_flags(synthetic_export, tmp_path):
    def edit(trials, sessions):
        rise = sessions[(sessions["condition"] == "rise") & sessions["finished"] & ~sessions["excluded"]]
        gone = set(rise["participant_id"].iloc[1:])
        return trials[~trials["participant_id"].isin(gone)], sessions[~sessions["participant_id"].isin(gone)]

    page = write_report(synthetic_export(edit, people=6), tmp_path / "out", timestamp=STAMP)
    accuracy = [e for e in results(page)["analyses"]["participant_means"]["estimates"] if e["label"] == "rise"]
    assert accuracy[0]["flags"] == ["one_participant"]
    assert accuracy[0]["low"] is None


def test_a_tidy_csv_alone_makes_a_report(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"participant_id": f"{c}{i}", "condition": c, "item_id": f"im{j}", "correct": int(rng.random() < p), "trial_id": j}
        for c, p in (("baseline", 0.5), ("map", 0.8)) for i in range(12) for j in range(15)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "tidy.csv", index=False)
    page = write_report(tmp_path / "tidy.csv", tmp_path / "out", timestamp=STAMP)
    assert results(page)["answer"].startswith("Explanations helped people predict the model: map most")
    assert "no score table was given" in page.read_text()


def test_scores_of_other_methods_are_not_linked_and_said_so(synthetic_export, score_table):
    study = load(synthetic_export(accuracy={"baseline": (0.6,) * 3, "eva": (0.7,) * 3}, people=6))
    analysed = analyse(study, read_scores(score_table))
    assert "link" not in analysed.results
    assert any("No method of the score table" in warning for warning in analysed.warnings)


@pytest.mark.long
def test_one_method_with_both_gives_points_and_no_coefficient(synthetic_export, score_table, tmp_path):
    path = synthetic_export(accuracy={"baseline": (0.6,) * 3, "rise": (0.7,) * 3}, people=6)
    page = write_report(path, tmp_path / "out", score_table, timestamp=STAMP)
    assert all(item["value"] is None for item in results(page)["analyses"]["link"]["estimates"])
    assert "1 method has both a score and a Utility" in page.read_text()
    assert not (page.parent / "tables" / "link.csv").exists()


def test_analysis_imports_neither_torch_nor_flask():
    code = (
        "import sys, analysis.report, analysis.cli; from analysis.models import ANALYSES; [ANALYSES.load(n) for n in ANALYSES.names()]; "
        "print([m for m in ('torch', 'flask', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_the_command_line_writes_a_report_and_prints_utilities_and_the_link(synthetic_export, score_table, tmp_path):
    export, runner = str(synthetic_export(people=8)), CliRunner()
    done = runner.invoke(
        analyze, ["report", export, "-o", str(tmp_path / "out"), "--scores", str(score_table), "--timestamp", STAMP]
    )
    assert done.exit_code == 0, done.output
    assert "limen analyze report export -o out --scores scores.csv" in (tmp_path / "out" / "report.html").read_text()
    done = runner.invoke(analyze, ["utility", export, "--csv", str(tmp_path / "utility.csv")])
    assert done.exit_code == 0, done.output
    assert "grad_cam" in done.output
    assert "simulated observers" in done.output
    done = runner.invoke(analyze, ["link", "--scores", str(score_table), "--utility", str(tmp_path / "utility.csv")])
    assert done.exit_code == 0, done.output
    assert "Spearman rho" in done.output
    assert "anova" in runner.invoke(analyze, ["list"]).output


ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_the_window_and_fetches_nothing(written, width, scheme):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: the page was not looked at in a browser")
    from playwright.sync_api import sync_playwright

    faults, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(written[0].as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelector('.answer').getBoundingClientRect().bottom") < 844
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
        browser.close()
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []

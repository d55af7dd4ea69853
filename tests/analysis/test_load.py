"""Reading responses: each fault of an export or a tidy CSV is one clear sentence."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.load import ColumnMap, load, read_scores
from bench.registry import LimenError
from bench.store import sha256_file


def fails(path, match: str, **options) -> None:
    with pytest.raises(LimenError, match=match) as caught:
        load(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence


def test_an_export_is_read_with_its_excluded_rows_and_its_order(synthetic_export):
    study = load(synthetic_export())
    assert study.conditions == ("baseline", "control", "grad_cam", "occlusion", "rise", "saliency")
    assert (study.baseline, study.source, study.simulated, study.chance) == ("baseline", "bot", True, 0.5)
    assert study.answers()["participant_id"].nunique() == 120
    assert study.answers(exclusions=False)["participant_id"].nunique() == 126
    assert [len(file.sha256) for file in study.files] == [64] * 4


def test_only_answered_test_trials_of_finished_people_are_analysed(synthetic_export):
    def edit(trials, sessions):
        trials.loc[trials.index[5], "is_catch"] = True
        return trials, sessions

    answers = load(synthetic_export(edit)).answers()
    assert len(answers) == 120 * 21 - 1
    assert set(answers["phase"]) == {"test"}


@pytest.mark.parametrize("column", ["correct", "condition", "participant_id", "session", "model_correct"])
def test_a_missing_column_is_named_with_what_is_there(synthetic_export, column):
    path = synthetic_export(lambda t, s: (t.drop(columns=column) if column != "excluded" else t, s))
    fails(path, f"study-scenes-utility_data.csv: column {column} missing; there are row_id, study")


def test_a_condition_typo_is_named_with_the_nearest(synthetic_export):
    def edit(trials, sessions):
        trials.loc[trials["participant_id"] == trials["participant_id"].iloc[-40], "condition"] = "salliency"
        return trials, sessions

    fails(synthetic_export(edit), "unknown name 'salliency'.*did you mean 'saliency'")


def test_a_participant_in_another_condition_than_the_sessions_say_is_named(synthetic_export):
    def edit(trials, sessions):
        first = sessions["participant_id"].iloc[0]
        trials.loc[trials["participant_id"] == first, "condition"] = "rise"
        return trials, sessions

    fails(synthetic_export(edit), "answered in 'rise' but the table of sessions says 'baseline'")


def test_duplicated_rows_are_counted(synthetic_export):
    path = synthetic_export(lambda t, s: (pd.concat([t, t.iloc[[3, 7]]], ignore_index=True), s))
    fails(path, "has the same row_id as an earlier row, 2 duplicated in all")


@pytest.mark.parametrize(
    ("column", "kind"),
    [("condition", "row"), ("participant_id", "row"), ("item_id", "test row"), ("correct", "test row")],
)
def test_an_empty_key_is_counted_and_located(synthetic_export, column, kind):
    def edit(trials, sessions):
        trials.loc[[5, 6], column] = np.nan
        return trials, sessions

    fails(synthetic_export(edit), f"column '{column}' is empty in 2 {kind}s, first in row 7")


@pytest.mark.parametrize(("value", "shown"), [(2.0, "2.0"), (-1.0, "-1.0"), (0.5, "0.5")])
def test_an_answer_that_is_neither_right_nor_wrong_is_named(synthetic_export, value, shown):
    def edit(trials, sessions):
        trials.loc[5, "correct"] = value
        return trials, sessions

    fails(synthetic_export(edit), f"column 'correct': row 7 holds '{shown}'; allowed are 0 and 1")


def test_text_in_a_column_of_numbers_is_named(synthetic_export):
    fails(
        synthetic_export(lambda t, s: (t.astype({"session": object}).assign(session="one"), s)),
        "holds 'one'; allowed are numbers",
    )


def test_an_export_without_rows_is_refused(synthetic_export):
    fails(synthetic_export(lambda t, s: (t.iloc[:0], s)), "the table has no row")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    fails(tmp_path / "empty.csv", "empty.csv: the file is empty")


def test_one_participant_is_refused(synthetic_export):
    def edit(trials, sessions):
        first = sessions["participant_id"].iloc[0]
        return trials[trials["participant_id"] == first], sessions[sessions["participant_id"] == first]

    fails(synthetic_export(edit), "only one participant is left to analyse")


def test_one_condition_alone_is_read_and_has_no_baseline(synthetic_export):
    study = load(synthetic_export(lambda t, s: (t[t["condition"] == "rise"], s[s["condition"] == "rise"])))
    assert (study.conditions, study.baseline) == (("rise",), None)


def test_what_was_shown_again_is_not_analysed(synthetic_export):
    def edit(trials, sessions):
        trials["repeat_of"] = trials["repeat_of"].astype(object)
        trials.loc[trials.index[5], "repeat_of"] = "t106"
        return trials, sessions

    assert len(load(synthetic_export(edit)).answers()) == 120 * 21 - 1


def test_answers_that_are_neither_right_nor_wrong_are_kept_apart(synthetic_export):
    def edit(trials, sessions):
        asked = trials["item_id"] == "image-1-5"
        trials.loc[asked & (trials["phase"] == "test"), ["expected", "correct"]] = ["", np.nan]
        return trials, sessions

    study = load(synthetic_export(edit))
    assert len(study.answers()) == 120 * 20
    assert len(study.answers(scored=False)) == 120 * 21


def test_where_nothing_is_right_every_answer_is_analysed(synthetic_export):
    path = synthetic_export(lambda t, s: (t.assign(expected="", correct=np.nan), s))
    card = {"card": {"name": "preference", "analysis": "preference", "chance": None}}
    (path / "provenance.json").write_text(json.dumps({"schema": 2, "protocol": card}))
    study = load(path)
    assert (study.protocol, study.scored, study.chance, len(study.answers())) == ("preference", False, None, 120 * 21)


def test_the_frozen_plan_and_the_card_come_with_the_study(synthetic_export):
    path = synthetic_export()
    held = {"schema": 2, "protocol": {"card": {"name": "utility", "chance": 0.25}}, "plan": {"hash": "ab"}}
    (path / "provenance.json").write_text(json.dumps(held))
    study = load(path)
    assert (study.card["name"], study.chance, study.plan) == ("utility", 0.25, {"hash": "ab"})


def test_a_study_whose_checks_exclude_everyone_is_refused(synthetic_export):
    fails(
        synthetic_export(lambda t, s: (t.assign(excluded=True), s.assign(excluded=True))),
        "checks exclude every participant",
    )


def test_two_stimulus_sets_are_never_pooled(synthetic_export):
    def edit(trials, sessions):
        trials.loc[trials["condition"] == "rise", "stimuli"] = "another"
        return trials, sessions

    fails(synthetic_export(edit), "rows of 2 stimulus sets .*never pooled")


def test_people_are_never_pooled_with_bots(synthetic_export):
    def edit(trials, sessions):
        live = set(sessions.groupby("condition").head(10)["participant_id"])
        for table in (trials, sessions):
            table.loc[table["participant_id"].isin(live), "source"] = "live"
        return trials, sessions

    study = load(synthetic_export(edit))
    assert (study.source, study.simulated) == ("live", False)
    assert study.answers()["participant_id"].nunique() == 60
    assert "72 bot" in study.warnings[0]


def test_an_unknown_source_is_named(synthetic_export):
    fails(synthetic_export(lambda t, s: (t, s.assign(source="bott"))), "unknown name 'bott'.*did you mean 'bot'")


def test_a_study_without_a_baseline_asks_which_it_is(synthetic_export):
    path = synthetic_export(accuracy={"plain": (0.6,) * 3, "rise": (0.7,) * 3})
    fails(path, "say with --baseline which of plain, rise")
    assert load(path, baseline="plain").conditions == ("plain", "rise")


def test_an_unknown_baseline_is_named_with_the_nearest(synthetic_export):
    fails(synthetic_export(), "unknown name 'controll'.*did you mean 'control'", baseline="controll")


def test_a_folder_that_is_no_export_says_what_one_holds(tmp_path):
    fails(tmp_path, "an export holds one data/study-<id>_data.csv")


def test_a_path_that_does_not_exist_is_named(tmp_path):
    fails(tmp_path / "nowhere", "no such file or folder")


def test_provenance_that_is_not_json_is_named(synthetic_export):
    path = synthetic_export()
    (path / "provenance.json").write_text("{")
    fails(path, "provenance.json: not valid JSON")


def test_a_session_table_with_a_person_twice_is_refused(synthetic_export):
    path = synthetic_export(lambda t, s: (t, pd.concat([s, s.iloc[[0]]])))
    fails(path, "has two rows; one is allowed")


@pytest.fixture
def tidy(tmp_path):
    """A foreign table: other names, text answers, no more than is needed."""
    rng = np.random.default_rng(0)
    rows = [
        {"worker": f"w{a}{i}", "arm": a, "image": f"im{j}", "match": bool(rng.random() < 0.6), "n": j}
        for a in ("none", "map") for i in range(6) for j in range(10)
    ]  # fmt: skip
    path = tmp_path / "foreign.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


NAMES = {"participant_id": "worker", "condition": "arm", "item_id": "image", "correct": "match", "seq": "n"}


def test_any_tidy_csv_is_read_through_a_column_map(tidy, tmp_path):
    (tmp_path / "map.yaml").write_text(
        "baseline: none\nstudy: foreign study\nchance: 0.5\ncolumns:\n"
        + "".join(f"  {k}: {v}\n" for k, v in NAMES.items())
    )
    study = load(tidy, columns=tmp_path / "map.yaml")
    assert (study.name, study.baseline, study.chance, study.source) == ("foreign study", "none", 0.5, "unknown")
    assert set(study.answers()["correct"]) == {0.0, 1.0}
    assert len(study.answers()) == 120


def test_a_tidy_csv_without_a_map_says_how_to_give_one(tidy):
    fails(tidy, "columns participant_id, condition, item_id, correct missing .*--columns.*there are worker, arm")


def test_a_map_to_a_column_that_is_not_there_names_the_nearest(tidy):
    fails(tidy, "unknown name 'imgae'.*did you mean 'image'", columns=ColumnMap(columns={**NAMES, "item_id": "imgae"}))


def test_a_map_of_a_name_we_do_not_know_names_the_nearest(tidy):
    fails(
        tidy,
        "unknown name 'particpant_id'.*did you mean 'participant_id'",
        columns=ColumnMap(columns={"particpant_id": "worker"}),
    )


def test_a_listed_condition_catches_a_typo_in_a_tidy_csv(tidy):
    table = pd.read_csv(tidy)
    table.loc[table["worker"] == "wmap3", "arm"] = "mapp"
    table.to_csv(tidy, index=False)
    fails(
        tidy,
        "unknown name 'mapp'.*did you mean 'map'",
        columns=ColumnMap(columns=NAMES, conditions=("none", "map"), baseline="none"),
    )


def test_two_conditions_in_one_person_are_refused(tidy):
    table = pd.read_csv(tidy)
    table.loc[3, "arm"] = "map"
    table.to_csv(tidy, index=False)
    fails(tidy, "participant 'wnone0' has rows of 2 conditions", columns=ColumnMap(columns=NAMES, baseline="none"))


def test_a_table_where_everyone_met_all_conditions_is_a_within_design(tidy):
    table = pd.read_csv(tidy)
    table["arm"] = ["none", "map"] * 60
    table.to_csv(tidy, index=False)
    study = load(tidy, columns=ColumnMap(columns=NAMES))
    assert (study.within, study.conditions, study.groups, study.baseline) == (True, ("map", "none"), (), None)


def test_a_formula_asks_for_no_more_columns_than_it_names(tmp_path):
    rows = [{"person": f"p{i}", "picture": f"im{j}", "rating": (i + j) % 7} for i in range(5) for j in range(6)]
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False)
    names = ColumnMap(
        columns={"participant_id": "person", "item_id": "picture"}, formula="rating ~ 1 + (1|participant) + (1|item)"
    )
    study = load(tmp_path / "ratings.csv", columns=names)
    assert (study.card["analysis"], study.conditions, len(study.answers())) == ("crossed", ("all",), 30)


def test_a_table_that_is_too_long_is_refused_before_it_is_read(tidy, monkeypatch):
    monkeypatch.setattr("analysis.load.tables.MOST_ROWS", 100)
    fails(tidy, "foreign.csv: 120 rows; a report reads 100 at most", columns=ColumnMap(columns=NAMES, baseline="none"))


def test_equal_rows_of_a_tidy_csv_ask_for_a_column_that_tells_them_apart(tidy):
    table = pd.read_csv(tidy).drop(columns="n")
    pd.concat([table, table.iloc[[0]]]).to_csv(tidy, index=False)
    names = {key: value for key, value in NAMES.items() if key != "seq"}
    fails(
        tidy, "1 duplicated in all.*map a column to trial_id or seq", columns=ColumnMap(columns=names, baseline="none")
    )


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "picture.csv").write_bytes(bytes(range(256)))
    fails(tmp_path / "picture.csv", "cannot be read as a table")


def test_a_score_table_without_a_column_names_it(score_table):
    pd.read_csv(score_table).drop(columns="gain").to_csv(score_table, index=False)
    with pytest.raises(LimenError, match="column gain missing"):
        read_scores(score_table)


def test_scores_bear_the_labels_that_conditions_bear(score_table):
    assert set(read_scores(score_table)["label"]) == {"grad_cam", "occlusion", "rise", "saliency"}


def test_a_file_changed_after_the_export_is_a_warning(synthetic_export):
    path = synthetic_export()
    name = "data/study-scenes-utility_data.csv"
    digest = sha256_file(path / name)
    (path / "provenance.json").write_text(json.dumps({"files": {name: {"sha256": digest}}}))
    assert load(path).warnings == ()
    table = pd.read_csv(path / name)
    table.loc[5, "rt_ms"] = 1.0
    table.to_csv(path / name, index=False)
    assert "not the file that was exported" in load(path).warnings[0]


def test_an_export_with_conditions_in_provenance_keeps_their_order(synthetic_export):
    path = synthetic_export()
    order = ["baseline", "control", "saliency", "rise", "occlusion", "grad_cam"]
    (path / "provenance.json").write_text(json.dumps({"conditions": order}))
    assert list(load(path).conditions) == order

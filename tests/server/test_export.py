"""The export: tidy, whole, explained, and without a trace of who it was."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from bench.records import columns
from bench.registry import LimenError
from psychophysics_server.export.codebook import describe
from psychophysics_server.export.folder import export, included
from psychophysics_server.export.guard import leak
from psychophysics_server.records import ResponseRow, SessionRow
from psychophysics_server.storage.tables import events

STALE = 3600.0


def take_part(running):
    """Four people: one good, one who failed the catch trials, one who left, one who withdrew; and a bot."""
    catch = tuple(t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch)
    names = ("good", "bad", "left", "gone")
    people = {name: running.person(f"5f00000000000000000000{number:02d}") for number, name in enumerate(names)}
    assert people["good"].take().complete().status_code == 200
    assert people["bad"].take(wrong=catch).complete().status_code == 200
    people["left"].take(stop_before=people["left"].trials()[6]["trial_id"])
    people["gone"].take()
    people["gone"].call("POST", "/api/withdraw", json={})
    running.person("bot-000001", source="bot").take().complete()
    return people


@pytest.fixture(scope="module")
def exported(launch_once, tmp_path_factory):
    """Return (application, people, export); shared, so read only."""
    running = launch_once()
    people = take_part(running)
    done = export(running.database, running.study, tmp_path_factory.mktemp("export") / "out", stale_s=STALE)
    return running, people, done


def table(done, part):
    name = f"data/study-tinystudy{part}_data.csv"
    return pd.read_csv(done.folder / name, keep_default_na=False, na_values=[""])


def test_each_row_is_what_was_answered(exported):
    running, people, done = exported
    rows = table(done, "")
    assert list(rows.columns) == columns(ResponseRow)
    assert set(rows["participant_id"]) == {people["good"].session}
    sent = {e["seq"]: json.loads(e["body"]) for e in people["good"].sent if e["kind"] == "trial"}
    assert list(rows["seq"]) == list(sent)
    for row in rows.itertuples():
        body = sent[row.seq]
        trial = running.study.trial_index[row.cell][row.trial_id]
        assert row.trial_id == body["trial_id"]
        assert row.rt_ms == body["rt_ms"]
        assert (row.phase, row.session, row.item_id, row.k_seen) == (
            trial.phase,
            trial.session,
            trial.item_id,
            trial.k_seen,
        )
        if trial.asks:
            assert (row.response, row.expected, row.correct) == (body["response"], trial.expected, 1.0)
            assert row.model_correct == float(trial.answer["model_correct"])
        else:
            assert np.isnan(row.correct)
            assert np.isnan(row.model_correct)
    assert rows["row_id"].is_unique


def test_excluded_people_are_apart_with_the_rule_that_excluded_them(exported):
    _, people, done = exported
    rows = table(done, "_description-excluded")
    reasons = rows.groupby("participant_id")["exclusion_reason"].unique().map(list).to_dict()
    assert reasons == {people["bad"].session: ["catch_accuracy"], people["left"].session: ["unfinished"]}
    assert rows["excluded"].all()


def test_everyone_has_a_session_row_and_a_withdrawn_person_no_other(exported):
    _, people, done = exported
    rows = table(done, "_description-sessions").set_index("participant_id")
    assert list(table(done, "_description-sessions").columns) == columns(SessionRow)
    states = {name: rows.loc[person.session, "state"] for name, person in people.items()}
    assert states == {"good": "COMPLETE", "bad": "COMPLETE", "left": "ACTIVE", "gone": "WITHDRAWN"}
    good = rows.loc[people["good"].session]
    assert (good["catch_accuracy"], good["test_accuracy"], good["practice_attempts"]) == (1.0, 1.0, 1)
    assert good["trials_held"] == good["trials_planned"] == 12
    assert good["median_rt_ms"] == 812.25
    assert rows.loc[people["bad"].session, "catch_accuracy"] == 0.0
    answered = pd.concat([table(done, ""), table(done, "_description-excluded")])
    assert people["gone"].session not in set(answered["participant_id"])


def test_the_flow_counts_people_at_each_step(exported):
    _, _, done = exported
    counted = {line["step"]: line["all"] for line in done.flow}
    assert counted == {
        "entered": 4,
        "withdrawn": 1,
        "consented": 4,
        "finished": 2,
        "failed catch_accuracy": 1,
        "failed practice_attempts": 0,
        "failed max_same_side_share": 0,
        "analysed": 1,
    }
    for line in done.flow:
        assert line["all"] == line["baseline"] + line["grad_cam"]


def test_bots_are_left_out_unless_asked_for(exported, tmp_path):
    running, _, done = exported
    assert set(table(done, "_description-sessions")["source"]) == {"live"}
    both = export(running.database, running.study, tmp_path / "both", sources=included(["bots"]), stale_s=STALE)
    assert set(table(both, "_description-sessions")["source"]) == {"live", "bot"}


def test_the_provenance_names_the_stimuli_the_filter_and_every_file(exported):
    running, _, done = exported
    facts = json.loads((done.folder / "provenance.json").read_text())
    assert (facts["stimuli"], facts["sources"], facts["conditions"]) == (
        running.study.key,
        ["live"],
        ["baseline", "grad_cam"],
    )
    assert facts["codes_complete"] == 2
    assert facts["checks"]["catch_accuracy"] == 1.0
    from bench.store import sha256_file

    for name, file in facts["files"].items():
        assert sha256_file(done.folder / name) == file["sha256"]
        assert len(pd.read_csv(done.folder / name)) == file["rows"]


def test_the_folder_follows_psych_ds(exported):
    _, _, done = exported
    description = json.loads((done.folder / "dataset_description.json").read_text())
    assert {"@context", "@type", "name", "description", "variableMeasured"} <= description.keys()
    measured = {variable["name"] for variable in description["variableMeasured"]}
    for file in (done.folder / "data").iterdir():
        assert re.fullmatch(r"([a-z]+-[A-Za-z0-9]+_)+data\.csv", file.name)
        assert set(pd.read_csv(file).columns) <= measured


def test_the_codebook_explains_every_column(exported):
    _, _, done = exported
    text = (done.folder / "codebook.md").read_text()
    for record in (ResponseRow, SessionRow):
        for column in describe(record):
            assert column.meaning
            assert f"| `{column.name}` |" in text


def test_the_times_of_day_stay_on_the_server(exported):
    _, _, done = exported
    for file in (done.folder / "data").iterdir():
        assert not re.search(r"\b1[67]\d{8}(\.\d+)?\b", file.read_text())


def test_nothing_is_overwritten(exported, tmp_path):
    running, _, done = exported
    before = sorted((path, path.stat().st_mtime_ns) for path in done.folder.rglob("*"))
    with pytest.raises(LimenError, match="nothing is overwritten"):
        export(running.database, running.study, done.folder, stale_s=STALE)
    assert sorted((path, path.stat().st_mtime_ns) for path in done.folder.rglob("*")) == before


def test_two_exports_of_the_same_answers_hold_the_same_rows(exported, tmp_path):
    running, _, done = exported
    again = export(running.database, running.study, tmp_path / "again", stale_s=STALE)
    for file in (done.folder / "data").iterdir():
        assert file.read_bytes() == (again.folder / "data" / file.name).read_bytes()


@pytest.mark.parametrize(
    "given",
    [
        "5f3a0000000000000000abcd",
        "PID=5F3A0000000000000000ABCD!",
        "me@example.org",
        "10.1.2.3",
        "at 192.168.0.1:80",
        "2001:db8::1",
    ],
)
def test_the_guard_knows_what_points_at_a_person(given):
    assert leak(given, known=frozenset(), private=frozenset())


@pytest.mark.parametrize(
    "given", ["", "cat", "1280x720", "812.25", "1.2.3", "5f3a" * 16, "session 1 test", "12:30", "baseline-0"]
)
def test_the_guard_lets_ordinary_values_pass(given):
    assert leak(given, known=frozenset(), private=frozenset()) is None


def test_the_guard_knows_the_ids_that_the_recruiter_gave():
    assert leak("zoe", known=frozenset(), private=frozenset({"zoe"})) == "a recruiter's id"
    assert leak("5f3a0000000000000000abcd", known=frozenset({"5f3a0000000000000000abcd"}), private=frozenset()) is None


def test_an_export_that_would_give_someone_away_is_not_written(running, tmp_path):
    people = take_part(running)
    last = people["left"].sent[-1]
    body = json.loads(last["body"]) | {"response": "5f3a0000000000000000abcd"}

    def plant(connection):
        where = (events.c.session == people["left"].session, events.c.seq == last["seq"])
        connection.execute(update(events).where(*where).values(body=json.dumps(body)))

    running.database.write(plant)
    with pytest.raises(LimenError, match=r"column 'response', row \d+: holds a recruiter's id") as caught:
        export(running.database, running.study, tmp_path / "leaky", stale_s=STALE)
    assert "5f3a" not in str(caught.value)
    assert not (tmp_path / "leaky").exists()

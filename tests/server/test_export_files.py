"""The files of an export beside the answers, its checker on good and bad folders, and a participant's own copy."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy import event, func, select

from analysis.load import load
from bench.registry import LimenError
from bench.store import Store, sha256_file
from psychophysics_server.cli import study as commands
from psychophysics_server.export.check import check_export
from psychophysics_server.export.folder import export
from psychophysics_server.export.guard import redacted
from psychophysics_server.export.psych_ds import name_fault
from psychophysics_server.sessions.unsent import import_copy
from psychophysics_server.storage.tables import audit, decisions, events
from psychophysics_server.study.factors import read_factors
from psychophysics_server.study.frozen import Library

STALE = 3600.0
PLACES = [{"role": "picture", "sha256": "0" * 64, "x": 1.5, "y": 2, "width": 300, "height": 300, "device_width": 600, "device_height": 600}]  # fmt: skip


@pytest.fixture(scope="module")
def answered(launch_once, asking):
    """An application on a study with every kind of question, and two people who took it."""
    running = launch_once(asking)
    people = [running.person(f"5f00000000000000000000{number:02d}") for number in (1, 2)]
    for person, words in zip(people, ("I am zoe@example.org, id 5f0000000000000000000001", "nothing"), strict=True):
        person.consent()
        person.say("display", {"browser": "Firefox", "os": "Linux", "px_per_cm": 37.8, "fullscreen": True})
        key = person.key()
        for trial in person.trials():
            more = {
                "pictures": PLACES,
                "plugin": f"{trial['trial_type']}@1.0.0",
                "conduct": [],
                "side": "left",
                "zoom": 1,
            }
            if trial["trial_type"] == "choice":
                kind = trial["payload"]["entry"]["kind"]
                more |= {"text": words if kind == "text" else "0.75", "confidence": 2, "changes": 1}
            person.answer(trial, key[trial["trial_id"]] or "", **more, frame_ms=16.7)
        person.say("focus", {"what": "blur", "at_ms": 12.5, "trial_id": None})
        person.say("debrief", {})
        assert person.complete().status_code == 200
    return running, people


@pytest.fixture(scope="module")
def asking(tiny, tmp_path_factory):
    """The tiny study with free answers, a confidence, and factors."""
    table = tiny.artifact.rows("trials.parquet")
    number = iter(range(10_000))

    def edit(row):
        if row["phase"] != "test":
            return row
        index, payload = next(number), json.loads(row["payload"])
        entry = {"label": "Why?", "kind": "text" if index % 2 else "number"}
        faces = [{"text": option} for option in payload["options"]]
        shown = {"phase": "test", "options": payload["options"], "faces": faces, "entry": entry}
        shown |= {"panels": [{"pictures": [payload["image"]]}], "confidence": {"levels": 3}}
        row["trial_type"], row["payload"] = "choice", json.dumps(shown)
        row["factors"] = json.dumps({"layer": f"layer{index % 3}", "depth": index % 3, "joint": index % 2 == 0})
        row["answer"] = json.dumps(json.loads(row["answer"]) | {"definition": "the machine's answer"})
        return row

    rows = pd.DataFrame([edit(dict(row)) for row in table.to_dict("records")])
    facts = json.loads(tiny.artifact.file("study.json").read_text()) | {"study": "asking", "checks": {}}
    library = Library(Store(tmp_path_factory.mktemp("asking") / "store"))
    with library.store.write("stimuli", facts) as draft:
        draft.write_rows(rows, "trials.parquet")
        draft.write_rows(tiny.artifact.rows("cells.parquet"), "cells.parquet")
        for name, path in tiny.pictures.items():
            draft.write_bytes(path.read_bytes(), f"pictures/{name}.png")
        draft.write_json(facts, "study.json")
        draft.write_json({"protocol": "asking"}, "protocol.json")
    return library.newest("asking")


@pytest.fixture(scope="module")
def done(answered, tmp_path_factory):
    running, _ = answered
    folder = tmp_path_factory.mktemp("export") / "out"
    return export(running.database, running.study, folder, stale_s=STALE, format="parquet", with_texts=True)


def table(done, part="", **more):
    name = f"data/study-asking{f'_description-{part}' if part else ''}_data.csv"
    return pd.read_csv(done.folder / name, keep_default_na=False, na_values=[""], **more)


def test_a_row_tells_where_the_answer_stood_and_how_sure_it_was(done, asking):
    rows = table(done)
    tests = rows[rows["phase"] == "test"]
    assert (tests["confidence"] == 2).all()
    assert (tests["changes"] == 1).all()
    assert (tests["definition"] == "the machine's answer").all()
    for row in tests.itertuples():
        trial = asking.trial_index[row.cell][row.trial_id]
        assert trial.options[row.option_position] == row.response
        assert trial.options[row.expected_position] == row.expected
        assert row.payload_sha256 == trial.payload_sha256
        assert row.pictures == trial.payload["panels"][0]["pictures"][0]
        assert (row.picture_px, row.plugin) == (300, "choice@1.0.0")
    train = rows[rows["phase"] == "train"]
    assert (train["option_position"] == -1).all()
    assert train["confidence"].isna().all()


def test_factors_are_columns_with_their_own_types(done):
    rows = pd.read_parquet(done.folder / "products/study-asking_description-model.parquet")
    assert isinstance(rows["layer"].dtype, pd.CategoricalDtype)
    assert list(rows["layer"].cat.categories) == ["layer0", "layer1", "layer2"]
    assert rows["depth"].dtype == np.float64
    assert rows["participant_id"].nunique() == 2
    assert list(rows["order"]) == [*range(len(rows) // 2)] * 2


def test_parquet_holds_the_rows_of_the_csv_files(done):
    for file in (done.folder / "data").iterdir():
        typed = pd.read_parquet(done.folder / "products" / file.name.replace("_data.csv", ".parquet"))
        plain = pd.read_csv(file, dtype=str, keep_default_na=False)
        assert list(typed.columns) == list(plain.columns)
        assert len(typed) == len(plain)


def test_words_are_in_a_file_of_their_own_and_tell_nobody(done):
    texts, rows = table(done, "texts"), table(done)
    assert set(texts["response_id"]) == set(rows.loc[rows["has_text"], "row_id"])
    assert "I am [an e-mail address], id [a recruiter's id]" in set(texts["text"])
    for file in (done.folder / "data").glob("*"):
        assert ("nothing" in file.read_text()) == ("texts" in file.name)


def test_numbers_that_were_typed_are_numbers(done):
    rows = table(done)
    assert rows.loc[rows["phase"] == "test", "number"].dropna().unique().tolist() == [0.75]
    assert rows["number"].notna().any()


def test_words_are_left_out_unless_asked_for(answered, tmp_path):
    running, _ = answered
    without = export(running.database, running.study, tmp_path / "out", stale_s=STALE)
    assert not list(without.folder.glob("data/*texts*"))
    assert without.texts == 6
    assert check_export(without.folder).faults == []


def test_events_and_pictures_stand_beside_the_answers(done):
    happened = table(done, "events")
    assert list(happened.loc[happened["kind"] == "focus", "what"]) == ["blur", "blur"]
    assert set(happened["kind"]) == {"consent", "display", "focus", "debrief"}
    pictures = table(done, "pictures")
    assert len(pictures) == len(table(done))
    assert pictures["device_width"].unique().tolist() == [600]
    people_rows = table(done, "sessions")
    assert people_rows[["browser", "system", "px_per_cm", "frame_ms", "fullscreen"]].values.tolist() == [["Firefox", "Linux", 37.8, 16.7, "yes"]] * 2  # fmt: skip
    assert people_rows["day"].tolist() == [0, 0]


def test_the_analysis_reads_the_export_with_its_factors(done):
    study = load(done.folder)
    answers = study.answers()
    assert study.conditions == ("baseline", "grad_cam")
    assert set(answers["layer"]) == {"layer1", "layer2"}  # the first is a catch trial
    assert answers["depth"].tolist() == [float(name[-1]) for name in answers["layer"]]
    assert (answers["confidence"] == 2).all()


def test_a_decision_by_hand_stands_above_the_checks_and_money_is_not_told(answered, tmp_path):
    running, people = answered
    rows = [("exclude", "rude words"), ("bonus", "kind"), ("reject", "no"), ("approve", "yes")]

    def decide(connection):
        for kind, reason in rows:
            values = {"session": people[0].session, "kind": kind, "reason": reason, "author": "me", "server_time": 1.0}
            connection.execute(decisions.insert().values(**values))

    def undo(connection):
        connection.execute(decisions.delete())

    running.database.write(decide)
    try:
        out = export(running.database, running.study, tmp_path / "out", stale_s=STALE)
    finally:
        running.database.write(undo)
    told = table(out, "sessions").set_index("participant_id").loc[people[0].session]
    assert (told["decision"], told["exclusion_reason"]) == ("exclude", "researcher")
    assert set(table(out, "excluded")["participant_id"]) == {people[0].session}
    for word in ("rude words", "bonus", "reject", "approve"):
        assert not any(word in file.read_text() for file in (out.folder / "data").iterdir())


def test_a_factor_named_like_a_column_is_refused_when_the_study_is_opened():
    with pytest.raises(LimenError, match="factor 'correct': is a column of every response"):
        read_factors([{"correct": 1}], where="set")
    with pytest.raises(LimenError, match="letters, digits and _"):
        read_factors([{"a b": 1}], where="set")
    with pytest.raises(LimenError, match="holds a list"):
        read_factors([{"a": [1]}], where="set")


def test_factors_with_gaps_and_mixed_values_keep_their_meaning():
    told = {f.name: f for f in read_factors([{"a": 1, "b": True, "c": 1}, {"a": 2.5, "c": "x"}], where="set")}
    assert {name: (f.type, f.levels, f.whole) for name, f in told.items()} == {
        "a": ("number", (1, 2.5), True),
        "b": ("bool", (True,), False),
        "c": ("text", ("1", "x"), True),
    }


def test_an_export_asks_the_data_base_a_fixed_number_of_times(launch, asking, tmp_path):
    running = launch(asking)

    def asked(name):
        said = []

        def listen(*heard):
            said.append(heard[2])

        engine = running.database._readers
        event.listen(engine, "before_cursor_execute", listen)
        export(running.database, running.study, tmp_path / name, stale_s=STALE)
        event.remove(engine, "before_cursor_execute", listen)
        return len(said)

    for number in range(2):
        running.person(f"5f00000000000000000001{number:02d}").consent()
    few = asked("few")
    for number in range(2, 4):
        running.person(f"5f00000000000000000001{number:02d}").consent()
    assert asked("many") == few


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("study-a_data.csv", True),
        ("study-a_task-2afc_description-sessions_data.csv", True),
        ("study-a.csv", False),
        ("Study-a_data.csv", False),
        ("study-a-b_data.csv", False),
        ("study_data.csv", False),
        ("study-a_wave-2_data.csv", False),
        ("study-a_study-b_data.csv", False),
        ("study-a_data.tsv", False),
    ],
)
def test_names_of_data_files_follow_the_rule(name, right):
    assert (name_fault(name) == "") is right


def test_a_good_folder_has_no_fault(done):
    result = check_export(done.folder, with_texts=True)
    assert result.faults == []
    assert result.files == 9
    said = CliRunner().invoke(commands, ["check-export", str(done.folder), "--with-texts"])
    assert said.exit_code == 0, said.output


def test_free_text_needs_a_person_who_has_read_it(done):
    assert [fault for fault in check_export(done.folder).faults if "free text" in fault]


def rewrite(folder, name, edit):
    text = (folder / name).read_text()
    (folder / name).write_text(edit(text))


def renoted(folder):
    """Bring the hashes up to date, as someone would who edits on purpose."""
    held = json.loads((folder / "provenance.json").read_text())
    for name, fact in held["files"].items():
        fact["sha256"] = sha256_file(folder / name)
        fact["rows"] = len(pd.read_csv(folder / name)) if name.endswith(".csv") else fact["rows"]
    (folder / "provenance.json").write_text(json.dumps(held))


MAIN = "data/study-asking_data.csv"
BAD = {
    "changed": (lambda f: rewrite(f, MAIN, lambda t: t.replace("key", "pen", 1)), "its SHA-256 differs"),
    "twice": (lambda f: (rewrite(f, MAIN, lambda t: t + t.splitlines()[1] + "\n"), renoted(f)), "repeats an id"),
    "named": (lambda f: (f / MAIN).rename(f / "data/answers.csv"), "no name after the rule"),
    "column": (lambda f: (rewrite(f, MAIN, lambda t: t.replace("row_id", "row_id,extra", 1)), renoted(f)), "'extra': is not among"),
    "stranger": (lambda f: (rewrite(f, MAIN, lambda t: t.replace("asking,1,", "asking,1,", 1) + "x-1" + "," * t.splitlines()[0].count(",") + "\n"), renoted(f)), "not in the table of sessions"),
    "description": (lambda f: (f / "dataset_description.json").unlink(), "is missing"),
    "type": (lambda f: rewrite(f, "dataset_description.json", lambda t: t.replace('"Dataset"', '"Data"')), "not 'Dataset'"),
    "context": (lambda f: rewrite(f, "dataset_description.json", lambda t: t.replace("schema.org", "example.org")), "not schema.org"),
    "json": (lambda f: rewrite(f, "provenance.json", lambda t: t[:-9]), "is not JSON"),
    "recruiter": (lambda f: rewrite(f, "codebook.md", lambda t: t + "5f3a0000000000000000abcd\n"), "holds a recruiter's id"),
    "nested": (lambda f: (f / "notes.json").write_text('{"a": [{"b": "me@example.org"}]}'), "key 'a.b': holds an e-mail"),
    "address": (lambda f: (rewrite(f, MAIN, lambda t: t.replace("key", "10.1.2.3", 1)), renoted(f)), "holds an IP address"),
    "gone": (lambda f: (f / "data/study-asking_description-events_data.csv").unlink(), "which is not there"),
    "typed": (lambda f: shutil.copy(f / "products/study-asking.parquet", f / "products/more.parquet"), "is not named in provenance.json"),
    "added": (lambda f: shutil.copy(f / MAIN, f / "data/study-other_data.csv"), "is not named in provenance.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_of(done, tmp_path, name):
    damage, told = BAD[name]
    folder = tmp_path / "copy"
    shutil.copytree(done.folder, folder)
    damage(folder)
    faults = check_export(folder, with_texts=True).faults
    assert any(told in fault for fault in faults), faults


def test_what_leads_to_a_person_is_replaced_in_free_text():
    private = frozenset({"WORKER1234"})
    text, removed = redacted("WORKER1234 at 10.0.0.1 or 2001:db8::7, a@b.org", private=private)
    assert text == "[a recruiter's id] at [an IP address] or [an IP address], [an e-mail address]"
    assert set(removed) == {"a recruiter's id", "an e-mail address", "an IP address"}
    assert redacted("it looks like a 7 at 12:30:05", private=private) == ("it looks like a 7 at 12:30:05", [])


def copy_of(person, unsent):
    held = {
        "study": person.running.study.file.study,
        "session": person.session,
        "last_seq": person.next_seq - 1,
        "chain": person.chain,
        "events": unsent,
        "code": "LIMEN-R-1",
    }
    return json.dumps(held, indent=1)


@pytest.fixture
def unsent(running, tmp_path):
    """Someone whose last three answers never arrived, and the file they downloaded."""
    person = running.person()
    person.consent()
    trials, key = person.trials(), person.key()
    for trial in trials[:2]:
        person.answer(trial, key[trial["trial_id"]])
    kept = [
        person.event("trial", {"trial_id": trial["trial_id"], "response": key[trial["trial_id"]]})
        for trial in trials[2:5]
    ]
    (tmp_path / "copy.json").write_text(copy_of(person, kept))
    return running, person, tmp_path / "copy.json"


def count(running, table):
    with running.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_copy_is_stored_once_however_often_it_is_imported(unsent):
    running, person, file = unsent
    first = import_copy(running.database, running.study, file)
    assert (first.stored, first.held, first.faults, first.high_water) == ([4, 5, 6], [], {}, 6)
    again = import_copy(running.database, running.study, file)
    assert (again.stored, again.held) == ([], [4, 5, 6])
    assert count(running, events) == 6
    assert person.get().json["chain"] == person.chain
    with running.database.read() as connection:
        lines = connection.execute(select(audit)).all()
    assert [(line.action, line.subject) for line in lines] == [("import copy", person.session)] * 2


def test_a_copy_with_other_words_or_a_gap_or_of_somebody_else_is_refused_whole(unsent, tmp_path):
    running, person, file = unsent
    whole = json.loads(file.read_text())
    other = running.person("5f0000000000000000000009")
    other.consent()
    other.answer(other.trials()[0], other.key()[other.trials()[0]["trial_id"]], rt_ms=1.5)
    bad = {
        "chain does not follow": whole | {"events": [e | {"body": e["body"].replace("}", " }")} for e in whole["events"]]},
        "neither held nor in the copy": whole | {"events": whole["events"][1:]},
        "chain does not follow ": whole | {"session": other.session, "events": person.sent[2:]},
        "held with another body": whole | {"events": [person.sent[1] | {"body": "{}"}, *whole["events"]]},
        "not of 'tiny-study'": whole | {"study": "another"},
        "not one of version 1": whole | {"session": "pnobody"},
        "not a participant's copy": {"events": 1},
        "an event twice": whole | {"events": [whole["events"][0], *whole["events"]]},
    }  # fmt: skip
    before = count(running, events)
    for told, content in bad.items():
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(LimenError, match=told.strip()):
            import_copy(running.database, running.study, tmp_path / "bad.json")
    assert count(running, events) == before
    assert count(running, audit) == 0

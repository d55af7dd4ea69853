"""Bots of every trial type, their misbehaviour, what must be refused, and networks as observers."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from bench.images import encode_png
from bench.records import columns
from bench.registry import LimenError
from bench.store import Store, sha256_bytes
from psychophysics_server.bots import refused
from psychophysics_server.bots.browser import Answer
from psychophysics_server.bots.fleet import run_bots, run_inside, summarise
from psychophysics_server.bots.journey import Habits, OffTheRails
from psychophysics_server.bots.model import Psychometrics, generator
from psychophysics_server.bots.observer import Written, load_observer, observe
from psychophysics_server.bots.replies import certainty, entry, hurried, on_scale, rating, walk
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.database import Database
from psychophysics_server.storage.tables import events, sessions
from psychophysics_server.study.frozen import Library
from stimuli.records import Bots, CellRow, TrialRow
from stimuli.trials import Confidence, Entry, Reveal, Speed

PAGE = {"title": "Title", "body": "Text."}
QUIZ = [{"question": "What do you press?", "options": ["a", "b", "c"], "answer": "b"}]
SURE = {"participant_sd": 0, "item_sd": 0, "lapse": 0, "careless_share": 0, "dropout_share": 0, "catch_accuracy": 1}


def payloads(picture):
    """One trial of every shape: name -> (trial type, payload, right answer)."""
    faces = [{"label": "one"}, {"label": "two"}, {"label": "three"}]
    scale = [{"label": str(n)} for n in range(1, 6)]
    base = {"phase": "test"}
    return {
        "predict": ("predict", {**base, "image": picture, "options": ["l", "r"]}, "l"),
        "forced": (
            "forced_choice",
            {**base, "options": ["a", "b"], "queries": [picture] * 2, "confidence": {"levels": 5}},
            "b",
        ),
        "slider": (
            "forced_choice",
            {**base, "options": ["a", "b"], "queries": [picture] * 2, "confidence": {"slider": True}},
            "a",
        ),
        "choice": ("choice", {**base, "options": ["x", "y", "z"], "faces": faces}, "z"),
        "rating": (
            "choice",
            {**base, "options": list("12345"), "faces": scale, "layout": "scale", "confidence": {"levels": 3}},
            "",
        ),
        "text": ("choice", {**base, "entry": {"label": "Why?", "required": True, "max_length": 12}}, ""),
        "number": ("choice", {**base, "entry": {"label": "How many?", "kind": "number", "required": True,
                                                "minimum": 2, "maximum": 9}}, ""),
        "speeded": (
            "choice",
            {**base, "options": ["x", "y", "z"], "faces": faces,
             "speed": {"stimulus_ms": 100, "deadline_ms": 1500, "last_counts": True}},
            "x",
        ),
        "reveal": ("reveal", {**base, "image": picture, "word": "cat", "size": [64, 48], "limit_ms": 2000}, ""),
        "click": ("reveal", {**base, "image": picture, "word": "cat", "size": [64, 48], "mode": "click"}, ""),
    }  # fmt: skip


@pytest.fixture
def every(tmp_path):
    """Build a study with a trial of every shape, `copies` of each, in two conditions."""

    def build(*, copies=1, quiz=(), kinds=None, **changes):
        facts = {
            "study": "every-type",
            "version": 1,
            "protocol": "utility",
            "title": "Every type",
            "run": "demo",
            "conditions": ["baseline", "control"],
            "quota": 20,
            "texts": {
                "consent": PAGE,
                "instructions": [PAGE],
                "debrief": PAGE,
                "contact": "x@y.org",
                "quiz": list(quiz),
            },
            "bots": {"accuracy": {"baseline": [0.6], "control": [0.8]}, "dropout_share": 0.0},
            "recruitment": {"source": "mock"},
        } | changes
        png = encode_png(np.full((48, 64, 3), 90, dtype=np.uint8))
        picture = sha256_bytes(png)
        rows = []
        for cell in facts["conditions"]:
            shapes = [item for item in payloads(picture).items() if kinds is None or item[0] in kinds]
            for position, ((name, (kind, payload, expected)), copy) in enumerate(
                itertools.product(shapes, range(copies))
            ):
                payload = payload if kind != "predict" else {**payload, "explanation": None, "predicted": None}
                rows.append(
                    {
                        "cell": cell, "condition": cell, "list": 0, "position": position, "block": "test",
                        "session": 1, "phase": "test", "trial_type": kind,
                        "trial_id": "t" + sha256_bytes(f"{cell}/{name}/{copy}".encode())[:12],
                        "item_id": f"{name}-{copy}", "is_catch": False, "k_seen": 0,
                        "payload": json.dumps(payload), "answer": json.dumps({"expected": expected} if expected else {}),
                        "factors": json.dumps({"shape": name, "late": copy % 2 == 1}),
                    }
                )  # fmt: skip
        library = Library(Store(tmp_path / f"store-{len(list(tmp_path.iterdir()))}"))
        cells = [CellRow(cell=name, condition=name, list=0, quota=10) for name in facts["conditions"]]
        with library.store.write("stimuli", facts) as draft:
            draft.write_rows(pd.DataFrame(rows, columns=columns(TrialRow)), "trials.parquet")
            draft.write_rows(pd.DataFrame([vars(cell) for cell in cells]), "cells.parquet")
            draft.write_bytes(png, f"pictures/{picture}.png")
            draft.write_json(facts, "study.json")
            draft.write_json({"protocol": "utility"}, "protocol.json")
        return library.newest(facts["study"])

    return build


@pytest.fixture
def held(tmp_path):
    database = Database(tmp_path / "inside.sqlite")
    yield database
    database.close()


def test_every_reply_to_every_trial_type_counts(every):
    study = every(copies=3)
    model = Psychometrics(study, seed=1)
    for index in range(40):
        person = model.person(index, 30)
        for trial in study.trials["baseline"]:
            given = model.answer(person, trial, "baseline", 1)
            assert trial.shown.fault(given.response, json.loads(json.dumps(given.body()))) == ""


def test_bots_of_every_trial_type_take_a_study_over_http_and_answer_its_questions(served, every):
    study = every(quiz=QUIZ, checks={"quiz_attempts": 1})
    running, url = served(study)
    habits = Habits(twice=0.2, shuffled=0.2, tabs=0.1, reloads=0.3)
    journeys = run_bots(study, url=url, n=12, seed=4, habits=habits)
    assert {journey.outcome for journey in journeys} <= {"complete", "screened_out"}
    assert sum(journey.outcome == "complete" for journey in journeys) > 6
    assert sum(journey.raced for journey in journeys) > 0
    with running.database.read() as connection:
        assert [row.fault for row in connection.execute(select(events)) if row.fault] == []
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


def test_the_careless_fail_the_questions_and_are_screened_out(served, every):
    facts = {"accuracy": {"baseline": [0.6], "control": [0.8]}, **SURE, "careless_share": 1.0}
    study = every(quiz=QUIZ * 3, checks={"quiz_attempts": 1}, bots=facts)
    _, url = served(study)
    outcomes = Counter(journey.outcome for journey in run_bots(study, url=url, n=8, seed=4))
    assert outcomes["screened_out"] > 4


def test_a_block_that_is_begun_again_is_answered_again(served, every):
    study = every(resume={"policy": "restart_block"}, bots={"accuracy": {"baseline": [0.6], "control": [0.8]}, **SURE})
    running, url = served(study)
    journeys = run_bots(study, url=url, n=6, seed=4, habits=Habits(reloads=1.0))
    assert {journey.outcome for journey in journeys} == {"complete"}
    with running.database.read() as connection:
        attempts = [row.attempt for row in connection.execute(select(events)) if row.trial_id]
    assert max(attempts) == 2


def test_whoever_reloads_where_that_is_refused_ends_without_a_code_of_completion(served, every):
    study = every(resume={"policy": "refuse"}, bots={"accuracy": {"baseline": [0.6], "control": [0.8]}, **SURE})
    _, url = served(study)
    journeys = run_bots(study, url=url, n=6, seed=4, habits=Habits(reloads=1.0))
    assert {journey.outcome for journey in journeys} == {"failed"}


def test_without_http_the_same_seed_gives_the_same_answers(served, every, held):
    study = every(copies=2)
    running, url = served(study)
    run_bots(study, url=url, n=6, seed=9)
    journeys = run_inside(study, held, n=6, seed=9)
    assert {journey.outcome for journey in journeys} == {"complete"}

    def answers(database):
        with database.read() as connection:
            rows = connection.execute(select(events, sessions.c.cell).join(sessions).filter_by(fault=""))
            trials = [(row.cell, row.trial_id, row.body) for row in rows if row.trial_id]
        keep = ("response", "rt_ms", "confidence", "text", "strokes")
        return sorted((c, t, json.dumps({k: json.loads(b).get(k) for k in keep})) for c, t, b in trials)

    assert answers(running.database) == answers(held)
    assert verify(held, Library(study.artifact.path.parent.parent)).faults == []


def test_stated_effects_of_factors_shift_accuracy_in_logits(every, held):
    stated = {"accuracy": {"baseline": [0.5], "control": [0.5]}, "effects": {"late": {"true": 1.5}}, **SURE}
    study = every(copies=10, kinds={"predict"}, bots=stated)
    model = Psychometrics(study, seed=0)
    person = model.person(0, 10)
    for trial in study.trials["control"]:
        expected = 1 / (1 + math.exp(-1.5)) if trial.factors["late"] else 0.5
        assert model.probability(person, trial, "control") == pytest.approx(expected, abs=1e-8)
    run_inside(study, held, n=60, seed=3)
    key = {t.trial_id: t for cell in study.trials.values() for t in cell}
    right = {True: [], False: []}
    with held.read() as connection:
        for row in connection.execute(select(events).where(events.c.trial_id != "")):
            trial = key[row.trial_id]
            right[trial.factors["late"]].append(json.loads(row.body)["response"] == trial.expected)
    for late, expected in ((True, 1 / (1 + math.exp(-1.5))), (False, 0.5)):
        assert np.mean(right[late]) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / len(right[late])))


@pytest.mark.parametrize(
    ("effects", "says"),
    [({"latter": {"true": 1.0}}, "did you mean 'late'"), ({"shape": {"forsed": 1.0}}, "did you mean 'forced'")],
)
def test_an_effect_that_no_trial_carries_is_refused(every, effects, says):
    stated = Bots(accuracy={"baseline": (0.5,), "control": (0.5,)}, effects=effects)
    with pytest.raises(LimenError, match=says):
        Psychometrics(every(), seed=0, bots=stated)


def test_confidence_grows_with_the_distance_from_chance_and_with_being_right():
    def mean(chance, correct):
        draws = [certainty(chance, 0.5, correct, generator(0, index)) for index in range(500)]
        assert 0 <= min(draws) <= max(draws) <= 1
        return np.mean(draws)

    assert mean(0.95, True) > mean(0.7, True) > mean(0.5, True) > mean(0.5, False)
    assert mean(0.05, False) == pytest.approx(mean(0.95, False), abs=1e-12)


@pytest.mark.parametrize(("value", "level"), [(0.0, 1), (0.33, 1), (0.34, 2), (0.99, 3), (1.0, 3)])
def test_a_certainty_is_put_on_the_steps_of_a_scale(value, level):
    assert on_scale(Confidence(levels=3), value) == level
    assert on_scale(Confidence(slider=True), value) == pytest.approx(100 * value)


def test_ratings_lie_around_their_level():
    points = list("1234567")
    given = [int(rating(points, 0.75, generator(1, index))) for index in range(2000)]
    assert np.mean(given) == pytest.approx(1 + 0.75 * 6, abs=0.15)
    assert set(given) <= set(range(1, 8))


def test_an_answer_after_the_deadline_is_no_answer():
    speed = Speed(stimulus_ms=100, deadline_ms=800, last_counts=True)
    assert hurried(speed, 801.0, generator(0)) == (800.0, True, 0)
    changes = [hurried(speed, 500.0, generator(0, index))[2] for index in range(1000)]
    assert np.mean(changes) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(
    "asked",
    [
        Entry(label="n", kind="number", required=True, minimum=3, maximum=3.5),
        Entry(label="n", kind="number", required=True, minimum=-5),
        Entry(label="n", kind="number", required=True, maximum=-5),
        Entry(label="n", kind="number", required=True, minimum=0.2, maximum=0.4),
        Entry(label="t", required=True, max_length=3),
        Entry(label="t"),
    ],
)
def test_free_answers_are_those_that_the_entry_takes(asked):
    from stimuli.trials import entry_fault

    given = [entry(asked, generator(2, index)) for index in range(50)]
    assert {entry_fault(asked, text) for text in given} == {""}
    assert asked.required == ("" not in given)


@pytest.mark.parametrize("mode", ["reveal", "click"])
@pytest.mark.parametrize("size", [(224, 224), (10, 300), (5, 5)])
def test_strokes_stay_in_the_picture_in_order_and_within_a_step(mode, size):
    trial = Reveal(phase="test", image="0" * 64, word="cat", mode=mode, size=size, max_boxes=80)
    for index in range(30):
        strokes = walk(trial, 100, generator(5, index))
        assert len(strokes) == 80
        assert trial.fault("done", {"strokes": strokes}) == ""


@pytest.mark.parametrize("shape", ["practice", "quiz"])
def test_what_must_be_refused_is_refused_and_the_person_goes_on(served, every, tiny, shape):
    study = tiny if shape == "practice" else every(quiz=QUIZ)
    running, url = served(study)
    journeys = run_bots(study, url=url, n=2, seed=2, habits=Habits(must_fail=True))
    assert {journey.outcome for journey in journeys} <= {"complete", "left", "screened_out"}
    assert min(journey.refused for journey in journeys if journey.outcome == "complete") >= 15
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


def test_a_submission_that_is_taken_though_it_must_be_refused_stops_the_bot(served, tiny, monkeypatch):
    def taken(browser, study, trials):
        yield refused.Case(name="consent", submit=lambda: Answer(200, {}), refused=lambda answer: answer.status == 400)

    monkeypatch.setattr(refused, "cases", taken)
    _, url = served()
    with pytest.raises(OffTheRails, match="consent was not refused"):
        run_bots(tiny, url=url, n=1, habits=Habits(must_fail=True))


def right_answers(study):
    key = {trial.trial_id: trial for cell in study.trials.values() for trial in cell}

    def see(seen):
        assert all(path.is_file() for path in seen.pictures.values())
        if seen.trial_type == "reveal":
            return [[0.0, 1.0, 1.0], [50.0, 3.0, 4.0]], None
        if seen.options:
            return key[seen.trial_id].expected or seen.options[0], 0.9
        return ("7" if seen.payload.get("entry", {}).get("kind") == "number" else "because"), None

    return see


def test_a_network_takes_the_same_study_and_leaves_rows_of_its_own_source(every, held):
    study = every(quiz=QUIZ)
    journeys = observe(study, held, lambda: right_answers(study), name="oracle", n=4)
    assert {journey.outcome for journey in journeys} == {"complete"}
    assert [line.accuracy for line in summarise(study, journeys)] == [1.0, 1.0]
    assert Counter(journey.condition for journey in journeys) == {"baseline": 2, "control": 2}
    with held.read() as connection:
        assert set(connection.execute(select(sessions.c.source)).scalars()) == {"network"}
        consents = connection.execute(select(events.c.body).filter_by(kind="consent")).scalars()
        assert {json.loads(body)["observer"] for body in consents} == {"oracle"}
    assert verify(held, Library(study.artifact.path.parent.parent)).faults == []


def test_a_network_whose_answer_cannot_count_is_told_so(every, held):
    with pytest.raises(LimenError, match=r"observer dull, trial t\w+, response 'horse': .*not among the options"):
        observe(every(), held, lambda: lambda seen: ("horse", None), name="dull", n=1)


def test_written_answers_of_a_network_are_taken_by_item(every, held, tmp_path):
    study = every(kinds={"predict", "forced", "choice"})
    path = tmp_path / "answers.csv"
    rows = {trial.item_id: trial.expected for cell in study.trials.values() for trial in cell}
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["item_id", "response", "confidence"])
        writer.writerows([item, answer, 0.8] for item, answer in rows.items())
    journeys = observe(study, held, lambda: Written(path, study), name="file", n=2)
    assert [line.accuracy for line in summarise(study, journeys)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item_id,answer\na,b\n", "needed are 'response'"),
        ("item_id,response\npredict-0,l\npredict-0,r\n", "has two answers"),
        ("item_id,response\npredict-0,l\n", "test trials have no answer"),
    ],
)
def test_a_file_of_answers_that_is_not_whole_is_one_sentence(every, tmp_path, text, says):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(LimenError, match=says):
        Written(path, every())


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("nothing", "not of the form module:function"),
        ("no_such_module:see", "no module 'no_such_module'"),
        ("json:dump5", "did you mean 'dumps'|did you mean 'dump'"),
    ],
)
def test_an_observer_that_is_not_there_is_one_sentence(named, says):
    with pytest.raises(LimenError, match=says):
        load_observer(named)


def test_an_observer_class_is_made_anew_for_each_session_and_a_function_is_shared():
    assert load_observer("collections:Counter")() == Counter()
    assert load_observer("json:dumps")() is json.dumps

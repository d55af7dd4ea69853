"""Simulated people: they answer as stated, and the whole road gives the stated numbers back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.registry import LimenError
from psychophysics_server.bots.browser import Browser, NoAnswer
from psychophysics_server.bots.fleet import run_bots, summarise, wait_until_ready
from psychophysics_server.bots.model import Psychometrics, success
from psychophysics_server.export.people import people
from psychophysics_server.monitoring.verify import verify
from stimuli.records import Bots

PLAIN = {"participant_sd": 0, "item_sd": 0, "lapse": 0, "careless_share": 0, "dropout_share": 0, "catch_accuracy": 1}
STATED = {"baseline": [0.55, 0.7], "grad_cam": [0.75, 0.95]}


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.8, 1.0])
def test_the_median_person_on_the_median_item_has_the_stated_accuracy(accuracy):
    assert success(accuracy, person=0, item=0, lapse=0, options=2) == pytest.approx(accuracy, abs=1e-8)


def test_random_effects_add_in_logits_and_lapses_guess():
    odds = math.exp(math.log(0.8 / 0.2) + 0.3 - 0.1)
    expected = 0.9 * odds / (1 + odds) + 0.1 / 4
    assert success(0.8, person=0.3, item=-0.1, lapse=0.1, options=4) == pytest.approx(expected)


def test_drawn_people_have_the_stated_spread_and_shares(tiny):
    stated = Bots(accuracy=STATED, participant_sd=0.8, careless_share=0.2, dropout_share=0.1)
    model = Psychometrics(tiny, seed=1, bots=stated)
    drawn = [model.person(index, 30) for index in range(2000)]
    assert np.std([person.ability for person in drawn]) == pytest.approx(0.8, rel=0.06)
    assert np.mean([person.careless for person in drawn]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([person.drops_after is not None for person in drawn]) == pytest.approx(0.1, abs=0.03)


def test_answers_are_right_as_often_as_the_model_says_and_take_the_stated_time(tiny):
    model = Psychometrics(tiny, seed=2, bots=Bots(accuracy=STATED))
    trial = next(t for t in tiny.trials["grad_cam-0"] if t.phase == "test" and not t.is_catch)
    persons = [person for person in (model.person(index, 30) for index in range(3000)) if not person.careless]
    answers = [model.answer(person, trial, "grad_cam", 1) for person in persons]
    chance = [model.probability(person, trial, "grad_cam") for person in persons]
    right = [given.response == trial.expected for given in answers]
    assert np.mean(right) == pytest.approx(np.mean(chance), abs=4 * math.sqrt(np.mean(chance) / len(persons)))
    assert np.median([given.rt_ms for given in answers]) == pytest.approx(1800, rel=0.06)


def test_the_same_seed_draws_the_same_answers_in_any_order(tiny):
    model, again = (Psychometrics(tiny, seed=4) for _ in range(2))
    trials = tiny.trials["baseline-1"]
    person = model.person(3, len(trials))
    forward = [model.answer(person, trial, "baseline", 1) for trial in trials]
    backward = [again.answer(person, trial, "baseline", 1) for trial in reversed(trials)]
    assert forward == backward[::-1]


def test_a_study_without_a_model_or_with_a_part_of_one_is_refused(tiny, build):
    with pytest.raises(LimenError, match="key 'bots'"):
        Psychometrics(build(bots=None), seed=0)
    with pytest.raises(LimenError, match="did you mean 'grad_cam'|grad_cam"):
        Psychometrics(tiny, seed=0, bots=Bots(accuracy={"baseline": (0.5, 0.5), "gradcam": (0.5, 0.5)}))
    with pytest.raises(LimenError, match="given 1 sessions, the study has 2"):
        Psychometrics(tiny, seed=0, bots=Bots(accuracy={"baseline": (0.5,), "grad_cam": (0.5, 0.5)}))


@pytest.mark.long
def test_bots_over_http_recover_the_stated_accuracies(served, build):
    study = build(tests=9, bots={"accuracy": STATED, **PLAIN}, checks={})
    running, url = served(study)
    journeys = run_bots(study, url=url, n=24, seed=7)
    assert {journey.outcome for journey in journeys} == {"complete"}
    with running.database.read() as connection:
        found = list(people(connection, study, sources=["bot"], stale_s=60))
    rows = [row for person in found for row in person.responses if row.phase == "test" and not row.is_catch]
    for condition, stated in STATED.items():
        for session, accuracy in enumerate(stated, start=1):
            correct = [row.correct for row in rows if row.condition == condition and row.session == session]
            assert len(correct) == 12 * 8
            error = math.sqrt(accuracy * (1 - accuracy) / len(correct))
            assert np.mean(correct) == pytest.approx(accuracy, abs=3.5 * error)
    remembered = {line.condition: line.accuracy for line in summarise(study, journeys)}
    for condition, accuracy in remembered.items():
        assert accuracy == pytest.approx(np.mean([row.correct for row in rows if row.condition == condition]))


def test_bots_reload_send_twice_drop_out_and_are_careless_and_nothing_breaks(served, build):
    model = {"accuracy": STATED, "careless_share": 0.3, "dropout_share": 0.3}
    study = build(bots=model, checks={"catch_accuracy": 1.0, "practice_attempts": 2})
    running, url = served(study)
    journeys = run_bots(study, url=url, n=24, seed=3)
    assert {journey.outcome for journey in journeys} == {"complete", "left"}
    assert sum(journey.reloads for journey in journeys) > 0
    assert sum(journey.conflicts for journey in journeys) == 0
    with running.database.read() as connection:
        found = {
            person.session.participant_id: person.session
            for person in people(connection, study, sources=["bot"], stale_s=60)
        }
    assert {found[j.session].finished for j in journeys if j.outcome == "left"} == {False}
    careless = [found[j.session].excluded for j in journeys if j.careless and j.outcome == "complete"]
    careful = [found[j.session].excluded for j in journeys if not j.careless and j.outcome == "complete"]
    assert np.mean(careless) > np.mean(careful)
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


def test_the_same_bots_again_find_their_studies_done(served, build):
    study = build(bots={"accuracy": STATED, **PLAIN}, checks={})
    _, url = served(study)
    first, second = (run_bots(study, url=url, n=4, seed=1) for _ in range(2))
    assert [j.session for j in first] == [j.session for j in second]
    assert [j.code for j in first] == [j.code for j in second]
    assert all(journey.acknowledged == {} for journey in second)


def test_bots_are_balanced_among_themselves_whatever_the_quota(served, tiny):
    _, url = served()
    entered = [line.entered for line in summarise(tiny, run_bots(tiny, url=url, n=20, seed=9))]
    assert entered == [10, 10]


def test_a_server_that_is_not_there_is_one_sentence():
    with pytest.raises(NoAnswer, match="start `limen study serve"):
        wait_until_ready("http://127.0.0.1:9", patience_s=0)


def test_bots_of_another_version_stop_at_once(served, build, tiny):
    _, url = served()
    with pytest.raises(LimenError, match="serves another version"):
        run_bots(build(tests=4), url=url, n=1)


def test_the_browser_goes_on_where_the_server_stands(served):
    _, url = served()
    first = Browser(url, "tiny-study", "browser-12345", source="bot")
    first.open()
    first.read()
    first.note("consent", {"accepted": True})
    first.flush()
    second = Browser(url, "tiny-study", "browser-12345", source="bot")
    second.open()
    second.read()
    assert (second.session, second.next_seq, second.chain) == (first.session, 2, first.chain)
    for browser in (first, second):
        browser.close()

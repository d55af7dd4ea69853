"""The checks engine: every rule observed by hand-made people, judged by data, the same live, stored and re-judged."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from psychophysics_server.export.people import people
from psychophysics_server.people.checks import (
    RULES,
    Course,
    Observed,
    Timed,
    certain,
    failed,
    flagged,
    from_export,
    judge,
    observe,
    option_position,
)
from psychophysics_server.people.conduct import instruction_seconds, longest_gap_seconds, observed, recheck
from psychophysics_server.people.rows import held_events
from psychophysics_server.sessions.session import schedule_of
from psychophysics_server.storage.tables import check_values, sessions
from psychophysics_server.study.correct import correctness
from psychophysics_server.study.frozen import Trial
from stimuli.records import Checks, Rules

LEFT, RIGHT = "left", "right"
WELL = Observed(
    catch_accuracy=1.0,
    practice_attempts=1,
    quiz_attempts=1,
    instruction_seconds=30.0,
    total_seconds=300.0,
    median_rt_ms=900.0,
    too_fast_share=0.0,
    choices_per_side=10,
    same_side_share=0.5,
    same_side_run=3,
    longest_gap_seconds=12.0,
    focus_losses=0,
    touch_answers=0,
    honeypots=0,
    test_accuracy=0.8,
)


def trial(number, *, options=(LEFT, RIGHT), expected=LEFT, catch=False, phase="test", trial_type="predict", **payload):
    return Trial(
        trial_id=f"t{number}",
        trial_type=trial_type,
        block="one",
        session=1,
        phase=phase,
        position=number,
        item_id=f"i{number}",
        is_catch=catch,
        k_seen=0,
        payload={"phase": phase, "options": list(options), **payload},
        answer={"expected": expected} if expected else {},
    )


def answer(number, response, **more):
    return Timed(seq=number + 1, trial_id=f"t{number}", attempt=1, response=response, **{"rt_ms": 800.0, **more})


def look(trials, answers, course=None, **more):
    options = {"attempts": 3, "too_fast_ms": 200.0, **more}
    return observe(trials, answers, course or Course(total_seconds=100.0), **options)


def choices(responses, **more):
    """Observe someone who gave these responses in this order, one a trial."""
    trials = [trial(number, **more) for number in range(len(responses))]
    return look(trials, [answer(number, given) for number, given in enumerate(responses)])


def test_there_is_one_rule_for_every_field_of_the_study_file_and_one_value_for_every_rule():
    assert set(RULES) == set(Rules.model_fields)
    names = {one.name for one in fields(Observed)}
    assert {rule.looks_at for rule in RULES.values()} == names - {"test_accuracy"}


LIMITS = {
    "catch_accuracy": (0.8, 0.79),
    "practice_attempts": (2, 3),
    "quiz_attempts": (2, 3),
    "min_instruction_seconds": (15.0, 14.9),
    "min_total_seconds": (90.0, 89.0),
    "max_total_seconds": (900.0, 901.0),
    "min_median_rt_ms": (250.0, 249.0),
    "max_too_fast_share": (0.1, 0.11),
    "min_choices_per_side": (5, 4),
    "max_same_side_share": (0.9, 0.91),
    "max_same_side_run": (8, 9),
    "max_gap_seconds": (60.0, 60.5),
    "max_focus_losses": (3, 4),
    "no_touch": (True, 1),
    "no_honeypot": (True, 1),
}
"""Rule -> threshold, and the first value beyond it."""


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("severity", ["exclude", "flag"])
def test_a_rule_holds_up_to_its_threshold_and_not_beyond(name, severity):
    threshold, beyond = LIMITS[name]
    rules = {name: threshold}
    checks = Checks(**rules) if severity == "exclude" else Checks(flag=Rules(**rules))
    at = 0 if threshold is True else threshold
    looks_at = RULES[name].looks_at
    for value, passes in ((at, True), (beyond, False)):
        [verdict] = judge(checks, replace(WELL, **{looks_at: value}))
        assert (verdict.name, verdict.value, verdict.passed, verdict.severity) == (name, value, passes, severity)
        assert failed([verdict]) == ([name] if not passes and severity == "exclude" else [])
        assert flagged([verdict]) == ([name] if not passes and severity == "flag" else [])


@pytest.mark.parametrize("name", RULES)
def test_what_the_study_cannot_show_passes_and_what_lacks_fails(name):
    checks = Checks(**{name: LIMITS[name][0]})
    looks_at = RULES[name].looks_at
    assert failed(judge(checks, replace(WELL, **{looks_at: None}))) == []
    assert failed(judge(checks, replace(WELL, **{looks_at: math.nan}))) == [name]


def test_a_rule_that_is_not_declared_says_nothing():
    awful = Observed(**{one.name: math.nan for one in fields(Observed)})
    assert judge(Checks(), awful) == []
    assert judge(Checks(no_touch=False), replace(WELL, touch_answers=9)) == []


def test_the_same_rule_may_exclude_and_mark_at_two_thresholds():
    checks = Checks(min_median_rt_ms=300, flag=Rules(min_median_rt_ms=1000))
    verdicts = judge(checks, WELL)
    assert [one.key for one in verdicts] == ["min_median_rt_ms", "flag:min_median_rt_ms"]
    assert (failed(verdicts), flagged(verdicts)) == ([], ["min_median_rt_ms"])


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("consent", "no_honeypot"),
        ("instructions", "min_instruction_seconds"),
        ("quiz", "quiz_attempts"),
        ("practice", "practice_attempts"),
    ],
)
def test_some_rules_can_be_judged_before_the_end(stage, name):
    checks = Checks(**{rule: limit for rule, (limit, _) in LIMITS.items()})
    assert [one.name for one in judge(checks, WELL, stages={stage})] == [name]


@pytest.mark.parametrize(
    ("given", "share", "run", "least"),
    [
        ([LEFT] * 6, 1.0, 6, 0),
        ([LEFT, RIGHT] * 3, 0.5, 1, 3),
        ([LEFT, LEFT, RIGHT, RIGHT, RIGHT, LEFT], 0.5, 3, 3),
        ([RIGHT, RIGHT, RIGHT, LEFT], 0.75, 3, 1),
    ],
)
def test_sides_runs_and_variety_are_of_positions(given, share, run, least):
    seen = choices(given)
    assert (seen.same_side_share, seen.same_side_run, seen.choices_per_side) == (share, run, least)


def test_a_side_is_where_an_option_stood_and_not_what_it_was():
    trials = [trial(number, options=(LEFT, RIGHT) if number % 2 else (RIGHT, LEFT)) for number in range(8)]
    same_word = look(trials, [answer(number, LEFT) for number in range(8)])
    same_place = look(trials, [answer(number, trials[number].options[0]) for number in range(8)])
    assert (same_word.same_side_share, same_word.same_side_run) == (0.5, 1)
    assert (same_place.same_side_share, same_place.same_side_run, same_place.choices_per_side) == (1.0, 8, 0)


def test_runs_follow_the_schedule_and_end_where_nothing_was_chosen():
    trials = [trial(number) for number in range(5)]
    given = [answer(number, response) for number, response in enumerate([LEFT, LEFT, "na", LEFT, LEFT])]
    assert look(trials, given).same_side_run == 2
    assert look(trials, given[::-1]).same_side_run == 2


def test_trials_with_more_options_have_a_variety_of_their_own_and_scales_have_none():
    two = [trial(number) for number in range(4)]
    four = [trial(number, options=tuple("abcd")) for number in range(4, 8)]
    scale = [trial(8, options=tuple("12345"), expected="", layout="scale", trial_type="choice")]
    given = [answer(n, r) for n, r in enumerate([LEFT, RIGHT, LEFT, RIGHT, "a", "b", "c", "d", "5"])]
    assert look(two + four + scale, given).choices_per_side == 1
    assert look(two + scale, [*given[:4], given[8]]).choices_per_side == 2
    assert look(scale, given[8:]).choices_per_side is None


def test_a_study_without_choices_has_no_sides():
    round_of_reveal = trial(0, options=(), expected="", trial_type="reveal")
    seen = look([round_of_reveal], [answer(0, "won")])
    assert (seen.same_side_share, seen.same_side_run, seen.choices_per_side, seen.too_fast_share) == (None,) * 4


def test_too_fast_is_below_the_studys_own_limit_where_a_time_was_told():
    trials = [trial(number) for number in range(4)]
    given = [answer(n, LEFT, rt_ms=rt) for n, rt in enumerate([100.0, 200.0, 300.0, math.nan])]
    assert look(trials, given).too_fast_share == pytest.approx(1 / 3)
    assert look(trials, given, too_fast_ms=301.0).too_fast_share == 1.0
    assert math.isnan(look(trials, given[3:]).too_fast_share)


@pytest.mark.parametrize(
    ("said", "least"),
    [
        ([(1, 0, LEFT)], 1),
        ([(1, 0, RIGHT)], 2),
        ([(1, 0, RIGHT), (1, 1, LEFT)], 2),
        ([(1, 0, RIGHT), (1, 1, LEFT), (2, 0, LEFT)], 2),
        ([(1, 0, RIGHT), (1, 1, LEFT), (2, 0, RIGHT)], 3),
        ([(1, 0, LEFT), (1, 1, LEFT)], 1),
    ],
)
def test_practice_takes_at_least_one_attempt_more_as_soon_as_something_is_wrong(said, least):
    """The limit is 2 attempts: with the first wrong answer of the second, failing is certain before it is over."""
    trials = [trial(number, phase="practice") for number in range(2)]
    given = [replace(answer(number, response), attempt=attempt) for attempt, number, response in said]
    seen = look(trials, given, attempts=2)
    assert seen.practice_attempts == least
    verdicts = certain(Checks(practice_attempts=2, flag=Rules(practice_attempts=1)), seen)
    assert (failed(verdicts), flagged(verdicts)) == (
        ["practice_attempts"] if least > 2 else [],
        ["practice_attempts"] if least > 1 else [],
    )


def test_what_can_still_be_mended_or_is_not_known_yet_is_not_certain():
    checks = Checks(catch_accuracy=0.9, min_median_rt_ms=500, max_too_fast_share=0.1, max_total_seconds=900)
    early = replace(WELL, catch_accuracy=0.0, median_rt_ms=100.0, too_fast_share=1.0, total_seconds=math.nan)
    assert certain(checks, early) == []
    assert [one.name for one in certain(checks, replace(early, total_seconds=901.0))] == ["max_total_seconds"]


def test_focus_losses_and_touch_count_over_all_phases():
    trials = [trial(0, phase="train", expected=""), trial(1, phase="practice"), trial(2)]
    given = [answer(n, LEFT, focus_lost=n, input="touch" if n else "key") for n in range(3)]
    seen = look(trials, given)
    assert (seen.focus_losses, seen.touch_answers) == (3, 2)


CATCH = [
    ("predict", {}, LEFT, LEFT, "", 1.0),
    ("predict", {}, LEFT, RIGHT, "", 0.0),
    ("forced_choice", {"confidence": {"levels": 3}}, LEFT, LEFT, "", 1.0),
    ("choice", {"options": tuple("abc")}, "b", "b", "", 1.0),
    ("choice", {"options": tuple("abc")}, "b", "na", "", 0.0),
    ("choice", {"options": ()}, "7", "", "7", 1.0),
    ("choice", {"options": ()}, "7", "", " 7.0 ", 1.0),
    ("choice", {"options": ()}, "7", "", "8", 0.0),
    ("choice", {"options": ()}, "wolf", "", "wolf", 1.0),
    ("choice", {"options": ()}, "wolf", "", "", 0.0),
    ("reveal", {"options": ()}, "won", "won", "", 1.0),
    ("reveal", {"options": ()}, "won", "timeout", "", 0.0),
]


@pytest.mark.parametrize(("trial_type", "more", "expected", "response", "text", "right"), CATCH)
def test_a_catch_trial_of_every_type_is_right_or_wrong(trial_type, more, expected, response, text, right):
    one = trial(0, trial_type=trial_type, expected=expected, catch=True, **more)
    assert correctness(one, response, text) == right
    assert look([one], [answer(0, response, text=text)]).catch_accuracy == right


def test_a_catch_trial_that_asks_nothing_counts_for_nothing():
    silent = trial(0, options=(), expected="", catch=True, trial_type="reveal")
    assert look([silent], [answer(0, "won")]).catch_accuracy is None
    assert math.isnan(correctness(silent, "won"))


def test_catch_accuracy_lacks_where_none_was_answered():
    assert math.isnan(look([trial(0, catch=True)], []).catch_accuracy)


SIDES = st.lists(st.sampled_from([LEFT, RIGHT, "na"]), max_size=40)


def slow_run(given):
    """The longest run, counted the long way."""
    best = current = 0
    for before, now in zip([None, *given], given, strict=False):
        current = 0 if now == "na" else current + 1 if now == before else 1
        best = max(best, current)
    return best


@settings(max_examples=150, deadline=None, derandomize=True)
@given(given=SIDES)
def test_sides_agree_with_a_slow_count(given):
    seen = choices(given)
    chosen = [one for one in given if one != "na"]
    if not given:
        assert (seen.same_side_run, seen.choices_per_side, seen.same_side_share) == (None, None, None)
        return
    assert seen.same_side_run == slow_run(given)
    assert seen.choices_per_side == min(chosen.count(LEFT), chosen.count(RIGHT))
    if chosen:
        assert seen.same_side_share == max(chosen.count(LEFT), chosen.count(RIGHT)) / len(chosen)
    else:
        assert math.isnan(seen.same_side_share)


NUMBER = st.floats(0, 1000, allow_nan=False)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=NUMBER, strict=NUMBER, loose=NUMBER, name=st.sampled_from(["min_median_rt_ms", "max_gap_seconds"]))
def test_a_looser_threshold_never_excludes_whom_a_stricter_one_keeps(value, strict, loose, name):
    upward = RULES[name].way == "at least"
    strict, loose = (max(strict, loose), min(strict, loose)) if upward else (min(strict, loose), max(strict, loose))
    seen = replace(WELL, **{RULES[name].looks_at: value})
    kept = not failed(judge(Checks(**{name: strict or 1e-9}), seen))
    assert not (kept and failed(judge(Checks(**{name: loose or 1e-9}), seen)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(names=st.sets(st.sampled_from(sorted(RULES))), flags=st.sets(st.sampled_from(sorted(RULES))))
def test_verdicts_are_those_declared_each_once_in_a_fixed_order(names, flags):
    checks = Checks(**{n: LIMITS[n][0] for n in names}, flag=Rules(**{n: LIMITS[n][0] for n in flags}))
    keys = [one.key for one in judge(checks, WELL)]
    assert keys == [n for n in RULES if n in names] + [f"flag:{n}" for n in RULES if n in flags]
    assert len(keys) == len(set(keys))


class Event:
    """Only what the course of a session reads of an event."""

    def __init__(self, seq, client_time, kind="focus", body="{}", fault=""):
        self.seq, self.client_time, self.kind, self.body, self.fault = seq, client_time, kind, body, fault


def test_a_pause_is_the_longest_step_of_the_browsers_clock():
    rows = [Event(1, 0.0), Event(3, 61_000.0), Event(2, 1_000.0), Event(4, 62_000.0)]
    assert longest_gap_seconds(rows, 100.0) == 60.0


def test_a_clock_that_is_set_makes_no_pause_longer_than_the_session():
    assert longest_gap_seconds([Event(1, 9e12), Event(2, 1e3), Event(3, 9e12)], 100.0) == 100.0
    assert longest_gap_seconds([Event(1, 9e12), Event(2, 1e3)], 100.0) == 0.0
    assert longest_gap_seconds([], math.nan) == 0.0


def test_time_on_the_instructions_is_the_sum_of_all_readings():
    def read(given, **more):
        return Event(1, 0.0, kind="instructions", body=json.dumps(given), **more)

    assert instruction_seconds([read({"viewed_ms": 8000}), read({"viewed_ms": 500.0})]) == 8.5
    assert math.isnan(instruction_seconds([]))
    for odd in ({}, {"viewed_ms": "long"}, {"viewed_ms": -1}, {"viewed_ms": True}, []):
        assert math.isnan(instruction_seconds([read(odd)]))
    assert math.isnan(instruction_seconds([read({"viewed_ms": 9000}, fault="out of place")]))


ALL = {
    "catch_accuracy": 1.0,
    "practice_attempts": 1,
    "min_instruction_seconds": 15,
    "max_focus_losses": 2,
    "max_same_side_run": 8,
    "flag": {"min_median_rt_ms": 900, "no_touch": True},
}


def held(running, person):
    with running.database.read() as connection:
        query = select(check_values).filter_by(session=person.session)
        return {one.name: one for one in connection.execute(query)}


def excluded(running, person):
    with running.database.read() as connection:
        return bool(connection.execute(select(sessions.c.excluded).filter_by(session=person.session)).scalar_one())


def test_values_thresholds_and_verdicts_are_stored_and_flags_exclude_nobody(launch, build):
    running = launch(build(checks=ALL))
    person = running.person("one")
    person.consent()
    person.say("instructions", {"viewed_ms": 20_000.0})
    person.take(input="touch").complete()
    kept = held(running, person)
    assert set(kept) == {*(set(ALL) - {"flag"}), "flag:min_median_rt_ms", "flag:no_touch"}
    assert (kept["min_instruction_seconds"].value, kept["min_instruction_seconds"].threshold) == (20.0, 15.0)
    assert (kept["flag:min_median_rt_ms"].passed, kept["flag:no_touch"].passed) == (False, False)
    assert not excluded(running, person)


@pytest.mark.parametrize(("filled", "reading"), [(True, True), (True, False), (False, True)])
def test_whoever_fills_in_the_field_that_nobody_sees_fails_where_the_study_reads_it(launch, build, filled, reading):
    running = launch(build(checks={"no_honeypot": True} if reading else {}))
    person = running.person("script")
    person.say("consent", {"accepted": True, "honeypot": filled})
    assert person.take().complete().json["code"]
    assert excluded(running, person) is (filled and reading)
    with running.database.read() as connection:
        [row] = people(connection, running.study, sources=("live",), stale_s=3600.0)
    assert row.session.honeypots == int(filled)


def test_whoever_skips_the_instructions_is_excluded_and_still_gets_the_code(launch, build):
    running = launch(build(checks=ALL))
    person = running.person("hasty").take()
    assert person.complete().json["code"]
    assert held(running, person)["min_instruction_seconds"].value is None
    assert excluded(running, person)


def crowd(running, count=4):
    taken = []
    for number in range(count):
        person = running.person(f"person {number}")
        person.consent()
        person.say("instructions", {"viewed_ms": 5_000.0 * (number + 1)})
        person.take(rt_ms=150.0 + 300.0 * number, focus_lost=number % 2).complete()
        taken.append(person)
    return taken


def test_live_export_and_recheck_come_to_the_same(launch, build):
    running = launch(build(checks=ALL, quota=40))
    taken = crowd(running)
    with running.database.read() as connection:
        again = {one.session: one for one in recheck(connection, running.study)}
        for person in taken:
            row = connection.execute(select(sessions).filter_by(session=person.session)).one()
            trials, rows = schedule_of(connection, running.study, row.session), held_events(connection, row.session)
            assert again[person.session].observed == observed(row, running.study, trials, rows)
            stored = {name: bool(one.passed) for name, one in held(running, person).items()}
            assert {one.key: one.passed for one in again[person.session].verdicts} == stored
            assert bool(again[person.session].failed) == excluded(running, person)


def test_an_exported_table_of_people_can_be_judged_again(launch, build):
    running = launch(build(checks=ALL, quota=40))
    crowd(running)
    with running.database.read() as connection:
        rows = [vars(one.session) for one in people(connection, running.study, sources=("live",), stale_s=3600.0)]
        for checks in (Checks(**ALL), Checks(min_median_rt_ms=500, quiz_attempts=1), Checks(max_focus_losses=1)):
            again = recheck(connection, running.study, checks)
            verdicts = [judge(checks, one) for one in from_export(rows)]
            assert [failed(one) for one in verdicts] == [one.failed for one in again]
            assert [flagged(one) for one in verdicts] == [one.flagged for one in again]


def test_other_thresholds_are_one_call_and_change_nothing_that_is_stored(launch, build):
    running = launch(build(checks=ALL, quota=40))
    taken = crowd(running)
    before = {person.session: {name: tuple(one) for name, one in held(running, person).items()} for person in taken}
    with running.database.read() as connection:
        loose = recheck(connection, running.study, Checks())
        strict = recheck(connection, running.study, Checks(min_median_rt_ms=500))
        hurried = recheck(connection, running.study, Checks(too_fast_ms=500, max_too_fast_share=0.0))
    assert [one.failed for one in loose] == [[]] * 4
    assert [bool(one.failed) for one in strict] == [True, True, False, False]
    assert [one.failed for one in hurried] == [["max_too_fast_share"], ["max_too_fast_share"], [], []]
    assert before == {
        person.session: {name: tuple(one) for name, one in held(running, person).items()} for person in taken
    }
    assert [one.session for one in loose] == [person.session for person in taken]


def test_option_positions_are_of_displayed_options():
    one = trial(0, options=("x", "y", "z"))
    assert [option_position(one, given) for given in ("x", "z", "na", "")] == [0, 2, None, None]

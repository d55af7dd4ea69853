"""Assignment: least-filled by condition, then by list; only people who count are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from psychophysics_server.sessions.assign import choose, counts
from psychophysics_server.storage.tables import participants, sessions
from stimuli.records import CellRow


class Cells:
    """Only what `choose` reads of a study."""

    def __init__(self, conditions, lists, quota):
        self.cells = tuple(
            CellRow(cell=f"c{c}-{n}", condition=f"c{c}", list=n, quota=quota)
            for c in range(conditions)
            for n in range(lists)
        )


def totals(study, filled):
    table = {}
    for cell in study.cells:
        table[cell.condition] = table.get(cell.condition, 0) + filled[cell.cell]
    return table


def filled_of(running, source="live", stale_s=3600.0, now=None):
    import time

    with running.database.read() as connection:
        return counts(connection, running.study, source, now=now or time.time(), stale_s=stale_s)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(conditions=st.integers(2, 5), lists=st.integers(1, 4), people=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_newcomers_fill_conditions_and_lists_evenly(conditions, lists, people, seed):
    study = Cells(conditions, lists, quota=10_000)
    filled = {cell.cell: 0 for cell in study.cells}
    for number in range(people):
        filled[choose(study, filled, seed=seed + number, quotas=True).cell] += 1
        by_condition = totals(study, filled)
        assert max(by_condition.values()) - min(by_condition.values()) <= 1
        for condition in by_condition:
            held = [filled[cell.cell] for cell in study.cells if cell.condition == condition]
            assert max(held) - min(held) <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    gaps=st.lists(st.integers(0, 5), min_size=6, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_newcomers_close_the_gaps_that_leavers_made(gaps, seed):
    study = Cells(3, 2, quota=10_000)
    filled = {cell.cell: 5 - gap for cell, gap in zip(study.cells, gaps, strict=True)}
    for number in range(sum(gaps) * 3 + 12):
        filled[choose(study, filled, seed=seed + number, quotas=True).cell] += 1
    by_condition = totals(study, filled)
    assert max(by_condition.values()) - min(by_condition.values()) <= 1


def test_a_full_cell_is_closed_and_when_all_are_full_there_is_no_place():
    study = Cells(2, 1, quota=2)
    assert choose(study, {"c0-0": 2, "c1-0": 1}, seed=0, quotas=True).cell == "c1-0"
    assert choose(study, {"c0-0": 2, "c1-0": 2}, seed=0, quotas=True) is None
    assert choose(study, {"c0-0": 2, "c1-0": 2}, seed=0, quotas=False) is not None


def test_ties_are_broken_by_the_seed_alone():
    study = Cells(4, 3, quota=9)
    empty = {cell.cell: 0 for cell in study.cells}
    drawn = [choose(study, empty, seed=seed, quotas=True).cell for seed in range(200)]
    assert drawn == [choose(study, empty, seed=seed, quotas=True).cell for seed in range(200)]
    assert set(drawn) == set(empty)


def test_people_who_come_at_the_same_moment_are_balanced(launch, build):
    running = launch(build(quota=1000))
    with ThreadPoolExecutor(16) as pool:
        opened = list(pool.map(lambda number: running.person(f"person {number}").opened.status_code, range(42)))
    assert set(opened) == {201}
    filled = filled_of(running)
    assert sum(filled.values()) == 42
    by_condition = totals(running.study, filled)
    assert max(by_condition.values()) - min(by_condition.values()) <= 1
    for condition in by_condition:
        held = [filled[cell.cell] for cell in running.study.cells if cell.condition == condition]
        assert max(held) - min(held) <= 1


def test_one_person_who_opens_many_windows_at_once_has_one_session(running):
    with ThreadPoolExecutor(16) as pool:
        opened = list(pool.map(lambda _: running.person("the same").session, range(24)))
    assert len(set(opened)) == 1
    with running.database.read() as connection:
        assert len(connection.execute(select(participants)).all()) == 1
        assert len(connection.execute(select(sessions)).all()) == 1


def test_the_quota_is_never_passed_and_the_next_is_told_so(running):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda number: running.person(f"p{number}").opened, range(12)))
    assert sorted(answer.status_code for answer in opened) == [201] * 8 + [403] * 4
    assert {answer.json["error"] for answer in opened if answer.status_code == 403} == {"full"}
    assert set(filled_of(running).values()) == {2}


def test_previews_and_bots_never_move_the_balance_of_people(launch):
    running = launch(preview_key="a-long-random-key")
    for number in range(5):
        running.person(f"bot {number}", source="bot")
        running.person(f"look {number}", preview="a-long-random-key", cell="baseline-0")
    assert set(filled_of(running).values()) == {0}
    running.person("a person")
    assert sum(filled_of(running).values()) == 1
    assert sum(filled_of(running, "bot").values()) == 5
    assert sum(filled_of(running, "preview").values()) == 5


def test_pilots_are_apart_from_live_people(launch):
    piloted = launch(pilot=True)
    piloted.person("x")
    assert (sum(filled_of(piloted, "pilot").values()), sum(filled_of(piloted).values())) == (1, 0)


def test_a_silent_person_holds_no_place_and_may_still_finish(running):
    person = running.person("slow")
    running.database.write(lambda connection: connection.execute(update(sessions).values(last_seen=1.0)).rowcount)
    assert sum(filled_of(running).values()) == 0
    assert person.take().complete().status_code == 200
    assert sum(filled_of(running).values()) == 1


def test_an_excluded_and_a_withdrawn_person_leave_their_places(running):
    catch = tuple(t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch)
    careless, leaves = running.person("careless"), running.person("leaves")
    assert sum(filled_of(running).values()) == 2
    careless.take(wrong=catch).complete()
    assert sum(filled_of(running).values()) == 1
    leaves.call("POST", "/api/withdraw", json={})
    assert sum(filled_of(running).values()) == 0


def test_the_stored_schedule_is_the_frozen_cell_in_order(running):
    import json

    from psychophysics_server.storage.tables import schedules

    person = running.person()
    with running.database.read() as connection:
        stored = connection.execute(select(schedules).filter_by(session=person.session)).one()
    frozen = [trial.trial_id for trial in running.study.trials[stored.cell]]
    assert json.loads(stored.trial_ids) == frozen
    assert [trial["trial_id"] for trial in person.trials()] == frozen

"""What went wrong for others, each as a test: the stories of lost data, doubled people and codes without answers."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import func, select

import test_browser as browser
from psychophysics_server.export.folder import export
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.tables import codes, events, metadata, participants, sessions

TESTS = Path(__file__).parents[1]


Error = pytest.importorskip("playwright.sync_api").Error
site, arrive = browser.site, browser.arrive

ELSEWHERE = {
    "60 valid codes, 11 data sets": "server/test_privacy_security.py::test_a_nearly_full_disk_stops_newcomers_while_others_finish",
    "the whole study is saved only at the end": "server/test_faults.py::test_everything_goes_wrong_and_every_acknowledged_event_is_held_once",
    "resume wanted for years": "server/test_protocol.py::test_a_reload_in_the_middle_goes_on_where_it_was",
    "the counter counts debug runs": "server/test_assignment.py::test_previews_and_bots_never_move_the_balance_of_people",
    "the counter counts unusable people": "server/test_assignment.py::test_an_excluded_and_a_withdrawn_person_leave_their_places",
    "the counter counts the silent": "server/test_assignment.py::test_a_silent_person_holds_no_place_and_may_still_finish",
    "24 against 16 per cell after drop-outs": "server/test_assignment.py::test_newcomers_close_the_gaps_that_leavers_made",
    "an id arrived as 'undefined'": "server/test_privacy_security.py::test_an_entry_link_that_names_nobody_is_refused",
    "two open sessions both pass": "server/test_assignment.py::test_one_person_who_opens_many_windows_at_once_has_one_session",
    "a ban by an unauthenticated GET": "server/test_privacy_security.py::test_nothing_changes_by_get",
    "the URL's id became a file name": "server/test_privacy_security.py::test_a_hostile_id_is_only_a_text",
    "a default secret key was shipped": "server/test_privacy_security.py::test_an_example_secret_is_refused_outside_development",
    "addresses were stored": "server/test_privacy_security.py::test_no_address_of_a_person_is_stored",
    "a public export held recruiters' ids": "server/test_export.py::test_an_export_that_would_give_someone_away_is_not_written",
    "a generator dropped 4 of 84 units": "stimuli/test_balance.py::test_every_list_uses_every_item_once",
    "no convergence, p printed anyway": "analysis/test_mixed_results.py::test_no_number_comes_from_a_fit_that_failed",
}
"""Stories whose test stands with its subject."""


def count(running, table):
    with running.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def rows(running, table):
    with running.database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table))]


def sound(running):
    return verify(running.database, running.app.extensions["limen"].library).faults == []


@pytest.mark.parametrize("story", sorted(ELSEWHERE))
def test_a_story_told_elsewhere_has_its_test(story):
    file, name = ELSEWHERE[story].split("::")
    assert f"def {name}(" in (TESTS / file).read_text()


def test_the_disk_fills_while_people_answer_and_no_code_is_shown(running):
    """No space on the disk: no acknowledgement, no code; when there is space again, all goes on and nothing is corrupt."""
    if running.database.url.get_backend_name() != "sqlite":
        pytest.skip("the size of a data base is limited by a pragma of SQLite")

    def limit(pages):
        def job(connection):
            held = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {held + pages}")

        running.database.write(job)

    person = running.person()
    person.take(stop_before=person.trials()[-1]["trial_id"])
    limit(2)
    refused = None
    for _ in range(200):
        event = person.event("focus", {"what": "blur", "note": "x" * 3000})
        answer = person.post(event)
        if answer.status_code == 503:
            refused = event
            break
        assert answer.json["acknowledged"] == [event["seq"]]
    assert refused is not None
    last = person.trials()[-1]
    full = person.answer(last, person.key()[last["trial_id"]], note="x" * 3000)
    assert (full.status_code, full.json["error"]) == (503, "busy")
    assert person.complete().status_code in {409, 503}
    assert count(running, codes) == 0
    assert running.app.test_client().get("/readyz").status_code in {200, 503}
    limit(10_000)
    assert person.post(refused, person.sent[-1]).status_code == 200
    assert person.complete().status_code == 200
    assert sound(running)
    assert count(running, events) == len(person.sent)


def test_nobody_is_sent_back_to_the_recruiter_before_the_last_answer_arrived(running):
    person = running.person()
    last = person.trials()[-1]
    person.take(stop_before=last["trial_id"])
    text = json.dumps({"trial_id": last["trial_id"], "response": person.key()[last["trial_id"]]})
    delayed = person.event("trial", text)
    early = person.complete()
    assert (early.status_code, early.json["missing"]) == (409, [delayed["seq"]])
    assert "code" not in early.json
    assert person.get().json["code"] is None
    person.post(delayed)
    assert person.complete().json["code"]


def test_a_reload_at_every_trial_only_adds_rows(running):
    """Nothing that is held is ever written over, whatever is opened again how often."""
    person = running.person()
    person.consent()
    seen = []
    for trial in person.trials():
        again = running.person()
        again.answer(trial, again.key()[trial["trial_id"]])
        held = [(row["seq"], row["body"], row["server_time"]) for row in rows(running, events)]
        assert held[: len(seen)] == seen
        assert len(held) == len(seen) + 1 + (not seen)
        seen = held
    assert running.person().complete().status_code == 200
    assert count(running, sessions) == 1


def test_a_person_who_vanishes_leaves_every_answer_that_was_given(launch):
    running = launch()
    person = running.person()
    person.take(stop_before=person.trials()[6]["trial_id"])
    running.app.extensions["limen"].close()
    again = launch()
    assert count(again, events) == len(person.sent) == 7
    back = again.person()
    assert back.session == person.session
    assert back.take().complete().status_code == 200


def test_another_tab_cleared_storage_and_another_browser_are_one_session(running):
    client = running.app.test_client()
    body = {"study": "tiny-study", "parameters": {"PROLIFIC_PID": "5f0000000000000000000009"}}
    opened = [client.post("/api/sessions", json=body | {"client_id": f"browser-{n}"}).json for n in range(4)]
    assert len({answer["session"] for answer in opened}) == 1
    assert [answer["resumed"] for answer in opened] == [False, True, True, True]
    assert count(running, participants) == 1


def test_the_same_request_sent_many_times_at_once_is_one_row(running):
    person = running.person()
    event = person.event("consent", {"accepted": True})
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: person.post(event), range(32)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json["acknowledged"] == [1] for answer in answers)
    assert count(running, events) == 1


@pytest.mark.parametrize(("path", "table"), [("/api/complete", codes), ("/api/manual", codes), ("/api/withdraw", None)])
def test_a_button_pressed_twice_does_its_thing_once(running, path, table):
    person = running.person().take()
    body = {"last_seq": person.next_seq - 1, "chain": person.chain} if path == "/api/complete" else {"reason": "twice"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: person.call("POST", path, json=body), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({json.dumps(answer.json, sort_keys=True) for answer in answers}) == 1
    if table is not None:
        assert count(running, table) == 1
    assert sound(running)


def test_begin_pressed_twice_makes_one_person(running):
    with ThreadPoolExecutor(8) as pool:
        people = list(pool.map(lambda _: running.person("5f0000000000000000000007"), range(8)))
    assert len({person.session for person in people}) == 1
    assert count(running, sessions) == count(running, participants) == 1


def test_someone_excluded_in_an_earlier_study_is_refused_at_the_door(launch, build):
    name = "5f0000000000000000000003"
    earlier = launch()
    assert earlier.person(name).take().complete().status_code == 200
    earlier.app.extensions["limen"].close()
    later = launch(build(study="later-study", recruitment={"source": "mock", "exclude": ["tiny-study"]}))
    before = count(later, sessions)
    assert later.person(name).opened.status_code == 403
    assert count(later, sessions) == before
    assert later.person("5f0000000000000000000004").opened.status_code == 201


def test_the_end_works_after_many_reloads(running):
    person = running.person().take()
    for _ in range(30):
        person = running.person()
        person.say("resume", {"reason": "reload"})
    assert person.complete().status_code == 200


def test_thirty_people_may_start_at_the_same_moment(launch, build):
    running = launch(build(quota=16))
    with ThreadPoolExecutor(30) as pool:
        people = list(pool.map(lambda n: running.person(f"5f000000000000000000{n:04d}"), range(30)))
        taken = list(pool.map(lambda person: person.take().complete().status_code, people))
    assert taken == [200] * 30
    held = [row["condition"] for row in rows(running, sessions)]
    assert max(map(held.count, set(held))) - min(map(held.count, set(held))) <= 1
    assert sound(running)


def test_every_stored_row_has_all_its_envelope_fields(running, tmp_path):
    person = running.person().take()
    person.complete()
    wanted = {"session", "seq", "kind", "body", "body_hash", "client_time", "server_time"}
    for row in rows(running, events):
        assert all(row[name] not in (None, "") for name in wanted)
        assert row["client_time"] > 0 < row["server_time"]
    done = export(running.database, running.study, tmp_path / "export", sources=("live",), stale_s=1e6)
    frame = pd.concat(
        [pd.read_csv(path) for path in sorted(done.folder.glob("data/*_data.csv")) if "description" not in path.name]
    )
    envelope = ["row_id", "study", "study_version", "stimuli", "source", "participant_id", "cell", "condition", "seq"]
    envelope += ["position", "block", "session", "phase", "trial_type", "trial_id", "item_id", "is_catch", "attempt"]
    assert len(frame) == len(person.trials())
    assert frame[envelope].notna().all().all()
    assert frame["row_id"].is_unique


def test_two_people_at_one_picture_are_two_rows(launch, build, tmp_path):
    """One blob a picture once kept the last player alone."""
    running = launch(build(conditions=["baseline", "grad_cam"], quota=4))
    people = [running.person(f"5f00000000000000000000{n:02d}").take() for n in range(8)]
    for person in people:
        person.complete()
    by_trial = {}
    for row in rows(running, events):
        if row["trial_id"]:
            by_trial.setdefault(row["trial_id"], []).append(row["session"])
    cells = {row["session"]: row["cell"] for row in rows(running, sessions)}
    for trial, held in by_trial.items():
        (cell,) = {cells[session] for session in held}
        assert len(held) == len(set(held)) == 2, f"trial {trial} of cell {cell}"


@pytest.mark.parametrize(
    "given", ["../../x", "a/../../b", "..\\..\\x", "C:\\x", "~root", "$(id)", "`id`", "a;b|c", "%s%n", "=1+1"]
)
def test_a_hostile_id_makes_no_file_and_no_difference(launch, tmp_path, given):
    running = launch()
    before = {path.name for path in tmp_path.rglob("*")}
    person = running.person(given)
    assert person.opened.status_code == 201
    assert person.take().complete().status_code == 200
    assert {path.name for path in tmp_path.rglob("*")} - before <= {"responses.sqlite-wal", "responses.sqlite-shm"}
    elsewhere = [rows(running, table) for table in metadata.sorted_tables if table.name != "participants"]
    assert given not in json.dumps(elsewhere, default=str)


def test_every_trial_of_every_cell_is_answered_exactly_as_often_as_planned(launch, build):
    running = launch(build(quota=4))
    for n in range(8):
        assert running.person(f"5f00000000000000000000{n:02d}").take().complete().status_code == 200
    asked = [row["trial_id"] for row in rows(running, events) if row["trial_id"]]
    planned = list(
        itertools.chain.from_iterable([t.trial_id for t in trials] * 2 for trials in running.study.trials.values())
    )
    assert sorted(asked) == sorted(planned)


def walk(visitor, *, screens):
    """Go on as far as one can; return what is on the screen then."""
    page = visitor.page
    for _ in range(screens):
        if page.locator("[data-page=saving], [data-page=code]").count():
            break
        try:
            visitor.go_on()
        except (TimeoutError, Error, IndexError, KeyError):
            break
    return page.inner_text("body")


def no_code_stands_for_missing_data(site, shown):
    assert not [row for row in site.rows(sessions) if row.state == "COMPLETE"]
    assert not [row for row in site.rows(codes) if row.kind != "manual"]
    assert "LIMEN-" not in shown


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.parametrize("blocked", ["**/static/dist/*.js", "**/api/sessions", "**/api/session", "**/stimuli/*"])
def test_whatever_is_blocked_no_code_is_shown(arrive, site, blocked):
    """An ad blocker once led to a demo mode that handed a real code out."""
    visitor = arrive()
    visitor.page.set_default_timeout(3_000)
    visitor.page.route(blocked, lambda route: route.abort())
    visitor.come()
    no_code_stands_for_missing_data(site, walk(visitor, screens=5))


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.parametrize("blocked", ["**/api/events", "**/api/complete"])
def test_a_whole_study_whose_saves_are_blocked_ends_without_a_code(arrive, site, blocked):
    visitor = arrive()
    visitor.page.set_default_timeout(5_000)
    visitor.page.route(blocked, lambda route: route.abort())
    visitor.come()
    no_code_stands_for_missing_data(site, walk(visitor, screens=120))


@pytest.mark.long
@pytest.mark.browser
def test_a_picture_that_arrives_in_half_blocks_its_trial(arrive, site):
    """A torn connection leaves half a picture, which a browser may well draw: the trial waits, and nothing is answered."""
    visitor = arrive()
    visitor.page.set_default_timeout(3_000)

    def half(route):
        with site.app.test_client().get("/stimuli/" + route.request.url.rsplit("/", 1)[1]) as whole:
            route.fulfill(status=200, content_type="image/png", body=whole.data[: len(whole.data) // 2])

    visitor.page.route("**/stimuli/*", half)
    visitor.come()
    walk(visitor, screens=8)
    assert not [row for row in site.rows(events) if row.trial_id]
    assert visitor.page.locator(".option:enabled").count() == 0

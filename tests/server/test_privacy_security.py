"""What is kept of a person, who may read it, and what a hostile request can do (nothing)."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bench.registry import LimenError
from psychophysics_server.storage.tables import (
    codes,
    events,
    metadata,
    participants,
    schedules,
    sessions,
    tokens,
    tombstones,
)

RECRUITED = "5f3a0000000000000000abcd"


def dump(running, *, without=()):
    with running.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
            if table.name not in without
        }


def test_a_recruiters_id_is_in_one_table_alone(running):
    running.person(RECRUITED).take().complete()
    assert RECRUITED in str(dump(running)["participants"])
    assert RECRUITED not in str(dump(running, without=("participants",)))


def test_no_address_of_a_person_is_stored(running):
    running.person().take().complete()
    assert "127.0.0.1" not in str(dump(running))
    names = {column.name for table in metadata.sorted_tables for column in table.columns}
    assert not {name for name in names if "ip" in name.split("_") or "agent" in name or "address" in name}


def test_a_token_is_stored_as_its_hash_alone(running):
    person = running.person()
    assert person.token not in str(dump(running))
    assert len(dump(running)["tokens"]) == 1


def test_a_token_opens_its_own_session_alone(running):
    one, two = running.person("one"), running.person("two")
    one.consent()
    assert two.get().json["session"] == two.session != one.session
    assert two.get().json["done"]["consent"] is False


@pytest.mark.parametrize("token", ["", "x", "../../etc/passwd", "'; DROP TABLE events; --", "0" * 10_000])
def test_an_unknown_token_is_refused_everywhere(running, token):
    person = running.person()
    person.token = token
    calls = [
        ("GET", "/api/session"),
        *(("POST", f"/api/{name}") for name in ("events", "complete", "manual", "withdraw")),
    ]
    for method, path in calls:
        answer = person.call(method, path, json={})
        assert (answer.status_code, answer.json["error"]) == (401, "token")


def test_nothing_changes_by_get(running):
    client = running.app.test_client()
    for name in ("sessions", "events", "complete", "manual", "withdraw"):
        assert client.get(f"/api/{name}").status_code == 405


@pytest.mark.parametrize(
    "given", ["", "  ", "undefined", "null", "None", "{{%PROLIFIC_PID%}}", "%7B%7B", "a\nb", "\u202e\u0007"]
)
def test_an_entry_link_that_names_nobody_is_refused(running, given):
    answer = running.person(given).opened
    assert (answer.status_code, answer.json["error"]) == (400, "identity")
    assert dump(running)["sessions"] == []


@pytest.mark.parametrize(
    "given", ["../../../etc/passwd", "'; DROP TABLE sessions; --", "<script>alert(1)</script>", "Zoë 你好"]
)
def test_a_hostile_id_is_only_a_text(running, given):
    person = running.person(given)
    assert person.opened.status_code == 201
    assert person.take().complete().status_code == 200
    assert [given in row for row in dump(running)["participants"]] == [True]


def test_a_long_parameter_that_means_nothing_keeps_nobody_out(running):
    assert running.person("someone", utm_campaign="x" * 1500).opened.status_code == 201


@pytest.mark.parametrize("given", ["a\0b", "x" * 201, "x" * 10_000, "\ud800"])
def test_an_id_no_column_can_hold_is_refused(running, given):
    assert running.person(given).opened.status_code == 400


@pytest.mark.parametrize("name", ["../study.json", "..%2f..%2fstudy.json", "%00", "A" * 64, "0" * 64, "0" * 10_000])
def test_a_picture_is_found_by_a_held_hash_and_by_nothing_else(running, name):
    assert running.app.test_client().get(f"/stimuli/{name}.png").status_code == 404


def test_pictures_are_immutable_and_answer_with_not_modified(running):
    client = running.app.test_client()
    name, path = next(iter(running.study.pictures.items()))
    with client.get(f"/stimuli/{name}.png") as answer:
        assert answer.data == path.read_bytes()
    assert "immutable" in answer.headers["Cache-Control"]
    with client.get(f"/stimuli/{name}.png", headers={"If-None-Match": answer.headers["ETag"]}) as again:
        assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/study/tiny-study/", "/study/../../etc/passwd", "/api/session", "/healthz", "/nowhere"]
)
def test_every_answer_carries_the_security_headers(running, path):
    headers = running.app.test_client().get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


def test_an_unbuilt_front_end_is_a_plain_message(launch, tmp_path):
    page = launch(static=tmp_path / "nothing").app.test_client().get("/study/tiny-study/")
    assert page.status_code == 503
    assert "front-end is not built" in page.text


def test_the_page_loads_the_files_the_build_named_and_holds_no_inline_code(launch, tmp_path):
    folder = tmp_path / "static" / "dist"
    folder.mkdir(parents=True)
    for name, text in {"index-1.js": "1", "index-2.css": "2"}.items():
        (folder / name).write_text(text)
    (folder / "manifest.json").write_text('{"index.js": "index-1.js", "index.css": "index-2.css"}')
    client = launch(static=tmp_path / "static").app.test_client()
    page = client.get("/study/tiny-study/?PROLIFIC_PID=secret-person")
    assert page.status_code == 200
    assert 'src="/static/dist/index-1.js"' in page.text
    assert 'href="/static/dist/index-2.css"' in page.text
    assert 'data-study="tiny-study"' in page.text
    assert '<html lang="en">' in page.text
    assert "secret-person" not in page.text
    assert "style=" not in page.text
    assert page.text.count("<script") == 1
    with client.get("/static/dist/index-1.js") as script:
        assert "immutable" in script.headers["Cache-Control"]
    assert client.get("/static/dist/../../app.py").status_code == 404


def test_a_withdrawn_persons_answers_are_gone_and_a_tombstone_remains(running):
    person, other = running.person("leaves"), running.person("stays")
    other.consent()
    person.take()
    assert person.call("POST", "/api/withdraw", json={"reason": "changed my mind"}).json["state"] == "WITHDRAWN"
    assert person.call("POST", "/api/withdraw", json={"reason": "again"}).status_code == 200
    with running.database.read() as connection:
        for table in (events, schedules):
            assert person.session not in set(connection.execute(select(table.c.session)).scalars())
            assert other.session in {*connection.execute(select(table.c.session)).scalars()}
        stone = connection.execute(select(tombstones)).one()
    assert (stone.session, stone.reason) == (person.session, "changed my mind")
    assert stone.events_deleted == len(person.sent)


def test_a_withdrawn_person_can_neither_go_on_nor_come_back(running):
    person = running.person("leaves")
    person.call("POST", "/api/withdraw", json={})
    assert person.get().status_code == 410
    assert person.consent().status_code == 410
    assert person.complete().status_code == 410
    assert person.call("POST", "/api/manual", json={}).status_code == 410
    assert running.person("leaves").opened.status_code == 410


def test_a_preview_needs_the_key_and_shows_the_cell_it_names(launch):
    running = launch(preview_key="a-long-random-key")
    cell = running.study.cells[3].cell
    assert running.person("x", preview="wrong").opened.status_code == 403
    person = running.person("x", preview="a-long-random-key", cell=cell)
    assert {t["trial_id"] for t in person.trials()} == set(running.study.trial_index[cell])
    assert running.person("x", preview="a-long-random-key", cell="nowhere").opened.status_code == 400
    assert person.take().complete().json["code"].startswith("PREVIEW-")


def test_simulated_people_get_the_cell_they_name_and_nobody_else_does(running):
    cell = running.study.cells[3].cell
    whole = set(running.study.trial_index[cell])
    simulated = running.person("bot-0001", source="bot", cell=cell)
    assert {trial["trial_id"] for trial in simulated.trials()} == whole
    assert running.person("bot-0002", source="bot", cell="nowhere").opened.status_code == 400
    people = [running.person(f"person-{number}", cell=cell) for number in range(2)]
    assert any({trial["trial_id"] for trial in person.trials()} != whole for person in people)


def test_codes_of_bots_cannot_be_taken_for_those_of_people(running):
    person = running.person("bot-0001", source="bot")
    assert person.take().complete().json["code"].startswith("BOT-")


def test_a_study_at_prolific_shows_its_one_code_and_sends_people_back(launch, build):
    study = build(recruitment={"source": "prolific"})
    answer = launch(study, environment={"LIMEN_PROLIFIC_CODE": "C1ABCDEF"}).person(RECRUITED).take().complete().json
    assert answer["code"] == "C1ABCDEF"
    assert answer["url"] == "https://app.prolific.com/submissions/complete?cc=C1ABCDEF"


def test_an_open_link_needs_no_id_and_knows_a_browser_again(launch, build):
    running = launch(build(recruitment={"source": "link"}))
    client = running.app.test_client()
    body = {"study": "tiny-study", "client_id": "browser-1", "parameters": {}}
    first, again = client.post("/api/sessions", json=body), client.post("/api/sessions", json=body)
    other = client.post("/api/sessions", json={**body, "client_id": "browser-2"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json["session"] == again.json["session"] != other.json["session"]


@pytest.mark.parametrize("key", ["preview", "secret", "short"])
def test_an_example_secret_is_refused_outside_development(launch, key):
    with pytest.raises(LimenError, match="preview key"):
        launch(preview_key=key)


def test_an_example_secret_is_allowed_in_development(launch):
    assert launch(preview_key="preview", dev=True).person("x", preview="preview").opened.status_code == 201


def test_ready_means_a_write_went_through(running):
    client = running.app.test_client()
    assert client.get("/healthz").json == {"alive": True}
    assert client.get("/readyz").json["ready"] is True
    running.database.writer.close()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["ready"] is False
    assert client.get("/healthz").status_code == 200


def test_a_nearly_full_disk_stops_newcomers_while_others_finish(launch, tmp_path, engine_name):
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL's disk is another machine's: no server can look at it")
    early = launch().person()
    full = launch(disk_limit_mb=1e12)
    assert full.app.test_client().get("/readyz").status_code == 503
    late = full.person("late").opened
    assert (late.status_code, late.json["error"]) == (503, "disk")
    assert "Retry-After" in late.headers
    early.running = full
    assert early.take().complete().status_code == 200


def test_a_stopped_writer_means_try_again_and_nothing_acknowledged(running):
    person = running.person()
    event = person.event("consent", {"accepted": True})
    running.database.writer.close()
    answer = person.post(event)
    assert (answer.status_code, answer.json["error"]) == (503, "busy")
    assert "Retry-After" in answer.headers
    assert dump(running)["events"] == []


def test_tables_of_recruiter_ids_and_answers_share_the_random_session_id_alone():
    shared = {column.name for column in participants.columns} & {column.name for column in events.columns}
    assert shared == {"session"}
    assert {"recruiter_id"}.isdisjoint({c.name for t in (sessions, tokens, codes) for c in t.columns})

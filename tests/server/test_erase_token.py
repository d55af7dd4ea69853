"""The deletion token: given at every end, the same after a reload, stored as a hash, and what it erases."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from psychophysics_server.monitoring.verify import verify
from psychophysics_server.people.deletion import KEPT, deletion_token, stored
from psychophysics_server.storage.database import one
from psychophysics_server.storage.tables import deletions, events, schedules, sessions, tombstones


@pytest.fixture
def finished(running):
    """Return a person who is done, and their deletion token."""
    person = running.person().take()
    return person, person.complete().json["deletion_token"]


def erase(running, token, **more):
    return running.app.test_client().post("/erase", data={"token": token}, **more)


def test_the_token_comes_with_the_code_and_is_the_same_after_a_reload(finished):
    person, token = finished
    assert token.startswith("ERASE-")
    assert person.complete().json["deletion_token"] == token


def test_a_token_of_another_window_erases_as_well_and_takes_nothing_from_the_first(running, finished):
    person, token = finished
    again = running.person()
    assert again.session == person.session
    other = again.complete().json["deletion_token"]
    assert other != token
    assert erase(running, token).status_code == 200
    assert erase(running, other).status_code == 200


def test_the_data_base_holds_no_token(running, finished):
    _, token = finished
    plain = token.replace("-", "")
    with running.database.read() as connection:
        rows = connection.execute(select(deletions)).all()
    assert [row.token_hash for row in rows] == [stored(token)]
    assert plain not in str(rows)
    assert token not in str(rows)


def test_erasing_deletes_every_answer_and_leaves_a_tombstone_and_the_consent(running, finished):
    person, token = finished
    answer = erase(running, token)
    assert answer.status_code == 200
    assert "Your answers are erased" in answer.text
    with running.database.read() as connection:
        row = one(connection, sessions, session=person.session)
        for table in (events, schedules):
            assert connection.execute(select(table).filter_by(session=person.session)).all() == []
        stone = one(connection, tombstones, session=person.session)
    assert (row.state, row.reason, row.consented_at is None) == ("WITHDRAWN", "deletion token", False)
    assert len(row.consent_version) == 64
    assert stone.events_deleted == len(person.sent)
    assert person.get().status_code == 410
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


def test_erasing_twice_is_fine(running, finished):
    _, token = finished
    assert [erase(running, token).status_code for _ in range(2)] == [200, 200]


def test_a_token_may_be_typed_as_people_type(running, finished):
    _, token = finished
    assert erase(running, f"  {token.lower().replace('-', ' ')} ").status_code == 200


def test_a_token_nobody_has_erases_nothing_and_says_so(running, finished):
    person, _ = finished
    answer = erase(running, deletion_token("guess", person.session))
    assert answer.status_code == 404
    assert "Nobody has this token" in answer.text
    assert person.get().status_code == 200


def test_the_page_shows_a_form_and_a_get_never_erases(running, finished):
    person, token = finished
    answer = running.app.test_client().get("/erase", query_string={"token": token})
    assert answer.status_code == 200
    assert token not in answer.text
    assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert person.get().status_code == 200


@pytest.mark.parametrize(
    "typed", ["", "   ", "ERASE-", "\0", "é" * 300, "../../etc/passwd", "<script>alert(1)</script>"]
)
def test_hostile_text_in_the_form_is_only_text(running, finished, typed):
    answer = erase(running, typed)
    assert answer.status_code in {200, 404}
    assert "<script>alert" not in answer.text
    assert finished[0].get().status_code == 200


def test_the_code_for_review_comes_with_a_token(running):
    person = running.person()
    person.consent()
    assert person.call("POST", "/api/manual", json={}).json["deletion_token"].startswith("ERASE-")


def test_a_session_has_a_bounded_number_of_tokens_and_forgets_none(running, finished):
    person, token = finished
    given = {token}
    for _ in range(KEPT + 3):
        given.add(running.person().complete().json["deletion_token"])
    with running.database.read() as connection:
        assert len(connection.execute(select(deletions)).all()) == KEPT
    assert "" in given
    assert erase(running, token).status_code == 200
    with running.database.read() as connection:
        assert one(connection, sessions, session=person.session).state == "WITHDRAWN"

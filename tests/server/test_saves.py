"""The plain save is answered before Flask is asked, and nobody can tell by its answer."""

from __future__ import annotations

import json
import logging

import pytest

from psychophysics_server.storage.writer import Busy
from psychophysics_server.web.saves import PATH, Saves


def save(running, person, event, **more):
    headers = {"Authorization": f"Bearer {person.token}", **more.pop("headers", {})}
    return running.app.test_client().post(PATH, json={"events": [event]}, headers=headers, **more)


@pytest.fixture
def ordinary(monkeypatch):
    """Count the requests that Flask is asked for."""
    asked = []
    whole = Saves._plain_save

    def counting(self, environ, start_response):
        body = whole(self, environ, start_response)
        asked.append(body is None)
        return body

    monkeypatch.setattr(Saves, "_plain_save", counting)
    return asked


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({}, "http://localhost"),
        ({"behind_proxy": True}, "http://localhost"),
        ({"hosts": ("study.example.org",)}, "http://study.example.org"),
    ],
)
def test_both_ways_give_the_same_answer(launch, monkeypatch, ordinary, config, base):
    running = launch(**config)
    person = running.person("bot-both", source="bot") if base == "http://localhost" else None
    client = running.app.test_client()
    if person is None:
        body = {"study": running.study.file.study, "client_id": "b" * 16, "source": "bot"}
        token = client.post("/api/sessions", json=body, base_url=base).json["token"]
    else:
        token = person.token
    events = [{"seq": seq, "kind": "focus", "time": 1.0, "body": '{"what": "blur"}'} for seq in (1, 2)]
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-Proto": "https", "X-Request-ID": "a-request-of-mine"}

    def post(event):
        return client.post(PATH, json={"events": [event]}, headers=headers, base_url=base)

    post(events[0])
    plain = post(events[1])
    assert ordinary == [True, False]
    monkeypatch.setattr(Saves, "_plain_save", lambda self, environ, start: None)
    other = post(events[1])
    assert (plain.status, plain.data) == (other.status, other.data)
    assert dict(plain.headers) == dict(other.headers)


def test_whatever_is_not_plain_goes_the_ordinary_way(running, ordinary):
    person = running.person("bot-ways", source="bot")
    assert person.consent().status_code == 200
    event = person.event("focus", {"what": "blur"})
    assert save(running, person, event).status_code == 200
    assert ordinary == [True, False]
    ordinary.clear()
    client = running.app.test_client()
    bearer = {"Authorization": f"Bearer {person.token}"}
    assert save(running, person, dict(event, body="{}")).status_code == 409
    assert save(running, person, dict(event, seq="one")).status_code == 400
    assert save(running, person, event, headers={"Authorization": "Bearer stranger"}).status_code == 401
    assert client.post(PATH, data=b"{", headers=bearer).status_code == 400
    large = client.post(PATH, json={"events": [event]}, headers=bearer, environ_overrides={"CONTENT_LENGTH": "9" * 12})
    assert large.status_code == 413
    assert ordinary == [True] * 5


def test_a_stranger_host_is_refused(launch, ordinary):
    running = launch(hosts=("study.example.org",))
    client = running.app.test_client()
    body = {"study": running.study.file.study, "client_id": "b" * 16, "source": "bot"}
    token = client.post("/api/sessions", json=body, base_url="http://study.example.org").json["token"]
    event = {"seq": 1, "kind": "focus", "time": 1.0, "body": "{}"}
    for base, status in (("http://study.example.org", 200), ("http://elsewhere.example", 400)):
        headers = {"Authorization": f"Bearer {token}"}
        answer = client.post(PATH, json={"events": [event]}, headers=headers, base_url=base)
        assert answer.status_code == status
    assert ordinary == [True, True]


def test_a_data_base_that_refuses_is_asked_once(running, monkeypatch):
    person = running.person("bot-busy", source="bot")
    assert person.consent().status_code == 200
    tries = []

    def refuse(job):
        tries.append(job)
        raise Busy("too many answers are waiting to be stored")

    monkeypatch.setattr(running.database, "write", refuse)
    answer = save(running, person, person.event("focus", {"what": "blur"}))
    assert (answer.status_code, answer.json["error"], len(tries)) == (503, "busy", 1)
    assert answer.headers["Retry-After"]


def test_a_session_that_asks_too_often_is_slowed(running, monkeypatch):
    person = running.person("bot-often", source="bot")
    assert person.consent().status_code == 200
    limits = running.app.extensions["limen"].limits
    monkeypatch.setattr(limits.session, "wait", lambda name: 1.0)
    assert save(running, person, person.event("focus", {"what": "blur"})).status_code == 503


def test_a_plain_save_has_its_line_in_the_log(running, caplog):
    person = running.person("bot-line", source="bot")
    assert person.consent().status_code == 200
    with caplog.at_level(logging.INFO, logger="psychophysics_server.requests"):
        answer = save(running, person, person.event("focus", {"what": "blur"}))
    told = [record for record in caplog.records if record.message == "answered"][-1]
    assert (told.route, told.method, told.status, told.session) == (PATH, "POST", 200, person.session)
    assert told.request == answer.headers["X-Request-ID"]
    assert person.token not in json.dumps(vars(told), default=str)

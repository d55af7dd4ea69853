"""Hostile requests: never a 5xx, never a trace of what was refused, never a look at or a touch on another's session."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import select

import fuzz_server as fuzz
from psychophysics_server.export.folder import export
from psychophysics_server.monitoring.standing import standing
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.sessions.session import token_hash
from psychophysics_server.storage.tables import events, participants
from stimuli.trials import TRIAL_TYPES, parse_payload

QUIET = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}
PICTURE = "0" * 64
PAYLOADS = {
    "predict": {"phase": "test", "image": PICTURE, "options": ["cat", "dog"]},
    "forced_choice": {
        "phase": "test",
        "queries": [PICTURE, PICTURE],
        "options": ["a", "b"],
        "confidence": {"levels": 3},
    },
    "choice": {
        "phase": "test",
        "options": [],
        "entry": {"label": "Why?", "required": True, "kind": "number", "maximum": 9},
    },
    "reveal": {"phase": "test", "image": PICTURE, "word": "cat", "size": [20, 20]},
    "draw": {"phase": "test", "image": PICTURE, "size": [20, 20]},
}
API = [
    ("GET", "/api/session"),
    ("POST", "/api/events"),
    ("POST", "/api/complete"),
    ("POST", "/api/manual"),
    ("POST", "/api/withdraw"),
]


@pytest.fixture
def attack(launch, tiny):
    return fuzz.attack_on(launch, tiny)


def test_a_few_hundred_hostile_requests_leave_no_trace(attack):
    fuzz.bombard(attack, 150, 1)
    assert sum(attack.answered.values()) >= 150
    assert {200, 400, 401, 404, 405} <= set(attack.answered)


@pytest.mark.long
def test_requests_drawn_from_the_document_are_answered_by_the_document(attack):
    fuzz.by_the_document(attack, 2, 2)
    assert {200, 400, 401} <= set(attack.answered)


@pytest.mark.long
def test_thousands_of_hostile_requests_leave_no_trace(launch, tiny):
    attack = fuzz.attack_on(launch, tiny)
    for part in range(3):
        fuzz.by_the_document(attack, 20, 10 + part)
        fuzz.bombard(attack, 700, 20 + part)
    assert sum(attack.answered.values()) >= 3000


@pytest.mark.parametrize(("method", "path"), API)
def test_of_two_participants_neither_reads_nor_writes_the_others_session(launch, tiny, method, path):
    """Every route with one's token and everything of the other's: the other's rows stay, and nothing of them is told."""
    running = launch()
    one, other = running.person("one").take(), running.person("another").take()
    watch = fuzz.Watch(running)
    before = watch.without(watch.rows(), {one.session})
    theirs = other.sent[-1]
    bodies = [
        {"events": [theirs]},
        {"events": [theirs | {"session": other.session}]},
        {"last_seq": other.next_seq - 1, "chain": other.chain},
        {"last_seq": other.next_seq - 1, "chain": other.chain, "session": other.session},
        {"reason": "", "session": other.session, "token": other.token},
        {"reason": other.session},
    ]
    for body in bodies:
        for query in ("", f"?session={other.session}", f"?token={other.token}"):
            answer = one.call(method, path + query, json=body)
            assert answer.status_code < 500
            assert other.session not in answer.text
            assert other.token not in answer.text
    assert watch.without(watch.rows(), {one.session}) == before


def test_no_route_is_open_to_a_token_of_another_kind(launch, tiny):
    """A participant's token opens no page of the dashboard, and a researcher's no session."""
    from psychophysics_server.admin.accounts import add_account, add_token

    running = launch()
    add_account(running.database, "owner", role="owner", password="four words and a comma,")
    person = running.person()
    researcher = running.person("other")
    researcher.token = add_token(running.database, "script", role="owner")
    before = fuzz.Watch(running).rows()
    for rule in running.app.url_map.iter_rules():
        if not rule.endpoint.startswith("admin.") or rule.endpoint in {"admin.login", "admin.static"}:
            continue
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<{name}>", person.session).replace(f"<int:{name}>", "1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = person.call(method, path)
            assert answer.status_code in {303, 401, 403}, f"{method} {path}: {answer.status_code}"
            assert answer.status_code != 303 or "/admin/login" in answer.headers["Location"]
    assert fuzz.Watch(running).rows() == before
    for method, path in API:
        assert researcher.call(method, path, json={}).status_code == 401


@pytest.mark.parametrize(
    "kind", ["hash", "basic", "query", "cookie", "half", "longer", "lower", "spaces", "none", "quoted"]
)
def test_a_token_counts_whole_and_as_a_bearer_token_alone(running, kind):
    person = running.person()
    client, token = running.app.test_client(), person.token
    headers = {
        "hash": {"Authorization": f"Bearer {token_hash(token)}"},
        "basic": {"Authorization": f"Basic {token}"},
        "query": {},
        "cookie": {"Cookie": f"token={token}"},
        "half": {"Authorization": f"Bearer {token[:20]}"},
        "longer": {"Authorization": f"Bearer {token}x"},
        "lower": {"Authorization": f"Bearer {token.swapcase()}"},
        "spaces": {"Authorization": f"Bearer {token} {token}"},
        "none": {"Authorization": "Bearer"},
        "quoted": {"Authorization": f'Bearer "{token}"'},
    }[kind]
    path = f"/api/session?token={token}&access_token={token}" if kind == "query" else "/api/session"
    assert client.get(path, headers=headers).status_code == 401


def test_a_method_is_the_one_of_the_request_line(running):
    person = running.person()
    headers = {"Authorization": f"Bearer {person.token}"}
    client = running.app.test_client()
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert client.get("/api/withdraw", headers=headers | {name: "POST"}).status_code == 405
        assert (
            client.post("/api/withdraw?_method=DELETE", headers=headers | {name: "GET"}, data=b"{").status_code == 400
        )
    assert person.get().json["state"] == "PRE"


@pytest.mark.parametrize(
    "data",
    [
        b'{"events": [{"seq": 1e400, "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": 1, "kind": "quiz", "time": NaN, "body": "{}"}]}',
        b'{"events": [{"seq": 1, "kind": "quiz", "time": -Infinity, "body": "{}"}]}',
        b'{"events": [{"seq": ' + b"9" * 4000 + b', "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": ' + b"9" * 9000 + b', "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": 1, "seq": 0, "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": 1.0, "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": true, "kind": "quiz", "time": 1, "body": "{}"}]}',
        b'{"events": [{"seq": 1, "kind": "quiz", "time": 1, "body": "\\ud83d"}]}',
        b'{"events": [{"seq": 1, "kind": "quiz", "time": 1, "body": "\xed\xa0\x80"}]}',
        b'{"events": [{"seq": 1, "kind": "quiz", "time": 1, "body": "a\\u0000b"}]}',
        '{"events": [{"seq": 1, "kind": "quiz", "time": 1, "body": "{}"}]}'.encode("utf-16") + b"\0",
        b'{"events": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"events": {"length": 1, "0": {}}}',
        b"[]",
        b"\x1f\x8b\x08\x00\x00",
    ],
)
def test_a_batch_that_is_not_what_it_should_be_leaves_no_trace(running, data):
    person = running.person()
    before = fuzz.Watch(running).rows()
    answer = person.call("POST", "/api/events", data=data)
    assert (answer.status_code, answer.json["error"]) == (400, "bad_request")
    assert fuzz.Watch(running).rows() == before


@pytest.mark.parametrize("path", ["/api/sessions", "/api/events", "/api/complete", "/api/manual", "/api/withdraw"])
def test_a_body_beyond_the_limit_is_refused_before_it_is_read(running, path):
    person = running.person()
    answer = person.call("POST", path, data=b"x" * (9 * 1024 * 1024))
    assert (answer.status_code, answer.json["error"]) == (413, "too_large")


def test_a_compressed_body_is_never_unpacked(running):
    import gzip

    person = running.person()
    bomb = gzip.compress(b" " * 20_000_000 + b'{"reason": "x"}')
    for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
        answer = person.call(
            "POST",
            "/api/withdraw",
            data=bomb,
            content_type="application/json",
            environ_overrides={"HTTP_CONTENT_ENCODING": encoding},
        )
        assert answer.status_code == 400
    assert person.get().json["state"] == "PRE"


def test_replayed_requests_change_nothing(running):
    """Everything a finished session ever sent, again and in another order: the same code, the same rows."""
    person = running.person().take()
    code = person.complete().json["code"]
    watch = fuzz.Watch(running)
    before = watch.rows()
    for event in random.Random(4).sample(person.sent, len(person.sent)):
        assert person.post(event).json["acknowledged"] == [event["seq"]]
    assert person.post(*person.sent).status_code == 200
    assert person.complete().json["code"] == code
    after = watch.rows()
    for rows in (before, after):
        for row in rows["sessions"]:
            row.pop("last_seen")
    assert after == before


def test_requests_replayed_after_a_withdrawal_bring_nothing_back(running):
    person = running.person().take()
    person.call("POST", "/api/withdraw", json={})
    before = fuzz.Watch(running).rows()
    for event in person.sent:
        assert person.post(event).status_code == 410
    assert person.complete().status_code == 410
    assert fuzz.Watch(running).rows() == before


def test_an_event_body_may_hold_anything_and_the_study_still_ends_verifies_and_exports(launch, tiny, tmp_path):
    running = launch()
    kinds = st.sampled_from(["consent", "instructions", "quiz", "focus", "debrief", "resume", "load", "display"])
    anything = st.one_of(fuzz.VALUES, st.dictionaries(fuzz.KEYS, fuzz.VALUES, max_size=5)).map(json.dumps)
    person = running.person().take(stop_before=running.person().trials()[-1]["trial_id"])
    test = person.trials()[-1]

    @seed(5)
    @settings(max_examples=150, **QUIET)
    @given(kinds, anything.filter(lambda text: len(text) <= 65_536))
    def tell(kind, body):
        answer = person.say(kind, body)
        assert answer.status_code == 200, answer.text
        assert answer.json["acknowledged"] == [person.next_seq - 1]

    answered = fuzz.VALUES.map(lambda value: {"trial_id": test["trial_id"], "response": "horse", "rt_ms": value})

    @seed(6)
    @settings(max_examples=100, **QUIET)
    @given(
        answered,
        st.dictionaries(fuzz.KEYS.filter(lambda key: key not in {"trial_id", "response"}), fuzz.VALUES, max_size=4),
    )
    def answer(body, more):
        text = json.dumps(body | more)
        if len(text) <= 65_536:
            assert person.say("trial", text).status_code == 200

    tell()
    answer()
    assert person.get().status_code == 200
    assert person.take().complete().status_code == 200
    assert verify(running.database, running.app.extensions["limen"].library).faults == []
    assert standing(running.database, running.study, now=1.8e9, stale_s=1e6).cells
    assert export(running.database, running.study, tmp_path / "export", sources=("live",), stale_s=1e6).people == 1


@pytest.mark.parametrize("field", ["dropped_frames", "focus_lost", "changes", "attempt", "rt_ms", "onset_ms"])
def test_a_number_that_no_column_can_hold_does_not_count(running, field):
    person = running.person()
    person.consent()
    test = next(trial for trial in person.trials() if trial["phase"] == "test")
    answer = person.answer(test, test["payload"]["options"][0], **{field: 10**30})
    assert answer.status_code == 200
    if field not in {"rt_ms", "onset_ms"}:
        assert field in answer.json["faults"]["2"]


@pytest.mark.parametrize("name", sorted(TRIAL_TYPES))
def test_a_trial_type_judges_any_body_without_falling(name):
    shown = parse_payload(name, PAYLOADS[name])
    bodies = st.dictionaries(fuzz.KEYS, fuzz.VALUES, max_size=5)

    @seed(7)
    @settings(max_examples=100, **QUIET)
    @given(st.sampled_from(["a", "cat", "won", "na", ""]), bodies)
    def judge(response, body):
        assert isinstance(shown.fault(response, body), str)

    judge()


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan"), 1e308])
def test_a_stroke_of_any_size_is_judged(number):
    shown = parse_payload("reveal", PAYLOADS["reveal"])
    for stroke in ([number, 1, 1], [1, number, 1], [1, 1, number]):
        assert isinstance(shown.fault("won", {"strokes": [stroke]}), str)


@pytest.mark.parametrize("address", ["//evil.example/..", "/\\evil.example", "https://evil.example/"])
def test_nobody_is_sent_to_a_foreign_site(running, address):
    client = running.app.test_client()
    for path in (address, "/", f"/admin/login?next={address}", f"/study/tiny-study?next={address}"):
        answer = client.get(path, headers={"Host": "evil.example"})
        target = answer.headers.get("Location", "")
        assert not target.startswith(("//", "\\", "/\\"))
        assert "evil.example" not in target.split("?")[0]


def test_a_hostile_host_name_is_repeated_nowhere(running):
    for path in ("/", "/study/tiny-study/", "/api/session", "/nowhere", "/openapi.json"):
        answer = running.app.test_client().get(
            path, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        )
        assert "evil.example" not in answer.text + str(answer.headers)


def test_one_hostile_person_cannot_fill_a_batch_with_anothers_seq(running):
    """The key of an event is (session, seq): the same seqs in two sessions are two rows."""
    one, other = running.person("one"), running.person("other")
    one.consent()
    other.consent()
    with running.database.read() as connection:
        rows = list(connection.execute(select(events.c.session, events.c.seq)))
        assert len(connection.execute(select(participants)).all()) == 2
    assert sorted(tuple(row) for row in rows) == sorted([(one.session, 1), (other.session, 1)])

"""Webhooks and polls: signed, once, in their own order; a place given up at the recruiter is open again here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bench.registry import LimenError
from psychophysics_server.recruitment.polling import fetch_json, poll
from psychophysics_server.recruitment.recruiter import BadWebhook, Told, open_recruiter
from psychophysics_server.recruitment.submissions import hear, newest_status
from psychophysics_server.storage.database import Database
from psychophysics_server.storage.tables import participants, recruiter_events, sessions

SECRET = "a-secret-of-a-workspace"
SETTINGS = {"LIMEN_PROLIFIC_CODE": "C1DONE", "LIMEN_PROLIFIC_WEBHOOK_SECRET": SECRET}


def signed(body, *, event="e1", sent=None, stamp=None, secret=SECRET):
    """Return a message as Prolific would send it: bytes and headers."""
    raw = json.dumps(body).encode() if not isinstance(body, bytes) else body
    sent = str(int(time.time() if sent is None else sent))
    digest = hmac.new(secret.encode(), sent.encode() + raw, hashlib.sha256).digest()
    headers = {
        "X-Prolific-Request-Timestamp": sent,
        "X-Prolific-Request-Signature": base64.b64encode(digest).decode(),
        "X-Event-ID": event,
        "X-Timestamp": sent if stamp is None else str(stamp),
        "Content-Type": "application/json",
    }
    return raw, headers


def change(status, submission="visit-1", person="person-1"):
    return {
        "resource_id": submission,
        "event_type": "submission.status.change",
        "participant_id": person,
        "status": status,
    }


@pytest.fixture
def recruiting(launch, build):
    """Return a study at Prolific with two places a list, listening for webhooks."""
    return launch(build(recruitment={"source": "prolific"}, quota=4), environment=SETTINGS)


def post(running, body, **how):
    raw, headers = signed(body, **how)
    return running.app.test_client().post("/recruit/prolific/webhook", data=raw, headers=headers)


def remote(running):
    with running.database.read() as connection:
        return sorted(connection.execute(select(sessions.c.remote)).scalars())


def kept(running):
    with running.database.read() as connection:
        return connection.execute(select(recruiter_events).order_by(recruiter_events.c.event_id)).all()


def test_a_signed_message_is_kept_once_and_reaches_the_session(recruiting):
    recruiting.person("person-1", SESSION_ID="visit-1")
    first, again = post(recruiting, change("ACTIVE")), post(recruiting, change("ACTIVE"))
    assert (first.status_code, first.json) == (200, {"stored": True})
    assert (again.status_code, again.json) == (200, {"stored": False})
    assert remote(recruiting) == ["ACTIVE"]
    assert len(kept(recruiting)) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw, headers: (raw + b" ", headers),
        lambda raw, headers: (raw, {**headers, "X-Prolific-Request-Signature": ""}),
        lambda raw, headers: (raw, {**headers, "X-Prolific-Request-Timestamp": "1"}),
        lambda raw, headers: (raw, {k: v for k, v in headers.items() if k != "X-Prolific-Request-Timestamp"}),
        lambda raw, headers: (raw, {**headers, "X-Prolific-Request-Signature": "é"}),
        lambda raw, headers: (raw, {**headers, "X-Event-ID": ""}),
        lambda raw, headers: (raw, {**headers, "X-Event-ID": "x" * 81}),
        lambda raw, headers: signed(json.loads(raw), secret="another"),
        lambda raw, headers: signed(json.loads(raw), sent=time.time() - 26 * 3600),
        lambda raw, headers: signed(json.loads(raw), sent=time.time() + 3600),
        lambda raw, headers: signed(b"not json"),
        lambda raw, headers: signed(b"[1]"),
        lambda raw, headers: signed({"event_type": "submission.status.change", "status": "ACTIVE"}),
    ],
)
def test_a_message_that_is_not_prolifics_is_refused_and_leaves_nothing(recruiting, spoil):
    raw, headers = spoil(*signed(change("RETURNED")))
    answer = recruiting.app.test_client().post("/recruit/prolific/webhook", data=raw, headers=headers)
    assert (answer.status_code, answer.json["error"]) == (401, "signature")
    assert kept(recruiting) == []


def test_messages_about_other_things_are_taken_and_not_kept(recruiting):
    answer = post(recruiting, {"event_type": "study.status.change", "resource_id": "study", "status": "COMPLETED"})
    assert (answer.status_code, answer.json) == (200, {"stored": False})
    assert kept(recruiting) == []


@pytest.mark.parametrize("name", ["mock", "mturk", "nobody", "prolific/..", "%00"])
def test_an_address_of_another_recruiter_is_nothing(recruiting, name):
    raw, headers = signed(change("RETURNED"))
    answer = recruiting.app.test_client().post(f"/recruit/{name}/webhook", data=raw, headers=headers)
    assert answer.status_code == 404


def test_without_the_secret_there_is_no_address(launch, build):
    running = launch(build(recruitment={"source": "prolific"}), environment={"LIMEN_PROLIFIC_CODE": "C1DONE"})
    for secret in ("", SECRET):
        assert post(running, change("RETURNED"), secret=secret).status_code == 404


def test_an_empty_key_signs_nothing():
    raw, headers = signed(change("RETURNED"), secret="")
    with pytest.raises(BadWebhook, match="signature"):
        open_recruiter("prolific").receive(headers, raw, now=time.time())


EXAMPLE = itertools.count()


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Return a data base that the examples of one property share; each has a visit of its own."""
    database = Database(tmp_path_factory.mktemp("heard") / "x.sqlite")
    yield database
    database.close()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    order=st.permutations(range(5)),
    twice=st.lists(st.integers(0, 4), max_size=5),
)
def test_the_newest_status_counts_in_whatever_order_and_however_often_messages_come(heard, order, twice):
    visit = f"visit-{next(EXAMPLE)}"
    statuses = ["RESERVED", "ACTIVE", "AWAITING REVIEW", "RETURNED", "APPROVED"]
    for number in [*order, *twice]:
        told = Told(
            event_id=f"{visit}-{number}",
            submission=visit,
            recruiter_id="p",
            status=statuses[number],
            event_time=float(number),
        )
        heard.write(lambda connection, told=told: hear(connection, "prolific", told, now=9.0))
    with heard.read() as connection:
        assert newest_status(connection, "prolific", visit) == "APPROVED"
        assert len(connection.execute(select(recruiter_events).filter_by(submission=visit)).all()) == 5


def test_an_unsigned_time_cannot_make_an_old_message_newer(recruiting):
    recruiting.person("person-1", SESSION_ID="visit-1")
    now = time.time()
    post(recruiting, change("AWAITING REVIEW"), event="e2", sent=now)
    post(recruiting, change("RETURNED"), event="e1", sent=now - 600, stamp=now + 1e6)
    assert remote(recruiting) == ["AWAITING REVIEW"]


def test_a_message_before_the_person_is_remembered(recruiting):
    post(recruiting, change("RESERVED"))
    recruiting.person("person-1", SESSION_ID="visit-1")
    assert remote(recruiting) == ["RESERVED"]


def test_a_message_about_another_study_of_the_workspace_changes_nobody(recruiting):
    recruiting.person("person-1", SESSION_ID="visit-1")
    post(recruiting, change("RETURNED", submission="visit-elsewhere"))
    assert remote(recruiting) == [""]


@pytest.mark.parametrize("status", ["RETURNED", "REJECTED", "TIMED-OUT", "TIMED_OUT"])
def test_a_place_given_up_at_the_recruiter_is_open_again(recruiting, status):
    for number in range(8):
        recruiting.person(f"person-{number}", SESSION_ID=f"visit-{number}")
    assert recruiting.person("late").opened.status_code == 403
    post(recruiting, change(status, submission="visit-3"))
    assert recruiting.person("late", SESSION_ID="visit-9").opened.status_code == 201
    assert recruiting.person("later").opened.status_code == 403


def test_someone_who_returned_and_comes_with_a_new_visit_holds_a_place_again(recruiting):
    recruiting.person("person-1", SESSION_ID="visit-1")
    post(recruiting, change("RETURNED"))
    assert remote(recruiting) == ["RETURNED"]
    again = recruiting.person("person-1", SESSION_ID="visit-2").opened
    assert again.json["resumed"] is True
    assert remote(recruiting) == [""]
    with recruiting.database.read() as connection:
        assert connection.execute(select(participants.c.submission)).scalar_one() == "visit-2"


class FakeProlific:
    """A listing of submissions over loopback HTTP, in pages that name the next."""

    def __init__(self, rows, *, size=20, token="t0ken"):
        self.rows, self.asked = rows, []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                fake.asked.append((self.path, self.headers.get("Authorization")))
                if self.headers.get("Authorization") != f"Token {token}":
                    return self._say(401, {"error": {}})
                page = int(query.get("page", 1))
                here = fake.rows[(page - 1) * size : page * size]
                if not here and page > 1:
                    return self._say(404, {"error": "past the end"})
                more = page * size < len(fake.rows)
                href = f"{fake.url}/api/v1/submissions/?study={query['study']}&page={page + 1}"
                return self._say(200, {"results": here, "_links": {"next": {"href": href if more else None}}})

            def _say(self, status, body):
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(30)


@pytest.fixture
def prolific_with():
    """Start a listing of given rows and return it with a recruiter that asks it."""
    started = []

    def begin(rows, token="t0ken", **more):
        fake = FakeProlific(rows, **more)
        started.append(fake)
        environment = {**SETTINGS, "LIMEN_PROLIFIC_API": fake.url, "LIMEN_PROLIFIC_TOKEN": token}
        return fake, open_recruiter("prolific", environment)

    yield begin
    for fake in started:
        fake.close()


def submission(number, status="ACTIVE"):
    return {"id": f"visit-{number}", "participant_id": f"person-{number}", "status": status, "study_id": "s1"}


@pytest.mark.parametrize("people", [0, 1, 20, 21, 40, 250])
def test_a_poll_lists_every_page_and_asks_for_none_past_the_end(prolific_with, people):
    fake, recruiter = prolific_with([submission(number) for number in range(people)])
    told = list(recruiter.poll("s1", fetch_json, now=1.0))
    assert [one.submission for one in told] == [f"visit-{number}" for number in range(people)]
    assert len(fake.asked) == max(1, -(-people // 20))
    assert all("study=s1" in path for path, _ in fake.asked)


def test_a_poll_without_the_study_or_the_token_asks_nothing(prolific_with):
    fake, recruiter = prolific_with([])
    for study, asked in (("", recruiter), ("s1", open_recruiter("prolific", SETTINGS))):
        with pytest.raises(LimenError, match="LIMEN_PROLIFIC_TOKEN and LIMEN_PROLIFIC_STUDY"):
            list(asked.poll(study, fetch_json, now=1.0))
    assert fake.asked == []


def test_a_wrong_token_is_one_sentence_that_does_not_repeat_it(prolific_with):
    _, recruiter = prolific_with([], token="wr0ng")
    with pytest.raises(LimenError, match="answered 401") as caught:
        list(recruiter.poll("s1", fetch_json, now=1.0))
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/api", "http://127.0.0.1:1/api/v1/submissions/", "ftp://x/", "/api/v1/submissions/?a"],
)
def test_a_next_that_leads_elsewhere_or_in_a_circle_is_not_followed(following):
    recruiter = open_recruiter("prolific", {"LIMEN_PROLIFIC_TOKEN": "t", "LIMEN_PROLIFIC_API": "http://127.0.0.1:9"})
    asked = []

    def opener(url, headers):
        asked.append(url)
        return {"results": [], "_links": {"next": {"href": following}}}

    with pytest.raises(LimenError, match="leads elsewhere or in a circle"):
        list(recruiter.poll("s1", opener, now=1.0))
    assert all(url.startswith("http://127.0.0.1:9/") for url in asked)
    assert len(asked) <= 2


def test_only_encrypted_or_local_addresses_are_asked():
    with pytest.raises(LimenError, match="only https"):
        fetch_json("http://api.prolific.com/x", {})


@pytest.mark.parametrize("page", [[], {"results": 3}, {"results": [{"id": 4}]}, {"results": ["x"]}, None])
def test_a_listing_of_another_shape_is_one_sentence(page):
    recruiter = open_recruiter("prolific", {"LIMEN_PROLIFIC_TOKEN": "t"})
    with pytest.raises(LimenError, match="listing"):
        list(recruiter.poll("s1", lambda url, headers: page, now=1.0))


def test_a_poll_keeps_what_changed_and_compares(recruiting, prolific_with):
    done = recruiting.person("person-1", SESSION_ID="visit-1").take()
    assert done.complete().status_code == 200
    recruiting.person("person-2", SESSION_ID="visit-2").consent()
    rows = [submission(1, "AWAITING_REVIEW"), submission(2, "AWAITING_REVIEW"), submission(3, "RETURNED")]
    _, recruiter = prolific_with(rows)
    first = poll(recruiting.database, recruiting.study, recruiter, remote="s1")
    again = poll(recruiting.database, recruiting.study, recruiter, remote="s1")
    assert (first.listed, first.changed, again.changed) == (3, 3, 0)
    table = {(one.there, one.here): one for one in first.agreement}
    assert table["AWAITING REVIEW", "COMPLETE + code"].look == ""
    assert "a missing code proves nothing" in table["AWAITING REVIEW", "ACTIVE"].look
    assert table["RETURNED", "unknown"].people == 1
    assert remote(recruiting) == ["AWAITING REVIEW", "AWAITING REVIEW"]


def test_a_status_that_comes_back_is_heard_again(recruiting, prolific_with):
    recruiting.person("person-1", SESSION_ID="visit-1")
    rows = [submission(1, "ACTIVE")]
    _, recruiter = prolific_with(rows)
    for status in ("ACTIVE", "TIMED-OUT", "ACTIVE"):
        rows[0]["status"] = status
        assert poll(recruiting.database, recruiting.study, recruiter, remote="s1").changed == 1
        assert remote(recruiting) == [status]


def test_no_id_of_a_recruiter_is_in_the_log(recruiting, caplog):
    caplog.set_level("DEBUG")
    recruiting.person("person-secret", SESSION_ID="visit-secret")
    post(recruiting, change("RETURNED", submission="visit-secret", person="person-secret"))
    post(recruiting, change("RETURNED", submission="visit-secret"), secret="another", event="e7")
    assert "secret" not in caplog.text.replace("signature", "")

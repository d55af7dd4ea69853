"""Operations: what /readyz and /metrics say is true, and logs hold what is needed and name nobody."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import sys

import pytest

from bench.registry import LimenError
from psychophysics_server.monitoring import metrics as metrics_module
from psychophysics_server.monitoring.logs import JsonFormatter, TextFormatter, configuration, scrub
from psychophysics_server.serve import serve

PID = "5f0000000000000000000001"


def samples(running, **more):
    """Read /metrics as Prometheus would: name with labels -> value."""
    answer = running.app.test_client().get("/metrics", **more)
    assert answer.status_code == 200, answer.json
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_ready_is_a_write_that_was_committed(running):
    client = running.app.test_client()
    assert [client.get("/readyz").status_code for _ in range(3)] == [200, 200, 200]


def test_a_hanging_data_base_is_not_ready(running, monkeypatch):
    import threading

    entered, release = threading.Event(), threading.Event()

    def hang(connection):
        entered.set()
        assert release.wait(30)

    monkeypatch.setattr("psychophysics_server.web.operations.READY_S", 0.05)
    held = running.database.writer.submit(hang)
    assert entered.wait(30)
    answer = running.app.test_client().get("/readyz")
    release.set()
    held.result(30)
    assert (answer.status_code, answer.json["ready"]) == (503, False)


def test_metrics_count_what_happened(running):
    person = running.person(PID)
    first = person.event("consent", {"accepted": True})
    person.post(first)
    second = person.event("focus", {"what": "blur", "at_ms": 1.0})
    person.post(first, second)
    assert person.post(dict(second, body="{}")).status_code == 409
    running.person("bot-metrics", source="bot")
    seen = samples(running)
    assert seen["limen_saves_total"] == 2
    assert seen["limen_duplicates_total"] == 1
    assert seen["limen_conflicts_total"] == 1
    assert seen["limen_acknowledgement_seconds_count"] == 3
    assert seen['limen_requests_total{status="409"}'] == 1
    assert seen['limen_sessions{source="live",state="ACTIVE"}'] == 1
    assert seen['limen_sessions{source="bot",state="PRE"}'] == 1
    assert seen["limen_alarms"] == 1
    assert seen["limen_commit_seconds_count"] >= 5
    assert seen["limen_queue_jobs"] == 0


def test_metrics_count_codes_by_kind(running):
    running.person("whole").take().complete()
    running.person("half").call("POST", "/api/manual", json={"reason": "lost"})
    seen = samples(running)
    assert (seen['limen_codes{kind="complete"}'], seen['limen_codes{kind="manual"}']) == (1, 1)


def test_metrics_name_nobody(running):
    person = running.person(PID).take()
    text = running.app.test_client().get("/metrics").text
    assert PID not in text
    assert person.session not in text
    assert person.token not in text


@pytest.mark.parametrize(
    "more",
    [
        {"environ_base": {"REMOTE_ADDR": "203.0.113.9"}},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"environ_base": {"REMOTE_ADDR": ""}},
    ],
)
def test_metrics_are_for_this_machine_alone(running, more):
    answer = running.app.test_client().get("/metrics", **more)
    assert (answer.status_code, answer.json["error"]) == (403, "metrics")


def test_with_a_token_in_the_environment_only_its_holder_reads_metrics(running, monkeypatch):
    monkeypatch.setenv("LIMEN_METRICS_TOKEN", "a long secret of the lab")
    client = running.app.test_client()
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 403
    headers = {"Authorization": "Bearer a long secret of the lab", "X-Forwarded-For": "203.0.113.9"}
    assert client.get("/metrics", headers=headers).status_code == 200


def test_without_the_extra_metrics_are_one_sentence(launch, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    running = launch()
    assert running.person().consent().status_code == 200
    answer = running.app.test_client().get("/metrics")
    assert (answer.status_code, answer.json["error"]) == (404, "not_found")
    assert "limen[metrics]" in answer.json["message"]


def test_metrics_are_made_once_for_an_application(running):
    assert metrics_module.metrics_of(running.app) is metrics_module.metrics_of(running.app)


@pytest.fixture
def logged(monkeypatch):
    """Collect the server's log in JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("psychophysics_server")
    monkeypatch.setattr(logger, "handlers", [handler])
    before = logger.level
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.setLevel(before)


def test_a_request_is_one_line_with_its_pseudonym_and_time(running, logged):
    person = running.person(PID)
    person.consent()
    line = logged()[-1]
    assert (line["route"], line["method"], line["status"]) == ("/api/events", "POST", 200)
    assert (line["session"], line["study"]) == (person.session, "tiny-study")
    assert line["ms"] > 0
    assert line["time"].endswith("Z")


def test_a_log_holds_no_recruiter_id_token_or_address(running, logged):
    person = running.person(PID, STUDY_ID="60ffff000000000000000002").take()
    person.complete()
    client = running.app.test_client()
    client.get(f"/study/tiny-study/?PROLIFIC_PID={PID}&preview=secret-preview")
    client.get(f"/{PID}/{person.token}")
    client.post("/api/events", data="{", headers={"Authorization": f"Bearer {person.token}"})
    person.call("POST", "/api/manual", json={"reason": f"I am {PID}"})
    text = json.dumps(logged())
    for secret in (PID, person.token, "60ffff000000000000000002", "secret-preview", "127.0.0.1"):
        assert secret not in text
    assert len(logged()) > 15


def test_a_request_keeps_the_id_it_came_with_and_gets_one_otherwise(running, logged):
    client = running.app.test_client()
    assert (
        client.get("/healthz", headers={"X-Request-ID": "proxy-0123456789"}).headers["X-Request-ID"]
        == "proxy-0123456789"
    )
    drawn = client.get("/healthz", headers={"X-Request-ID": "<script>"}).headers["X-Request-ID"]
    assert len(drawn) == 16
    assert [line["request"] for line in logged()] == ["proxy-0123456789", drawn]


@pytest.mark.parametrize(
    "text",
    [
        "Bearer abcDEF0123",
        "postgresql+psycopg://limen:hunter2@host/answers",
        "GET /study/x/?PROLIFIC_PID=5f0000000000000000000001&preview=k",
        "who: 5f0000000000000000000001",
        "ada@example.org wrote",
        "token=Zm9vYmFy",
        "7Jk_" + "a" * 39,
    ],
)
def test_what_looks_like_a_secret_or_a_person_is_taken_out(text):
    cleaned = scrub(text)
    for secret in ("abcDEF0123", "hunter2", "5f0000000000000000000001", "ada@", "Zm9v", "7Jk_"):
        assert secret not in cleaned


def test_hashes_and_pseudonyms_are_left_in():
    text = "session pabcdefghijklmnop, stimuli " + "0f" * 32
    assert scrub(text) == text


@pytest.mark.parametrize("form", [JsonFormatter, TextFormatter])
def test_a_traceback_is_logged_without_what_was_sent(running, form):
    from psychophysics_server.storage.database import WriteFailed, insert_row
    from psychophysics_server.storage.tables import participants

    def twice(connection):
        for _ in range(2):
            row = {"session": "nobody", "stimuli": "s", "source": "live", "recruiter": "r", "recruiter_id": PID}
            insert_row(connection, participants, row)

    try:
        running.database.write(twice)
    except WriteFailed:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a write failed for %s", (PID,), sys.exc_info())
    line = form().format(record)
    assert "WriteFailed" in line
    assert PID not in line
    assert "nobody" not in line.replace("names nobody", "")


def test_text_logs_tell_only_what_needs_an_eye():
    assert configuration("text")["loggers"]["psychophysics_server"]["level"] == "WARNING"
    assert configuration("json")["loggers"]["psychophysics_server"]["level"] == "INFO"
    logging.config.DictConfigurator(configuration("json")).configure_formatter(
        configuration("json")["formatters"]["limen"]
    )


def test_several_processes_never_share_an_sqlite_file(running, tiny, tmp_path):
    config = running.app.extensions["limen"].config
    from dataclasses import replace

    with pytest.raises(LimenError, match="workers 4: SQLite has one writer"):
        serve(replace(config, database=tmp_path / "x.sqlite"), host="127.0.0.1", port=1, announce=print, workers=4)

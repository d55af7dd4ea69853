"""What a start refuses, what every answer carries, how large a request may be, and how files are sent."""

from __future__ import annotations

import gzip
import json

import pytest

from bench.registry import LimenError
from psychophysics_server.web.security import EVENTS, SMALL
from psychophysics_server.web.server import ServerConfig

LONG = "q7Zt0b1mXyC4uVw9RkEoPsLnHdGfJaT2"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"secret_key": "changeme"}, "LIMEN_SECRET_KEY"),
        ({"secret_key": LONG[:31]}, "LIMEN_SECRET_KEY"),
        ({"secret_key": "a" * 64}, "LIMEN_SECRET_KEY"),
        ({"preview_key": "password"}, "preview key"),
        ({"preview_key": "abababababababab"}, "preview key"),
    ],
)
def test_a_weak_secret_is_refused_outside_development_and_never_repeated(launch, more, says):
    with pytest.raises(LimenError, match=says) as refused:
        launch(**more)
    assert not set(more.values()) & set(str(refused.value).split())
    assert launch(**more, dev=True).app is not None


def test_debugging_is_refused_outside_development_and_off_within(launch, monkeypatch):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with pytest.raises(LimenError, match="FLASK_DEBUG"):
        launch()
    assert launch(dev=True).app.debug is False


def test_secrets_are_drawn_afresh_and_not_shown(tiny):
    one, two = (ServerConfig(library=None, study=tiny, database="x") for _ in range(2))
    assert one.secret_key != two.secret_key
    assert one.preview_key != two.preview_key
    for secret in (one.secret_key, one.preview_key):
        assert secret not in repr(one)


def test_another_host_name_is_refused_where_names_are_given(launch):
    client = launch(hosts=("study.example.org",)).app.test_client()
    assert client.get("/healthz", base_url="http://study.example.org").status_code == 200
    assert client.get("/healthz", base_url="http://evil.example").status_code == 400
    assert launch().app.test_client().get("/healthz", base_url="http://anything.example").status_code == 200


def test_tls_is_asked_for_behind_a_proxy_that_has_it_and_nowhere_else(launch):
    told = {"X-Forwarded-Proto": "https"}
    behind, direct = launch(behind_proxy=True).app.test_client(), launch().app.test_client()
    assert "max-age" in behind.get("/healthz", headers=told).headers["Strict-Transport-Security"]
    assert "Strict-Transport-Security" not in behind.get("/healthz").headers
    assert "Strict-Transport-Security" not in direct.get("/healthz", headers=told).headers


def test_a_proxy_is_believed_about_the_scheme_alone(launch):
    running = launch(behind_proxy=True)

    @running.app.get("/what")
    def what():
        from flask import request

        return {
            "host": request.host,
            "address": request.remote_addr,
            "scheme": request.scheme,
            "root": request.root_path,
        }

    told = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "https",
    }
    seen = running.app.test_client().get("/what", headers=told).json
    assert seen == {"host": "localhost", "address": "127.0.0.1", "scheme": "https", "root": ""}


def test_an_error_of_ours_tells_nothing_and_is_remembered_by_kind(launch):
    running = launch()

    @running.app.get("/breaks")
    def breaks():
        raise RuntimeError("the password is hunter2")

    running.app.testing = False
    answer = running.app.test_client().get("/breaks")
    assert answer.status_code == 500
    assert answer.json["error"] == "server"
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    [failure] = running.app.extensions["limen"].failures
    assert failure.text == "RuntimeError while answering breaks"


@pytest.mark.parametrize("path", ["/api/sessions", "/api/complete", "/api/manual", "/api/withdraw", "/admin/login"])
def test_only_a_batch_of_events_may_be_large(running, path):
    body = json.dumps({"reason": "x" * SMALL})
    headers = {"Authorization": f"Bearer {running.person().token}"}
    answer = running.app.test_client().post(path, data=body, content_type="application/json", headers=headers)
    assert answer.status_code in ({413} if not path.startswith("/admin") else {403, 413})


def test_a_full_batch_of_the_largest_events_is_taken(running):
    person = running.person()
    person.consent()
    events = [person.event("focus", {"what": "x" * 60_000}) for _ in range(10)]
    assert sum(len(event["body"]) for event in events) > SMALL
    assert person.post(*events).status_code == 200


def test_a_body_beyond_every_limit_is_refused(running):
    person = running.person()
    headers = {"Authorization": f"Bearer {person.token}"}
    body = b'{"events": "' + b"x" * EVENTS + b'"}'
    answer = running.app.test_client().post("/api/events", data=body, headers=headers, content_type="application/json")
    assert (answer.status_code, answer.json["error"]) == (413, "too_large")


def test_a_picture_is_sent_whole_in_part_and_by_its_head(running):
    client = running.app.test_client()
    name, path = next(iter(running.study.pictures.items()))
    data = path.read_bytes()
    head = client.head(f"/stimuli/{name}.png")
    assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", str(len(data)))
    assert head.headers["ETag"] == f'"{name}"'
    part = client.get(f"/stimuli/{name}.png", headers={"Range": "bytes=2-9"}, buffered=True)
    assert (part.status_code, part.data) == (206, data[2:10])
    whole = client.get(f"/stimuli/{name}.png", buffered=True)
    assert whole.data == data
    assert whole.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Access-Control-Allow-Origin" not in whole.headers
    assert client.post(f"/stimuli/{name}.png").status_code == 405


def test_files_carry_the_security_headers_of_every_answer(running):
    client = running.app.test_client()
    name = next(iter(running.study.pictures))
    picture = client.get(f"/stimuli/{name}.png", buffered=True).headers
    page = client.get("/healthz").headers
    for header in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Permissions-Policy"):
        assert picture[header] == page[header]


def test_a_picture_of_an_older_version_is_found_once_that_version_is_open(launch, build):
    old = launch(build(version=1))
    name = next(iter(old.study.pictures))
    client = old.app.test_client()
    assert client.get(f"/stimuli/{'0' * 64}.png").status_code == 404
    assert client.get(f"/stimuli/{name}.png", buffered=True).status_code == 200


def test_the_built_front_end_is_sent_packed_to_whoever_can_unpack_it(launch, tmp_path):
    whole = b"let whole = 1;" * 100
    folder = tmp_path / "static" / "dist"
    folder.mkdir(parents=True)
    (folder / "index-AB12CD34.js").write_bytes(whole)
    (folder / "index-AB12CD34.js.gz").write_bytes(gzip.compress(whole))
    (folder / "secret.txt").write_text("x")
    client = launch(static=tmp_path / "static").app.test_client()
    plain = client.get("/static/dist/index-AB12CD34.js", buffered=True)
    packed = client.get("/static/dist/index-AB12CD34.js", headers={"Accept-Encoding": "gzip"}, buffered=True)
    assert (plain.data, gzip.decompress(packed.data)) == (whole, whole)
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert "immutable" in plain.headers["Cache-Control"]
    for hostile in ("..%2f..%2fapp.py", "index-AB12CD34.js%00", "%2e%2e/manifest.json", "INDEX-AB12CD34.js"):
        assert client.get(f"/static/dist/{hostile}").status_code == 404


def test_a_file_that_was_built_later_is_found(launch, tmp_path):
    folder = tmp_path / "static" / "dist"
    folder.mkdir(parents=True)
    client = launch(static=tmp_path / "static").app.test_client()
    assert client.get("/static/dist/index-1.css").status_code == 404
    (folder / "index-1.css").write_text("p {}")
    assert client.get("/static/dist/index-1.css", buffered=True).text == "p {}"

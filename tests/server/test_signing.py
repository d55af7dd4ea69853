"""Signed entry links: an id without the signature that belongs to it opens nobody's session."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import select

from bench.registry import LimenError
from psychophysics_server.cli import _announce
from psychophysics_server.cli import study as commands
from psychophysics_server.recruitment.recruiter import open_recruiter
from psychophysics_server.recruitment.signing import SECRET, draw_ids, entry_links, link_secret, read_ids, sign
from psychophysics_server.storage.tables import events, metadata, sessions
from stimuli.records import StudyFile

KEY = "a secret of the laboratory, long enough"


@pytest.fixture
def door(launch, build):
    """Serve a study with signed links and open it with a query."""
    running = launch(build(recruitment={"source": "link", "signed": True}), environment={SECRET: KEY})
    client = running.app.test_client()

    def come(**parameters):
        body = {"study": "tiny-study", "client_id": "browser-0001", "parameters": parameters, "source": "live"}
        return client.post("/api/sessions", json=body)

    come.running = running
    return come


def test_the_signature_is_an_hmac_over_study_and_id():
    said = b'["limen entry link", "tiny-study", "p-1"]'
    whole = base64.urlsafe_b64encode(hmac.new(KEY.encode(), said, hashlib.sha256).digest())
    assert sign(KEY.encode(), "tiny-study", "p-1") == whole.decode().rstrip("=")


def test_a_signed_link_opens_the_session_of_its_id_and_the_same_one_again(door):
    signature = sign(KEY.encode(), "tiny-study", "p-1")
    first, again = (door(participant="p-1", signature=signature) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json["session"] == again.json["session"]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"participant": "p-1"},
        {"participant": "p-1", "signature": ""},
        {"participant": "p-1", "signature": sign(KEY.encode(), "tiny-study", "p-2")},
        {"participant": "p-1", "signature": sign(KEY.encode(), "other-study", "p-1")},
        {"participant": "p-1", "signature": sign(b"another secret, just as long as it", "tiny-study", "p-1")},
        {"participant": "p-1", "signature": sign(KEY.encode(), "tiny-study", "p-1")[:-1]},
        {"participant": "p-1", "signature": sign(KEY.encode(), "tiny-study", "p-1") + "="},
        {"participant": "p-1", "signature": "é" * 43},
        {"participant": "p-1\u2003x", "signature": sign(KEY.encode(), "tiny-study", "p-1")},
        {"signature": sign(KEY.encode(), "tiny-study", "")},
    ],
)
def test_without_the_signature_of_its_id_a_link_opens_nothing(door, parameters):
    answer = door(**parameters)
    assert (answer.status_code, answer.json["error"]) == (400, "identity")
    with door.running.database.read() as connection:
        assert connection.execute(select(sessions)).all() == []


def test_bots_and_previews_need_no_signature(door):
    running = door.running
    assert running.person("bot-0001", source="bot").opened.status_code == 201
    assert (
        running.person("someone", preview=running.app.extensions["limen"].config.preview_key).opened.status_code == 201
    )


def test_no_signature_is_stored(door):
    signature = sign(KEY.encode(), "tiny-study", "p-1")
    assert door(participant="p-1", signature=signature).status_code == 201
    with door.running.database.read() as connection:
        held = [connection.execute(select(table)).all() for table in metadata.sorted_tables if table is not events]
    assert signature not in str(held)


def test_a_recruiter_that_names_people_by_another_parameter_is_signed_by_that(launch, build):
    running = launch(build(recruitment={"source": "mock", "signed": True}), environment={SECRET: KEY})
    signature = sign(KEY.encode(), "tiny-study", "5f0000000000000000000001")
    assert running.person("5f0000000000000000000001").opened.status_code == 400
    assert running.person("5f0000000000000000000001", signature=signature).opened.status_code == 201


@pytest.mark.parametrize("environment", [{}, {SECRET: "short"}])
def test_a_server_without_a_long_secret_does_not_start(launch, build, environment):
    with pytest.raises(LimenError, match=f"recruitment.signed: {SECRET} has"):
        launch(build(recruitment={"source": "link", "signed": True}), environment=environment)


def file_of(**recruitment):
    return StudyFile(
        study="tiny-study", version=1, protocol="utility", title="A tiny study", conditions=("a",), contact="a@b.org",
        recruitment=recruitment,
    )  # fmt: skip


def test_without_the_option_no_secret_is_asked_for():
    assert link_secret(file_of(), {}) is None


def test_drawn_ids_are_long_and_differ():
    drawn = draw_ids(200)
    assert len(set(drawn)) == 200
    assert {len(one) for one in drawn} == {16}


def test_links_hold_id_and_signature_whatever_the_id_is_made_of():
    strange = ["a b", "ä&x=1", "=2+3", "100%"]
    made = entry_links(
        file_of(source="link"), open_recruiter("link"), strange, secret=KEY.encode(), host="https://x.org/"
    )
    for person, (named, link) in zip(strange, made, strict=True):
        query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
        assert named == person
        assert query == {"participant": person, "signature": sign(KEY.encode(), "tiny-study", person)}
        assert link.startswith("https://x.org/study/tiny-study/?")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a", "b", "", "a"], "line 4: is the id of line 1 again"),
        (["a", "undefined"], "line 2: can be nobody's id"),
        ([" ", ""], "the file has no line"),
    ],
)
def test_a_list_of_ids_that_cannot_be_is_refused_in_one_sentence(lines, said):
    with pytest.raises(LimenError, match=said):
        read_ids(lines)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET, KEY)
    path = tmp_path / "study.yaml"

    def call(*words, signed=True):
        path.write_text(yaml.safe_dump(file_of(source="link", signed=signed).model_dump(mode="json")))
        return CliRunner().invoke(commands, ["links", str(path), *words])

    return call


def test_the_command_prints_one_signed_link_an_id(run, tmp_path, door):
    (tmp_path / "ids.txt").write_text("p-1\np-2\n\n")
    done = run("--ids", str(tmp_path / "ids.txt"), "--host", "https://study.example.org")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == ["p-1", "p-2"]
    for row in rows:
        query = {name: values[0] for name, values in parse_qs(urlsplit(row["link"]).query).items()}
        assert door(**query).status_code == 201


def test_the_command_draws_ids_and_says_where_nothing_is_signed(run):
    done = run("--n", "5", signed=False)
    assert len(done.stdout.splitlines()) == 6
    assert "signature" not in done.stdout
    assert "recruitment.signed is off" in done.stderr


@pytest.mark.parametrize("words", [[], ["--n", "3", "--ids", "x"]])
def test_the_command_wants_a_number_or_a_list(run, words):
    with pytest.raises(LimenError, match="--n and --ids"):
        raise run(*words).exception


@pytest.mark.parametrize(
    ("recruitment", "warned"),
    [({"source": "link"}, True), ({"source": "link", "signed": True}, False), ({"source": "mock"}, False)],
)
def test_the_start_says_where_an_id_can_be_guessed(launch, build, capsys, recruitment, warned):
    running = launch(build(recruitment=recruitment), environment={SECRET: KEY})
    _announce(running.app.extensions["limen"].config, "127.0.0.1", 8000)
    said = capsys.readouterr().out
    assert ("whoever guesses an id" in said) is warned
    assert ("signature=" in said) is bool(recruitment.get("signed"))

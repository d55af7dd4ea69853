"""The dashboard on both data bases: every page, list and act is a statement that SQLite and PostgreSQL must run."""

from __future__ import annotations

import html
import re

import pytest
from sqlalchemy import select

from psychophysics_server.admin import accounts as accounts_module
from psychophysics_server.admin.accounts import add_account, add_token
from psychophysics_server.storage.tables import audit, decisions, payments, sessions

PASSWORD = "a long pass phrase of ours"
LOCAL = "https://localhost"


@pytest.fixture(scope="module")
def visited(launch_once, tiny):
    """A study with people in several states, an owner, and their browser."""
    from argon2 import PasswordHasher

    patch = pytest.MonkeyPatch()
    patch.setattr(accounts_module, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    running = launch_once()
    add_account(running.database, "anna", role="owner", password=PASSWORD)
    running.finished = running.person("finishes").take()
    running.finished.complete()
    catch = tuple(t.trial_id for cell in tiny.trials.values() for t in cell if t.is_catch)
    running.person("careless").take(wrong=catch).complete()
    running.open = running.person("is at it")
    running.open.consent()
    event = running.open.event("focus", {"what": "blur", "at_ms": 1.0})
    running.open.post(event)
    running.open.post({**event, "body": "{}"})
    running.open.call("POST", "/api/manual", json={"reason": "it kept saving"})
    running.person("leaves").call("POST", "/api/withdraw", json={})
    running.client = running.app.test_client()
    assert post(running, "/admin/login", name="anna", password=PASSWORD).status_code == 303
    yield running
    patch.undo()


def get(running, path):
    return running.client.get(path, base_url=LOCAL, buffered=True)


def post(running, path, **form):
    token = re.search(r'name="csrf" value="([^"]+)"', get(running, "/admin/login").text)[1]
    return running.client.post(path, data={"csrf": html.unescape(token), **form}, base_url=LOCAL, buffered=True)


def rows(running, table):
    with running.database.read() as connection:
        return connection.execute(select(table)).all()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "?source=live",
        "live?source=live",
        *(f"people?sort={sort}&down={down}" for sort in ("opened", "seen", "cell", "state", "events", "id") for down in (0, 1)),
        *(f"people?state={state}" for state in ("COMPLETE", "WITHDRAWN", "excluded", "stale", "review")),
        "people?look=p%25&cell=baseline-0&source=live",
        "payments",
        "alarms",
        "study",
        "audit",
    ],
)  # fmt: skip
def test_every_list_is_shown(visited, path):
    assert get(visited, f"/admin/{path}").status_code == 200


def test_every_person_is_shown_with_their_schedule(visited):
    for row in rows(visited, sessions):
        assert get(visited, f"/admin/people/{row.session}").status_code == 200
    assert get(visited, f"/admin/people/{visited.finished.session}/replay/1").status_code == 200


def test_the_overview_counts_the_same_on_both(visited):
    token = add_token(visited.database, "watcher", role="viewer")
    client = visited.app.test_client()
    answer = client.get("/admin/api/standing", headers={"Authorization": f"Bearer {token}"}, base_url=LOCAL)
    assert answer.status_code == 200
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", get(visited, "/admin/live?source=live").text))
    assert "Complete 1 of 8" in text


def test_every_act_is_written_down(visited):
    path = f"/admin/people/{visited.finished.session}"
    assert post(visited, f"{path}/identity").status_code == 200
    assert post(visited, f"{path}/analysis", kind="exclude", reason="said so").status_code == 303
    assert post(visited, f"{path}/analysis", kind="include", reason="checked").status_code == 303
    assert post(visited, f"{path}/payment", kind="bonus", reason="quick", amount="0.5").status_code == 303
    assert post(visited, "/admin/study/pause", do="pause", reason="x", sure="no").status_code == 400
    assert post(visited, "/admin/study/pause", do="pause", reason="lunch", sure="yes").status_code == 303
    assert post(visited, "/admin/payments/list").mimetype == "application/zip"
    assert post(visited, "/admin/export").mimetype == "application/zip"
    assert [row.kind for row in rows(visited, decisions)] == ["exclude", "include", "bonus"]
    assert {row.item for row in rows(visited, payments)} >= {"approve"}
    assert {"exclude", "include", "bonus"} <= {row.action for row in rows(visited, audit)}

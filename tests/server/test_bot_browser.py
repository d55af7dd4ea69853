"""The third tier of bots: Chromium shows the real pages, and the trials press their own buttons."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys

import pytest
from sqlalchemy import select

from bench.registry import LimenError
from psychophysics_server.bots import chromium
from psychophysics_server.bots.chromium import run_browsers
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.tables import events, sessions
from psychophysics_server.web.built import STATIC, built_files


@pytest.fixture
def here():
    """Skip loudly without Chromium or a built front-end."""
    lacking = [] if shutil.which("chromium") else ["no Chromium on the PATH (Debian: apt-get install chromium)"]
    lacking += [] if built_files(STATIC / "dist") else ["the front-end is not built"]
    lacking += [] if importlib.util.find_spec("playwright") else ["no Playwright"]
    if lacking:
        pytest.skip(f"BROWSER TESTS NOT RUN: {lacking[0]}")


@pytest.mark.browser
@pytest.mark.parametrize("data_only", [True, pytest.param(False, marks=pytest.mark.long)], ids=["data", "visual"])
def test_bots_in_chromium_take_a_study_to_its_code(here, served, build, data_only):
    running, url = served(build(tests=1 if not data_only else 2))
    ended = []
    n = 2 if data_only else 1
    journeys = run_browsers(url, "tiny-study", n=n, data_only=data_only, tick=ended.append)
    assert journeys == ended
    assert [journey.outcome for journey in journeys] == ["complete"] * n
    with running.database.read() as connection:
        assert set(connection.execute(select(sessions.c.source)).scalars()) == {"bot"}
        windows = {json.loads(row.body).get("window") for row in connection.execute(select(events)) if row.trial_id}
    assert len(windows) == n
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


@pytest.mark.browser
def test_bots_in_chromium_that_fail_the_questions_are_not_complete(here, served, build):
    page = {"title": "Title", "body": "One paragraph."}
    many = [f"option {number}" for number in range(6)]
    quiz = [{"question": f"Question {number}?", "options": many, "answer": many[0]} for number in range(6)]
    texts = {"consent": page, "instructions": [page], "quiz": quiz, "debrief": page, "contact": "lab@example.org"}
    _, url = served(build(texts=texts))
    (journey,) = run_browsers(url, "tiny-study", n=1, data_only=True)
    assert (journey.outcome, bool(journey.code)) == ("screened_out", True)


def test_without_chromium_the_tier_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(chromium.shutil, "which", lambda name: None)
    with pytest.raises(LimenError, match="no Chromium on the PATH|needs Playwright"):
        run_browsers("http://127.0.0.1:9", "tiny-study", n=1)


def test_without_playwright_the_tier_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(LimenError, match="pip install playwright"):
        run_browsers("http://127.0.0.1:9", "tiny-study", n=1)


@pytest.mark.browser
def test_a_page_that_shows_no_code_is_one_sentence(here, served, monkeypatch):
    monkeypatch.setattr(chromium, "PATIENCE_S", 0.5)
    _, url = served()
    with pytest.raises(LimenError, match="no code after 0.5 s; the page shows"):
        run_browsers(url, "another-study", n=1)

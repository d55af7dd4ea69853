"""A researcher works with the dashboard in Chromium: by keyboard, wide and narrow, light and dark, axe on every page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from psychophysics_server.admin.accounts import add_account
from psychophysics_server.storage.tables import sessions, studies

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "a long pass phrase of ours"
SIZES = ({"width": 1280, "height": 800}, {"width": 390, "height": 844})


@pytest.fixture
def site(served: Callable[..., Any]) -> tuple[Any, str]:
    """Serve the tiny study with people in every state and an owner's account, as outside development."""
    running, url = served()
    add_account(running.database, "anna", role="owner", password=PASSWORD)
    running.person("finishes").take().complete()
    catch = tuple(t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch)
    running.person("careless").take(wrong=catch).complete()
    twice = running.person("in two windows")
    twice.consent()
    event = twice.event("focus", {"what": "blur", "at_ms": 1.0})
    twice.post(event)
    twice.post({**event, "body": '{"what": "focus", "at_ms": 2.0}'})
    twice.call("POST", "/api/manual", json={"reason": "<b>the page</b> kept saving"})
    running.person("leaves").call("POST", "/api/withdraw", json={})
    running.person("bot-1", source="bot").take().complete()
    return running, url


@pytest.fixture
def arrive(chromium: Any, site: tuple[Any, str]) -> Iterator[Callable[..., Any]]:
    """Open a page of the dashboard in a fresh browser context, logged in unless it is said otherwise."""
    contexts = []

    def come(*, log_in: bool = True, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": SIZES[0], **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
        page.faults = faults
        page.goto(f"{site[1]}/admin/")
        if log_in:
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill(PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_selector("h1:has-text('Overview')")
        return page

    yield come
    for context in contexts:
        context.close()


def session_of(running: Any, state: str) -> str:
    with running.database.read() as connection:
        query = select(sessions.c.session).where(sessions.c.state == state, sessions.c.source == "live")
        return str(connection.execute(query.order_by(sessions.c.opened_at)).scalars().first())


def violations(page: Any) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{fault['id']}: {[node['target'] for node in fault['nodes']]}" for fault in found]


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(SIZES[0], "light", id="laptop-light"),
        pytest.param(SIZES[1], "dark", id="phone-dark"),
        pytest.param(SIZES[0], "dark", id="laptop-dark", marks=pytest.mark.long),
        pytest.param(SIZES[1], "light", id="phone-light", marks=pytest.mark.long),
    ],
)
def test_every_page_is_without_a_violation_and_fits_its_window(
    arrive: Callable[..., Any], site: tuple[Any, str], size: dict[str, int], scheme: str
) -> None:
    if not AXE.is_file():
        pytest.skip("AXE NOT RUN: the front-end's packages are not installed")
    running, url = site
    # axe itself is put into the page, which the page's own policy would not let in.
    page = arrive(viewport=size, color_scheme=scheme, bypass_csp=True)
    person = session_of(running, "COMPLETE")
    paths = [
        "/",
        "/people",
        f"/people/{person}",
        f"/people/{person}/replay/5",
        "/payments",
        "/alarms",
        "/study",
        "/audit",
    ]
    for path in [*paths, "/people/nobody", f"/people/{session_of(running, 'WITHDRAWN')}"]:
        page.goto(f"{url}/admin{path}")
        if "replay" in path:
            page.wait_for_selector("[data-page]")
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.context.clear_cookies()
    page.goto(f"{url}/admin/")
    assert violations(page) == []


def test_a_wrong_password_is_said_plainly_and_the_right_one_leads_on(
    arrive: Callable[..., Any], site: tuple[Any, str]
) -> None:
    page = arrive(log_in=False)
    page.goto(f"{site[1]}/admin/people?state=COMPLETE")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("something else")
    page.get_by_role("button", name="Log in").click()
    assert "do not match" in page.get_by_role("alert").inner_text()
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/people?state=COMPLETE")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_selector("h1:has-text('Log in')")
    page.goto(f"{site[1]}/admin/")
    assert page.get_by_label("Password").is_visible()


def test_the_overview_counts_again_by_itself_and_rests_while_hidden(
    arrive: Callable[..., Any], site: tuple[Any, str]
) -> None:
    running, _ = site
    page = arrive()
    page.clock.install()
    page.reload()
    tile = page.locator(".tiles dd").first
    assert tile.inner_text().startswith("1")
    running.person("another").take().complete()
    page.clock.fast_forward(5_000)
    from playwright.sync_api import expect

    # The policy of these pages evaluates no text, so the page is looked at from outside.
    expect(tile).to_contain_text(re.compile("^\\s*2"))
    assert "Live" in page.locator("[data-live-note]").inner_text()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.clock.fast_forward(60_000)
    assert asked == []
    assert page.faults == []


def test_without_javascript_every_number_is_there(arrive: Callable[..., Any], site: tuple[Any, str]) -> None:
    page = arrive(java_script_enabled=False)
    assert page.locator(".tiles dd").first.inner_text().startswith("1")
    page.goto(f"{site[1]}/admin/people/{session_of(site[0], 'COMPLETE')}")
    assert page.locator(".trial").count() == len(site[0].study.trials["baseline-0"])
    page.goto(f"{site[1]}/admin/people/{session_of(site[0], 'COMPLETE')}/replay/5")
    assert page.locator("noscript").count() == 1


def test_a_person_is_found_left_out_and_written_down(arrive: Callable[..., Any], site: tuple[Any, str]) -> None:
    running, url = site
    page = arrive()
    page.get_by_role("link", name="People", exact=True).click()
    page.get_by_label("State").select_option("COMPLETE")
    page.get_by_label("Source").select_option("live")
    page.get_by_role("button", name="Show").click()
    assert page.locator("tbody tr").count() == 2
    person = session_of(running, "COMPLETE")
    page.get_by_role("link", name=person).click()
    page.get_by_label("Analysis: reason").fill("talked on the phone")
    page.get_by_role("button", name="Leave out").click()
    page.wait_for_selector("text=Noted: exclude")
    assert page.locator(".title .left-out").is_visible()
    page.goto(f"{url}/admin/audit")
    line = page.locator("tbody tr", has_text="talked on the phone")
    assert [cell.strip() for cell in line.locator("td, th").all_inner_texts()][1:4] == ["anna", "exclude", person]
    assert page.faults == []


def test_a_trial_is_replayed_by_the_participants_own_page_with_the_answer_marked(
    arrive: Callable[..., Any], site: tuple[Any, str]
) -> None:
    running, url = site
    page = arrive()
    person = session_of(running, "COMPLETE")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(f"{url}/admin/people/{person}/replay/5")
    page.wait_for_selector(".replay-tag")
    answered, expected = page.locator(".replay-answered"), page.locator(".replay-expected")
    assert answered.count() == expected.count() == 1
    assert answered.locator(".replay-tag").inner_text() == "answered, expected"
    page.keyboard.press("f")
    page.wait_for_selector(".replay-tag")
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**/replay/6")
    assert sent == []
    assert page.faults == []


def test_pausing_asks_first_and_keeps_newcomers_out(arrive: Callable[..., Any], site: tuple[Any, str]) -> None:
    running, url = site
    page = arrive()
    page.goto(f"{url}/admin/study")
    pause = page.get_by_role("button", name="Pause")
    pause.click()
    assert page.evaluate("document.querySelector('[name=sure]').validity.valueMissing")
    page.get_by_label("Yes, turn newcomers away").check()
    page.get_by_label("Reason").fill("checking the server")
    pause.click()
    page.wait_for_selector("text=Paused: newcomers are turned away")
    with running.database.read() as connection:
        assert connection.execute(select(studies.c.paused_at)).scalar_one() is not None
    assert running.person("late").opened.status_code == 403
    page.get_by_label("Yes, let newcomers in again").check()
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector("text=Open again")
    assert running.person("late").opened.status_code == 201


def test_a_preview_goes_in_as_a_participant_of_that_cell(arrive: Callable[..., Any], site: tuple[Any, str]) -> None:
    running, url = site
    page = arrive()
    page.goto(f"{url}/admin/study")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Preview as a participant of grad_cam-1").click()
    opened.value.wait_for_selector("[data-page=consent]")
    assert "preview=" not in opened.value.url
    with running.database.read() as connection:
        rows = connection.execute(select(sessions).where(sessions.c.source == "preview")).all()
    assert [(row.cell, row.state) for row in rows] == [("grad_cam-1", "PRE")]


def test_an_export_is_downloaded_as_one_file(arrive: Callable[..., Any], site: tuple[Any, str]) -> None:
    page = arrive()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download export").click()
    assert download.value.suggested_filename == "tiny-study-v1.zip"


def test_what_needs_a_person_is_said_in_words(arrive: Callable[..., Any]) -> None:
    texts = arrive().locator(".banner").all_inner_texts()
    assert any("1 alarm" in text for text in texts)
    assert any("1 code for review" in text for text in texts)

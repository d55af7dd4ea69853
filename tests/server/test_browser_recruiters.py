"""The way back to a recruiter in Chromium: no place left, and Mechanical Turk's form out of its frame."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import parse_qs

import pytest

import make_screenshots as walker

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"laptop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture
def site(launch, build, answering):
    """Serve a study and return the application with its address."""
    servers = contextlib.ExitStack()

    def begin(environment, **facts):
        running = launch(build(**facts), environment=environment)
        url = servers.enter_context(answering(running.app))
        return running, f"{url}/study/{running.study.file.study}/"

    with servers:
        yield begin


def axe_faults(page):
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [one["id"] for one in found["violations"]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whoever_finds_no_place_gets_a_code_and_the_way_back(chromium, site, tmp_path, size, scheme):
    terms = {"source": "prolific"}
    running, address = site({"LIMEN_PROLIFIC_CODE": "C1", "LIMEN_PROLIFIC_FULL": "C4FULL"}, quota=2, recruitment=terms)
    for number in range(4):
        running.person(f"person{number}")
    page = chromium.new_page(viewport=SIZES[size], color_scheme=scheme)
    page.goto(f"{address}?PROLIFIC_PID=late")
    page.wait_for_selector("[data-page=no-place]")
    assert "all the participants it needs" in page.locator("main").inner_text()
    assert page.locator("#code").inner_text() == "C4FULL"
    way = page.locator("a.button.primary").get_attribute("href")
    assert way == "https://app.prolific.com/submissions/complete?cc=C4FULL"
    assert axe_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=tmp_path / f"no-place-{size}-{scheme}.png")
    page.close()


def test_a_worker_in_mturks_frame_hands_the_assignment_back(chromium, site):
    running, address = site({}, recruitment={"source": "mturk"})
    worker = {"workerId": "A3", "assignmentId": "AS7", "hitId": "H1", "turkSubmitTo": "https://www.mturk.com"}
    running.person("A3", **worker).take()
    context = chromium.new_context()
    page = context.new_page()
    posted = []

    def submitted(route):
        posted.append((route.request.method, route.request.url, parse_qs(route.request.post_data or "")))
        route.fulfill(status=200, content_type="text/html", body="<h1>thanks</h1>")

    context.route("https://www.mturk.com/mturk/externalSubmit", submitted)
    page.goto(address + "?" + "&".join(f"{name}={value}" for name, value in worker.items()))
    for _ in range(walker.MOST_SCREENS):
        if walker.kind(page) == "code":
            break
        walker.go_on(page)
    code = page.locator("#code").inner_text()
    page.locator("form button[type=submit]").click()
    page.get_by_text("thanks").wait_for()
    assert posted == [("POST", "https://www.mturk.com/mturk/externalSubmit", {"assignmentId": ["AS7"], "code": [code]})]
    context.close()


def test_only_mturk_may_frame_the_study(chromium, site):
    _, address = site({}, recruitment={"source": "mturk"})
    local, path = address.split("/study/")
    context = chromium.new_context()
    # A browser keeps pages of the internet from framing this machine, so the study answers under a public name.
    away = "https://study.example"
    context.route(
        f"{away}/**",
        lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace(away, local))),
    )
    page = context.new_page()
    frame = f"<iframe src='{away}/study/{path}' width=800 height=600></iframe>"
    for host, framed in (("https://worker.mturk.com/", True), ("https://evil.example/", False)):
        context.route(host, lambda route: route.fulfill(status=200, content_type="text/html", body=frame))
        page.goto(host)
        page.wait_for_load_state("networkidle")
        inside = [one for one in page.frames if one.url.startswith(away)]
        assert bool(inside and inside[0].locator("main").count()) is framed
    context.close()

"""Reports in Chromium: axe finds nothing, light or dark; nothing is wider than a phone; nothing is asked of the network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.pdf import print_pdf
from analysis.report import write_report
from bench.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PROTOCOLS = ("intruder", "preference")
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return `report(protocol)`: its page, made once."""
    root = tmp_path_factory.mktemp("reports")
    import protocol_exports as exports

    store: Store = exports.make_store(root / "store")
    made: dict[str, Path] = {}

    def make(protocol: str) -> Path:
        if protocol not in made:
            export = exports.make_export(protocol, store, root / "exports")
            made[protocol] = write_report(export, root / protocol, timestamp="2026-01-02 03:04 UTC")
        return made[protocol]

    return make


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("BROWSER TESTS NOT RUN: no Chromium on the PATH (Debian: apt-get install chromium)")
    if not AXE.exists():
        pytest.skip("BROWSER TESTS NOT RUN: axe is not installed (npm ci in psychophysics_server/frontend)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(chromium, report, protocol, width, scheme):
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        address = report(protocol).as_uri()
        page.goto(address)
        assert [url for url in asked if url != address and not url.startswith("data:")] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
        assert found == []
    finally:
        context.close()


def test_the_first_key_leads_to_the_answer(chromium, report):
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(report("preference").as_uri())
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#answer"
    finally:
        context.close()


def test_a_dark_screen_prints_dark_ink_and_whole_tables_and_opens_what_is_folded(chromium, report):
    context = chromium.new_context(viewport={"width": 700, "height": 900}, color_scheme="dark")
    try:
        page = context.new_page()
        page.goto(report("intruder").as_uri())
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        clipped = (
            "[...document.querySelectorAll('.scroll')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"
        )
        assert page.evaluate(clipped) == 0
        wide = "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > innerWidth + 1).length"
        assert page.evaluate(wide) == 0
        folded = "[...document.querySelectorAll('details:not([open]) table')].filter(t => t.offsetHeight === 0).length"
        assert page.evaluate(folded) == 0
    finally:
        context.close()


def test_the_page_prints_to_a_pdf_of_several_sheets(report, tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("BROWSER TESTS NOT RUN: no Chromium on the PATH (Debian: apt-get install chromium)")
    made = print_pdf(report("preference"), tmp_path / "report.pdf").read_bytes()
    assert made.startswith(b"%PDF")
    assert made.count(b"/Type /Page") > 2

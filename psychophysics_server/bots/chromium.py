"""Bots in a real browser: Chromium shows the pages and trials, whose own `simulate` presses the buttons."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from bench.registry import LimenError

from .journey import Journey

PATIENCE_S = 600.0
"""Longest visit of one simulated person."""
VIEWPORTS = ({"width": 1280, "height": 800}, {"width": 390, "height": 844})
"""Windows that the bots have in turn: a laptop and a phone."""


def _playwright() -> Any:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise LimenError(
            "bots, tier 'browser': needs Playwright (`pip install playwright`) and Chromium on the PATH; "
            "the tiers model and http need neither."
        ) from None
    return sync_playwright


def run_browsers(
    url: str,
    study: str,
    *,
    n: int,
    data_only: bool = False,
    executable: str | None = None,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` simulated people take a served study in Chromium, one after the other, each in a window of its own.

    What they answer is drawn by the trial types themselves, not by the study's psychometric model: this tier shows
    that the pages work, the others what the numbers come to.

    Parameters
    ----------
    url
        Address of the server.
    study
        Its id.
    data_only
        Skip the trials' screens and their time; the pages around them are shown.
    executable
        Chromium; by default the one on the PATH.

    Raises
    ------
    LimenError
        If there is no Playwright or no Chromium, or a page shows an error.
    """
    start = _playwright()
    found = executable or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise LimenError("bots, tier 'browser': no Chromium on the PATH; install it (Debian: `apt install chromium`).")
    mode = "data-only" if data_only else "visual"
    journeys = []
    with start() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            for index in range(n):
                context = browser.new_context(viewport=VIEWPORTS[index % len(VIEWPORTS)])
                journey = _visit(context.new_page(), f"{url}/study/{study}/?simulate={mode}", index)
                context.close()
                journeys.append(journey)
                tick(journey)
        finally:
            browser.close()
    return journeys


OUTCOMES = {"code": "complete", "ended": "screened_out", "no-place": "full"}
"""Page that shows a code -> what became of its bot; a code for review, on the page that saves, is a loss."""


def _visit(page: Any, address: str, index: int) -> Journey:
    """Open the study and wait for its code."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    journey = Journey(index=index)
    page.goto(address)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and not errors:
        code = page.query_selector("#code")
        if code is not None:
            shown = code.evaluate("element => element.closest('[data-page]').dataset.page")
            journey.outcome, journey.code = OUTCOMES.get(shown, "lost"), code.inner_text()
            return journey
        page.wait_for_timeout(100)
    if errors:
        raise LimenError(f"bot {index} in Chromium: the page failed ({errors[0].splitlines()[0]}).")
    heading = page.query_selector("h1")
    shown = "nothing" if heading is None else f"'{heading.inner_text()}'"
    raise LimenError(f"bot {index} in Chromium: no code after {PATIENCE_S:g} s; the page shows {shown}.")

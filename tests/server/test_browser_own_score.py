"""A person's own score in Chromium: on its screen, after a reload, over a bad line, and for simulated people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import test_browser_types as types

pytestmark = [pytest.mark.browser, pytest.mark.long]


arrive = types.arrive
SCALE = ["1", "2", "3", "4"]
QUESTION = {"phase": "test", "options": SCALE, "faces": [{"label": one} for one in SCALE], "layout": "row"}
TELLS = {
    **QUESTION,
    "question": "How well do you understand?",
    "layout": "scale",
    "low": "not at all",
    "high": "completely",
    "panels": [{"label": "Your score", "text": "**{right}** of your **{asked}** answers were right."}],
    "score": {},
}
TRIALS = [("choice", QUESTION), ("choice", QUESTION), ("choice", TELLS)]
TOLD = "1 of your 2 answers were right."
"""The first option is the right one; the keys below are one right and one wrong answer."""


def to_the_score(visitor: Any) -> Any:
    """Answer the two questions and wait for the screen that tells the score."""
    visitor.begin()
    for number, key in ((1, "1"), (2, "3")):
        visitor.wait(number, 3)
        visitor.page.keyboard.press(key)
    visitor.wait(3, 3)
    return visitor


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}])
def test_a_person_reads_their_score_and_the_row_says_so(arrive: Callable[..., Any], viewport: dict[str, int]) -> None:
    visitor = to_the_score(arrive(TRIALS, viewport=viewport))
    assert visitor.page.locator(".panel .prose").inner_text() == TOLD
    assert "{" not in visitor.page.locator("body").inner_text()
    visitor.page.keyboard.press("4")
    last = visitor.end()[-1]
    assert (last["response"], last["told_score"]) == ("4", {"right": 1, "asked": 2})


def test_a_reload_tells_the_same(arrive: Callable[..., Any]) -> None:
    visitor = to_the_score(arrive(TRIALS))
    visitor.page.reload()
    visitor.begin().wait(3, 3)
    assert visitor.page.locator(".panel .prose").inner_text() == TOLD
    visitor.page.keyboard.press("2")
    assert visitor.end()[-1]["told_score"] == {"right": 1, "asked": 2}


def test_over_a_bad_line_the_score_is_asked_for_until_it_comes(arrive: Callable[..., Any]) -> None:
    visitor = arrive(TRIALS)
    tries: list[int] = []

    def flaky(route: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            route.abort() if len(tries) == 1 else route.fulfill(status=503, json={"error": "busy", "message": "Wait."})
        else:
            route.continue_()

    visitor.page.route("**/api/score", flaky)
    to_the_score(visitor)
    assert visitor.page.locator(".panel .prose").inner_text() == TOLD
    assert len(tries) == 3


def test_the_screen_has_no_accessibility_violation(arrive: Callable[..., Any]) -> None:
    if not types.AXE.is_file():
        pytest.skip("ACCESSIBILITY NOT TESTED: axe-core is not installed")
    visitor = to_the_score(arrive(TRIALS, reduced_motion="reduce", bypass_csp=True))
    visitor.page.add_script_tag(path=str(types.AXE))
    for scheme in ("light", "dark"):
        visitor.page.emulate_media(color_scheme=scheme)
        assert visitor.page.evaluate("axe.run().then(r => r.violations.map(v => `${v.id}: ${v.nodes[0].html}`))") == []


@pytest.mark.parametrize("mode", ["visual", "data-only"])
def test_simulated_people_are_told_what_they_answered(arrive: Callable[..., Any], mode: str) -> None:
    visitor = arrive(TRIALS, query=f"simulate={mode}")
    visitor.page.wait_for_selector("#code", timeout=120_000)
    first, second, last = visitor.site.bodies()
    right = (first["response"] == "1") + (second["response"] == "1")
    assert last["told_score"] == {"right": right, "asked": 2}

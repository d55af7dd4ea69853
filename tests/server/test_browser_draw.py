"""Draw trials in Chromium: by mouse, keyboard and touch, from sight and from memory, and what the rows say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import test_browser_types as types
from bench.images import encode_png
from bench.store import sha256_bytes
from stimuli.sketches import picture, sketch
from stimuli.trials import Draw

pytestmark = [pytest.mark.browser, pytest.mark.long]
SIZE = 200
CROSS = (((40, 40), (160, 160)), ((160, 40), (40, 160)))


arrive = types.arrive
types.PNG[200] = encode_png(picture(sketch("glyph-5-000/0000"), SIZE))
types.HASH[200] = sha256_bytes(types.PNG[200])
SEEN = {"phase": "test", "image": types.HASH[200], "size": [SIZE, SIZE]}
MEMORY = {**SEEN, "exemplar_ms": 400}
Come = Callable[..., Any]


@pytest.fixture
def come(arrive: Come) -> Come:
    """Come to the first drawing."""

    def play(trials: Sequence[Mapping[str, Any]], **more: Any) -> Any:
        return arrive([("draw", trial) for trial in trials], **more).begin()

    return play


def checked(body: Mapping[str, Any], payload: Mapping[str, Any]) -> list[np.ndarray]:
    """The lines of a drawing, after what every drawing must keep."""
    shown = Draw.model_validate_json(json.dumps(payload))
    assert shown.fault(body["response"], body) == ""
    assert body["rt_ms"] >= body["open_ms"] >= shown.exemplar_ms
    assert all(point[0] <= body["drawn_ms"] + 1 for line in body["strokes"] for point in line)
    return [np.array(line) for line in body["strokes"]]


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    box = page.locator("canvas.paper").bounding_box()
    return box["x"] + x / SIZE * box["width"], box["y"] + y / SIZE * box["height"]


def draw(page: Any, *lines: Sequence[tuple[float, float]]) -> None:
    for first, *others in lines:
        page.mouse.move(*at(page, *first))
        page.mouse.down()
        for point in others:
            page.mouse.move(*at(page, *point), steps=8)
        page.mouse.up()


def lines_are(page: Any, count: int) -> None:
    page.wait_for_selector(f".left:has-text('{count} line')")


def dark(page: Any) -> float:
    """The share of ink on the screen."""
    script = """() => { const c = document.querySelector('canvas.paper'); const d = c.getContext('2d')
      .getImageData(0, 0, c.width, c.height).data; let n = 0;
      for (let i = 0; i < d.length; i += 4) if (d[i] < 100) n++; return n / (c.width * c.height); }"""
    return float(page.evaluate(script))


def test_lines_of_the_mouse_are_stored_as_points_with_times(come: Come) -> None:
    visitor = come([SEEN])
    page = visitor.page
    page.wait_for_selector("canvas.paper:focus")
    assert page.locator(".finish").is_disabled()
    draw(page, *CROSS)
    lines_are(page, 2)
    assert dark(page) > 0.02
    page.locator(".finish").click()
    body = visitor.end()[0]
    lines = checked(body, SEEN)
    assert (body["response"], body["input"], body["erased"]) == ("done", "mouse", 0)
    assert len(lines) == 2
    for line, (start, end) in zip(lines, CROSS, strict=True):
        assert np.abs(line[[0, -1], 1:] - np.array([start, end])).max() <= 2
        assert len(line) >= 8
    assert body["scale"] == pytest.approx(body["canvas"]["width"] / SIZE, rel=0.02)


def test_lines_can_be_taken_back_and_cleared(come: Come) -> None:
    visitor = come([SEEN])
    page = visitor.page
    draw(page, *CROSS)
    page.locator(".undo").click()
    lines_are(page, 1)
    page.locator(".clear").click()
    lines_are(page, 0)
    assert dark(page) == 0
    assert page.locator(".finish").is_disabled()
    draw(page, CROSS[1])
    page.locator(".finish").click()
    body = visitor.end()[0]
    assert len(checked(body, SEEN)) == 1
    assert (body["erased"], body["changes"]) == (2, 2)


def test_a_drawing_goes_by_keyboard(come: Come) -> None:
    visitor = come([SEEN])
    page = visitor.page
    page.wait_for_selector("canvas.paper:focus")
    for key in ("Shift+ArrowLeft", "Space", "ArrowDown", "ArrowDown", "Shift+ArrowDown", "Space", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector(".status:text('The pen is up')")
    for key in ("Space", "ArrowUp", "Space"):
        page.keyboard.press(key)
    lines_are(page, 2)
    page.keyboard.press("Backspace")
    lines_are(page, 1)
    page.locator(".finish").focus()
    page.keyboard.press("Enter")
    body = visitor.end()[0]
    (line,) = checked(body, SEEN)
    assert body["input"] == "key"
    assert np.abs(line[:, 1:] - [[87.5, 100], [87.5, 102.5], [87.5, 105], [87.5, 117.5]]).max() <= 0.5


def test_from_memory_the_exemplar_goes_before_the_canvas_comes(come: Come) -> None:
    visitor = come([MEMORY])
    page = visitor.page
    assert page.locator(".example .picture").is_visible()
    assert page.locator("canvas.paper").is_hidden()
    page.wait_for_selector("canvas.paper:focus")
    assert page.locator(".example").count() == 0
    draw(page, CROSS[0])
    page.locator(".finish").click()
    body = visitor.end()[0]
    checked(body, MEMORY)
    assert body["exemplar_ms"] == pytest.approx(body["open_ms"], abs=1)
    assert body["exemplar_ms"] >= 400


def test_a_drawing_ends_when_its_time_is_up_and_may_be_skipped(come: Come) -> None:
    short = {**SEEN, "limit_ms": 1000}
    visitor = come([short, SEEN])
    visitor.page.wait_for_selector(".status.result")
    visitor.page.wait_for_selector(".position:text-is('2 of 2')")
    visitor.page.locator(".skip:enabled").click()
    late, skipped = visitor.end()
    checked(late, short)
    assert (late["response"], late["timed_out"], late["strokes"]) == ("timeout", True, [])
    assert skipped["response"] == "skipped"


def test_fingers_draw_on_a_phone_and_the_page_stays(come: Come) -> None:
    visitor = come([SEEN], **types.PHONE)
    page = visitor.page
    page.wait_for_selector("canvas.paper")
    sender = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [dict(zip(("x", "y"), at(page, *place), strict=True)) for place in places]
        sender.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (40, 40))
    for step in range(1, 9):
        touch("touchMove", (40 + 10 * step, 40 + 14 * step))
    touch("touchEnd")
    lines_are(page, 1)
    assert page.evaluate("window.scrollY") == 0
    page.locator(".finish").tap()
    body = visitor.end()[0]
    (line,) = checked(body, SEEN)
    assert body["input"] == "touch"
    assert np.abs(line[[0, -1], 1:] - np.array([[40, 40], [120, 152]])).max() <= 2


def test_a_full_drawing_takes_no_more_and_says_so(come: Come) -> None:
    small = {**SEEN, "max_points": 6}
    visitor = come([small])
    page = visitor.page
    draw(page, CROSS[0])
    page.wait_for_selector(".status:text('cannot hold more')")
    draw(page, CROSS[1])
    lines_are(page, 1)
    page.locator(".finish").click()
    assert sum(map(len, checked(visitor.end()[0], small))) == 6


@pytest.mark.parametrize("mode", ["visual", "data-only"])
def test_simulated_people_draw_what_counts(arrive: Come, mode: str) -> None:
    trials = [SEEN, MEMORY]
    visitor = arrive([("draw", trial) for trial in trials], query=f"participant=p1&simulate={mode}")
    visitor.page.wait_for_selector("#code", timeout=30_000)
    for trial, body in zip(trials, visitor.site.bodies(), strict=True):
        checked(body, trial)
        assert body["response"] == "done"


@pytest.mark.parametrize("screen", [{}, types.PHONE, {"color_scheme": "dark"}])
def test_assistive_technology_finds_no_fault(come: Come, screen: Mapping[str, Any]) -> None:
    visitor = come([{**MEMORY, "exemplar_ms": 3000}], **screen)
    for _ in range(2):
        visitor.page.evaluate(types.AXE.read_text())
        found = visitor.page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
        assert found == []
        visitor.page.wait_for_selector("canvas.paper:focus")

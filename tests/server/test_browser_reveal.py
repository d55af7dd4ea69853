"""Reveal trials in Chromium: by mouse, keyboard and touch, with an oracle and without, on drawings, and what the rows say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import test_browser_types as types
from bench.images import encode_png
from bench.store import sha256_bytes
from psychophysics_server.web.oracle import OracleAnswer, OracleSilent
from stimuli.masks import revealed_mask
from stimuli.strokes import strokes_fault
from stimuli.trials import Reveal

pytestmark = [pytest.mark.browser, pytest.mark.long]


arrive = types.arrive
SIZE = 96


def drawing() -> bytes:
    """A house in black lines on white."""
    picture = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
    for i in range(3):
        picture[40 + i, 20:76] = picture[84 + i, 20:76] = 0
        picture[40:86, 20 + i] = picture[40:86, 74 + i] = 0
    for step in range(28):
        picture[12 + step : 15 + step, [48 - step, 48 + step]] = 0
    return encode_png(picture)


types.PNG[100] = drawing()
types.HASH[100] = sha256_bytes(types.PNG[100])
PLAIN = {"phase": "test", "image": types.HASH[100], "word": "house", "size": [SIZE, SIZE], "limit_ms": 60_000}
ASKING = {**PLAIN, "oracle": True}
MARKING = {**PLAIN, "mode": "click"}


class Told:
    """An oracle that recognises anything in 20 boxes, and nothing at first."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent, self.asked = silent, []

    def ask(self, picture: Any, boxes: Any, *, box_px: int, word: str) -> OracleAnswer:
        self.asked.append(len(boxes))
        if self.silent:
            raise OracleSilent("no network")
        won = len(boxes) >= 20
        return OracleAnswer(top=(("a house", 0.5),), rank=1 if won else 9, won=won)


@pytest.fixture
def play(arrive):
    """Come to the first round; `oracle` is asked by the server."""

    def come(trials, *, oracle=None, **more):
        visitor = arrive([("reveal", trial) for trial in trials], **more)
        config = visitor.site.app.extensions["limen"].config
        object.__setattr__(config, "oracle", oracle)
        visitor.begin()
        visitor.page.wait_for_selector(".begin:enabled")
        return visitor

    return come


def checked(body: dict[str, Any], payload: dict[str, Any]) -> np.ndarray:
    """The mask of a round, after what every round must keep."""
    shown = Reveal.model_validate_json(json.dumps(payload))
    assert strokes_fault(shown, body["strokes"]) == ""
    assert body["rt_ms"] >= body["start_ms"] >= 0
    assert 0 <= body["played_ms"] <= shown.limit_ms
    assert all(t <= body["played_ms"] + 1 for t, _, _ in body["strokes"])
    times = np.diff([t for t, _, _ in body["strokes"]])
    if shown.mode == "reveal":
        assert (times > 0).all()
        assert all(a[1:] != b[1:] for a, b in zip(body["strokes"], body["strokes"][1:], strict=False))
    return revealed_mask(body["strokes"], shown.size, shown.box_px)


def on_canvas(page: Any, x: float, y: float) -> tuple[float, float]:
    box = page.locator("canvas.cover").bounding_box()
    return box["x"] + (x + 0.5) / SIZE * box["width"], box["y"] + (y + 0.5) / SIZE * box["height"]


def sweep(page: Any, *places: tuple[float, float], until: str, most: int = 400) -> None:
    """Move over places again and again until a selector is there."""
    for i in range(most):
        if page.locator(until).count():
            return
        page.mouse.move(*on_canvas(page, *places[i % len(places)]))
        page.wait_for_timeout(20)
    raise AssertionError(f"no {until}")


def boxes_are(page: Any, least: int) -> None:
    """Wait until so many boxes are uncovered, told by the white of the picture."""
    script = """least => { const c = document.querySelector('canvas.cover'); const d = c.getContext('2d')
      .getImageData(0, 0, c.width, c.height).data; let n = 0;
      for (let i = 0; i < d.length; i += 4) if (d[i] > 250 && d[i + 1] > 250 && d[i + 2] > 250) n++;
      return n > least * c.width * c.height; }"""
    page.wait_for_function(script, arg=least)


def test_a_drawing_is_uncovered_with_the_mouse(play):
    visitor = play([PLAIN])
    page = visitor.page
    page.locator(".begin").click()
    for x, y in ((20, 40), (75, 40), (48, 80)):
        page.mouse.move(*on_canvas(page, x, y))
        page.wait_for_timeout(300)
    boxes_are(page, 0.03)
    page.locator(".finish").click()
    body = visitor.end()[0]
    mask = checked(body, PLAIN)
    assert (body["response"], body["input"], body["timed_out"]) == ("done", "mouse", False)
    assert 0.02 < mask.mean() < 0.9
    assert body["scale"] == pytest.approx(body["canvas"]["width"] / SIZE, rel=0.02)


def test_the_oracle_ends_a_round_that_it_recognises(play):
    oracle = Told()
    visitor = play([ASKING], oracle=oracle)
    visitor.page.locator(".begin").click()
    sweep(visitor.page, (10, 10), (80, 15), (80, 80), (10, 80), until=".result.won")
    assert "points" in visitor.page.locator(".result").inner_text()
    body = visitor.end()[0]
    checked(body, ASKING)
    assert body["response"] == "won"
    assert len(body["strokes"]) == 20
    assert [call[1:3] for call in body["oracle"]] == [[10, 9], [20, 1]]
    assert oracle.asked == [10, 20]
    assert body["points"] == round(100 * (1 - body["played_ms"] / 60_000))
    assert body["oracle"][1][0] == pytest.approx(body["played_ms"], abs=1)


def test_a_dimmed_picture_is_lit_up_and_the_machine_says_what_it_sees(play):
    visitor = play([{**ASKING, "visible": True, "told": True}], oracle=Told())
    page = visitor.page
    assert page.locator("h1").inner_text() == "Light up what shows that this is: house"
    darkest = """() => { const c = document.querySelector('canvas.cover');
      const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let least = 255; for (let i = 0; i < d.length; i += 4) least = Math.min(least, d[i]);
      return least; }"""
    assert page.evaluate(darkest) < 40  # lines under the veil; the cover of a hidden picture has no tone so dark
    assert page.locator(".said").inner_text() == "The machine has seen nothing yet."
    page.locator(".begin").click()
    for i in range(200):
        page.mouse.move(*on_canvas(page, *((20, 40), (75, 40))[i // 6 % 2]))
        page.wait_for_timeout(20)
        if "a house" in page.locator(".said").inner_text():
            break
    assert page.locator(".said").inner_text() == "The machine says: a house"
    page.locator(".skip").click()
    assert visitor.end()[0]["response"] == "skipped"


def test_a_silent_oracle_costs_no_time_and_the_round_can_be_skipped(play):
    visitor = play([ASKING], oracle=Told(silent=True))
    page = visitor.page
    page.locator(".begin").click()
    page.mouse.move(*on_canvas(page, 80, 80))
    page.wait_for_timeout(900)
    page.mouse.move(*on_canvas(page, 5, 80))
    boxes_are(page, 0.04)
    page.locator(".skip").click()
    body = visitor.end()[0]
    checked(body, ASKING)
    waited = sum(call[3] for call in body["oracle"])
    assert body["response"] == "skipped"
    assert all(call[2] is None for call in body["oracle"])
    assert body["rt_ms"] - body["start_ms"] == pytest.approx(body["played_ms"] + waited, abs=150)


def test_the_whole_round_goes_by_keyboard(play):
    visitor = play([PLAIN, MARKING])
    page = visitor.page
    page.keyboard.press("Space")
    page.wait_for_selector(".begin", state="detached")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        page.wait_for_timeout(120)
    page.keyboard.press("Space")
    page.wait_for_selector(".status:text('Paused')")
    page.keyboard.press("Space")
    page.locator(".finish").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".position:text-is('2 of 2')")
    page.wait_for_selector(".begin:enabled")
    page.keyboard.press("Space")
    for key in ("ArrowLeft", "Space", "ArrowDown", "Space", "Space", "Backspace"):
        page.keyboard.press(key)
    page.locator(".finish").focus()
    page.keyboard.press("Enter")
    uncovered, marked = visitor.end()
    checked(uncovered, PLAIN)
    assert (uncovered["input"], uncovered["pauses"]) == ("key", 1)
    # Two keys within one sample are one step along both axes, and a key that a busy machine holds longer goes on.
    places = np.array([stroke[1:] for stroke in uncovered["strokes"]])
    left, up = (48 - places[-1]) / 7
    assert len(places) >= 4
    assert (left, up) == (round(left), round(up))
    assert left >= 2
    assert up >= 3
    assert np.abs(np.diff(places, axis=0)).max() <= 7
    checked(marked, MARKING)
    assert [stroke[1:] for stroke in marked["strokes"]] == [[41, 48], [41, 55]]
    assert marked["changes"] == 1


def test_places_are_marked_by_touch_on_a_phone(play):
    visitor = play([MARKING], **types.PHONE)
    page = visitor.page
    page.locator(".begin").tap()
    for x, y in ((20, 40), (60, 70)):
        page.touchscreen.tap(*on_canvas(page, x, y))
    page.locator(".finish").tap()
    body = visitor.end()[0]
    checked(body, MARKING)
    assert body["input"] == "touch"
    assert np.abs(np.array(body["strokes"])[:, 1:] - [[20, 40], [60, 70]]).max() <= 1


def test_a_round_ends_when_its_time_is_up(play):
    short = {**PLAIN, "limit_ms": 600}
    visitor = play([short])
    visitor.page.locator(".begin").click()
    visitor.page.wait_for_selector(".result.timeout")
    body = visitor.end()[0]
    checked(body, short)
    assert (body["response"], body["played_ms"], body["timed_out"]) == ("timeout", 600, True)


@pytest.mark.parametrize("mode", ["visual", "data-only"])
def test_simulated_people_play_rounds_that_count(arrive, mode):
    quick = [{**trial, "limit_ms": 3000, "sample_ms": 20} for trial in (PLAIN, MARKING)]
    visitor = arrive([("reveal", trial) for trial in quick], query=f"participant=p1&simulate={mode}")
    visitor.page.wait_for_selector("#code", timeout=30_000)
    for trial, body in zip(quick, visitor.site.bodies(), strict=True):
        checked(body, trial)
        assert body["response"] == "done"


@pytest.mark.parametrize("screen", [{}, types.PHONE])
def test_assistive_technology_finds_no_fault(play, screen):
    visitor = play([PLAIN], **screen)
    for _ in range(2):
        visitor.page.evaluate(types.AXE.read_text())
        found = visitor.page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
        assert found == []
        if visitor.page.locator(".begin").count():
            visitor.page.locator(".begin").click()

"""Forced choice and choice in Chromium: every form of them by mouse, by keyboard and on a phone, and what the rows say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

import make_screenshots as walker
from bench.images import encode_png
from bench.records import columns
from bench.store import Store, sha256_bytes
from psychophysics_server.app import create_app
from psychophysics_server.storage.tables import codes, events
from psychophysics_server.study.frozen import FrozenStudy, Library
from psychophysics_server.web.server import ServerConfig
from stimuli.records import CellRow, TrialRow
from stimuli.trials import parse_payload, pictures_of

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
PAGE = {"title": "Title", "body": "One paragraph."}
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
LATE = 3
"""Frames that a busy machine may be late with what it shows; more of them lengthen it, and the record says both."""


def grating(number: int, size: int = 96) -> bytes:
    """Draw a coloured grating of its own for each number, as a PNG."""
    chance = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size] / size
    angle, waves = chance.uniform(0, np.pi), chance.uniform(2, 9)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
    one, two = chance.uniform(0, 255, size=(2, 3))
    return encode_png((wave[..., None] * one + (1 - wave[..., None]) * two).astype(np.uint8))


PNG = {number: grating(number, 28 if 20 <= number < 25 else 160) for number in range(40)}
"""Most are as large as they are shown, or larger; 20 to 24 are small ones, whose pixels are to stay squares."""
HASH = {number: sha256_bytes(png) for number, png in PNG.items()}


def grid(polarity: str, label: str, numbers: Sequence[int]) -> dict[str, Any]:
    return {"polarity": polarity, "label": label, "pictures": [HASH[n] for n in numbers]}


def forced(**more: Any) -> dict[str, Any]:
    """Return a forced choice without references."""
    return {"phase": "test", "options": ["left-id", "right-id"], "queries": [HASH[0], HASH[1]], **more}


BOTH = [grid("min", "Weakly activating", range(2, 11)), grid("max", "Strongly activating", range(11, 20))]
INTRUDER = {
    "phase": "test",
    "question": "Which one does not belong to the others?",
    "options": [f"o{i}" for i in range(5)],
    "faces": [{"pictures": [HASH[20 + i]]} for i in range(5)],
}
RATING = {
    "phase": "test",
    "question": "Is the prediction right?",
    "panels": [
        {"label": "The picture", "pictures": [HASH[25]]},
        {"label": "What mattered", "pictures": [HASH[26]], "text": "The machine answered **boat**."},
        {"label": "Examples of boats", "pictures": [HASH[27], HASH[28], HASH[29], HASH[30]]},
    ],
    "options": ["1", "2", "3", "4"],
    "faces": [{"label": str(i)} for i in range(1, 5)],
    "layout": "scale",
    "low": "surely wrong",
    "high": "surely right",
}
DISTINCTION = {
    "phase": "test",
    "question": "Which class is right?",
    "panels": [{"label": "The picture", "pictures": [HASH[25]]}],
    "options": ["a", "b", "c", "d"],
    "faces": [{"label": name, "pictures": [HASH[26 + i]]} for i, name in enumerate(("boat", "kite", "dog", "cat"))],
    "layout": "row",
}
SLIDER = {**INTRUDER, "confidence": {"slider": True, "low": "a guess", "high": "certain"}, "layout": "row"}
FREE = {
    "phase": "test",
    "question": "What did the pictures have in common?",
    "options": [],
    "panels": [{"pictures": [HASH[i] for i in range(20, 24)]}],
    "entry": {"label": "Your description", "required": True, "max_length": 200},
}
NUMBER = {
    "phase": "test",
    "question": "How accurate would a machine without explanations have to be?",
    "options": [],
    "entry": {"label": "Accuracy in %", "kind": "number", "required": True, "minimum": 0, "maximum": 100},
}
SPEEDED: dict[str, Any] = {
    "phase": "test",
    "question": "Animal or not?",
    "panels": [{"pictures": [HASH[31]]}],
    "options": ["animal", "other"],
    "faces": [{"label": "Animal"}, {"label": "No animal"}],
    "speed": {"fixation_ms": 300, "stimulus_ms": 100, "mask": HASH[32], "mask_ms": 100, "deadline_ms": 1500},
}
ALL: dict[str, tuple[str, dict[str, Any]]] = {
    "both_grids": ("forced_choice", forced(references=BOTH, confidence={"levels": 3}, arrangement="stacked")),
    "max_only_beside": ("forced_choice", forced(references=BOTH[1:], confidence={"levels": 3})),
    "one_and_four": (
        "forced_choice",
        forced(references=[grid("min", "Weak", [2]), grid("max", "Strong", range(11, 15))], arrangement="stacked"),
    ),
    "occluders": (
        "forced_choice",
        forced(
            references=[
                grid("max", "Favourites of the machine", range(11, 20)),
                grid("base", "One more favourite", [33]),
            ],
            confidence={"levels": 3},
        ),
    ),
    "bare": ("forced_choice", forced()),
    "bare_slider": ("forced_choice", forced(confidence={"slider": True})),
    "intruder": ("choice", INTRUDER),
    "rating": ("choice", RATING),
    "distinction": ("choice", DISTINCTION),
    "slider": ("choice", SLIDER),
    "free": ("choice", FREE),
    "number": ("choice", NUMBER),
    "sixteen": (
        "choice",
        {
            "phase": "test",
            "options": [f"o{i}" for i in range(16)],
            "faces": [{"label": f"class {i}", "pictures": [HASH[i]]} for i in range(16)],
            "layout": "grid",
        },
    ),
    "list": (
        "choice",
        {
            "phase": "test",
            "question": "How do you like it?",
            "options": ["a", "b", "c"],
            "faces": [{"text": text} for text in ("Very much", "Somewhat", "Not at all, and this is why it is long")],
            "layout": "list",
            "confidence": {"levels": 5, "low": "unsure", "high": "certain"},
        },
    ),
    "speeded": ("choice", SPEEDED),
}


def build_study(root: Path, trials: Sequence[tuple[str, Mapping[str, Any]]], **changes: Any) -> FrozenStudy:
    """Write a stimulus set of one cell with these trials, `(type, payload)`, and open it; the first option is right."""
    facts = {
        "study": "types",
        "version": 1,
        "protocol": "utility",
        "title": "Types of trials",
        "run": "demo",
        "conditions": ["baseline", "other"],
        "texts": {"consent": PAGE, "instructions": [PAGE], "debrief": PAGE, "contact": "lab@example.org"},
        **changes,
    }
    rows = [_row(i, trial_type, payload, len(trials)) for i, (trial_type, payload) in enumerate(trials)]
    library = Library(Store(root))
    with library.store.write("stimuli", facts) as draft:
        draft.write_rows(pd.DataFrame(rows, columns=columns(TrialRow)), "trials.parquet")
        draft.write_rows(
            pd.DataFrame([vars(CellRow(cell="c", condition="baseline", list=0, quota=99))]), "cells.parquet"
        )
        for name in {name for row in rows for name in pictures_of(json.loads(row["payload"]))}:
            draft.write_bytes(next(png for n, png in PNG.items() if HASH[n] == name), f"pictures/{name}.png")
        draft.write_json(facts, "study.json")
        draft.write_json({"protocol": "utility"}, "protocol.json")
    return library.newest("types")


def _row(place: int, trial_type: str, payload: Mapping[str, Any], count: int) -> dict[str, Any]:
    whole = {"session": 1, "index": place + 1, "count": count, **payload}
    shown = parse_payload(trial_type, whole)
    answer = {"expected": shown.options[0]} if shown.options else {}
    return {
        "cell": "c",
        "condition": "baseline",
        "list": 0,
        "position": place,
        "block": shown.phase,
        "session": 0 if shown.phase == "practice" else 1,
        "phase": shown.phase,
        "trial_type": trial_type,
        "trial_id": f"t{place:03}",
        "item_id": f"item-{place}",
        "is_catch": False,
        "k_seen": 0,
        "payload": shown.model_dump_json(),
        "answer": json.dumps(answer),
        "factors": "{}",
    }


@dataclass
class Site:
    """A study served on loopback, and what a test wants to know of its data base."""

    url: str
    study: FrozenStudy
    app: Any

    def rows(self, table: Any) -> list[Any]:
        with self.app.extensions["limen"].database.read() as connection:
            return list(connection.execute(select(table)))

    def bodies(self, kind: str = "trial") -> list[dict[str, Any]]:
        rows = sorted(self.rows(events), key=lambda row: row.seq)
        assert all(not row.fault for row in rows), [row.fault for row in rows if row.fault]
        return [json.loads(row.body) for row in rows if row.kind == kind]


@contextmanager
def serving(study: FrozenStudy, folder: Path, answering: Callable[..., Any]) -> Iterator[Site]:
    """Serve a study."""
    library = Library(study.artifact.path.parent.parent)
    config = ServerConfig(
        library=library, study=library.by_key(study.key), database=folder / "r.sqlite", disk_limit_mb=0.0
    )
    app = create_app(config)
    try:
        with answering(app) as url:
            yield Site(f"{url}/study/{study.file.study}/", study, app)
    finally:
        app.extensions["limen"].close()


@dataclass
class Visitor:
    """A person at a screen who takes trials of these types."""

    site: Site
    page: Any

    def read(self, until: str) -> Visitor:
        """Press the first button of every page of text until there is such a screen."""
        go_on = ".page .actions .primary:enabled"
        for _ in range(walker.MOST_SCREENS):
            self.page.wait_for_selector(f"{until}, {go_on}", state="attached")
            if self.page.locator(until).count():
                return self
            page = walker.serial(self.page)
            self.page.locator(go_on).click()
            page.wait_for_element_state("hidden")
        raise AssertionError(f"no {until} within {walker.MOST_SCREENS} screens")

    def begin(self) -> Visitor:
        """Go on to the next trial, as soon as it is there."""
        return self.read("[data-page=test], [data-page=practice]")

    def wait(self, number: int, count: int) -> None:
        """Wait until trial `number` of `count` takes an answer."""
        self.page.wait_for_selector(f".trial .position:text-is('{number} of {count}')")
        self.page.wait_for_selector(".trial .option:enabled, .trial #entry:enabled")

    def end(self) -> list[dict[str, Any]]:
        """Go on to the completion code and return the bodies of the trials."""
        self.page.wait_for_selector(".page .actions .primary:enabled", timeout=30_000)
        self.read("#code")
        assert self.site.rows(codes)[0].code == self.page.locator("#code").inner_text()
        return self.site.bodies()


@pytest.fixture
def arrive(chromium: Any, tmp_path: Path, answering: Callable[..., Any]) -> Iterator[Callable[..., Visitor]]:
    """Serve trials and open a window on them; fails if the page complained on the console."""
    complaints: list[str] = []
    closing: list[Callable[..., Any]] = []

    def come(trials: Sequence[tuple[str, Mapping[str, Any]]], query: str = "participant=p1", **more: Any) -> Visitor:
        facts = more.pop("facts", {})
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | more))
        server = serving(build_study(tmp_path / "store", trials, **facts), tmp_path, answering)
        site = server.__enter__()
        closing.extend([context.close, lambda: server.__exit__(None, None, None)])
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.extend([said.text] if said.type == "error" else []))
        page.goto(f"{site.url}?{query}")
        return Visitor(site, page)

    yield come
    for close in closing:
        close()
    assert [said for said in complaints if "Failed to load resource" not in said] == []


def take_by_mouse(page: Any, payload: Mapping[str, Any], *, tap: bool = False) -> None:
    """Answer with the second option and the confidence of its second step, by mouse or by touch."""

    def press(locator: Any) -> None:
        locator.tap() if tap else locator.click()

    confidence = payload.get("confidence") or {}
    if "queries" in payload and confidence and not confidence.get("slider"):
        press(page.get_by_role("button", name="Picture B, confidence 2"))
        return
    if payload["options"]:
        press(page.locator(".option").nth(1))
    if confidence.get("slider"):
        box = page.locator(".slider").bounding_box()
        middle = (box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
        page.touchscreen.tap(*middle) if tap else page.mouse.click(*middle)
    elif confidence:
        press(page.locator(".confidence .step").nth(1))
    if payload.get("entry"):
        page.locator("#entry").fill("42")
    if confidence or payload.get("entry"):
        press(page.locator(".submit"))


def take_by_keyboard(page: Any, payload: Mapping[str, Any]) -> None:
    """Answer with the second option and the confidence of its second step, by keys alone."""
    keyboard, confidence = page.keyboard, payload.get("confidence") or {}
    if "queries" in payload and confidence and not confidence.get("slider"):
        keyboard.press("k")
        return
    if payload["options"]:
        sided = "queries" in payload or (len(payload["options"]) == 2 and payload.get("layout", "row") == "row")
        keyboard.press("j" if sided else "2")
    if confidence.get("slider"):
        go_to(page, ".slider")
        keyboard.press("End")
        keyboard.press("ArrowLeft")
    elif confidence:
        go_to(page, ".confidence .step:nth-child(2)")
        keyboard.press("Space")
    if payload.get("entry"):
        go_to(page, "#entry")
        keyboard.type("42")
    if confidence or payload.get("entry"):
        go_to(page, ".submit")
        keyboard.press("Enter")


def go_to(page: Any, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(60):
        if page.evaluate("selector => document.activeElement?.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never comes to {selector}")


LEISURELY = [name for name in ALL if name != "speeded"]


def check_row(name: str, body: Mapping[str, Any], *, inputs: set[str]) -> None:
    """Hold a row against what was answered: always the second option and its second step."""
    _, payload = ALL[name]
    confidence, entry = payload.get("confidence"), payload.get("entry")
    assert body["response"] == (payload["options"][1] if payload["options"] else "")
    assert body["input"] in inputs, name
    assert 0 <= body["rt_ms"] <= body["submit_ms"]
    assert body["frame_ms"] is None or 2 < body["frame_ms"] < 1000
    assert (body["timed_out"], body["changes"], body["load_failures"], body["load_faults"]) == (False, 0, 0, [])
    assert body["text"] == ("42" if entry else "")
    if confidence is None:
        assert body["confidence"] is None
    elif confidence.get("slider"):
        assert 70 <= body["confidence"] <= 99
    else:
        assert body["confidence"] == 2
    if "queries" in payload:
        assert body["side"] == ("bottom" if payload.get("arrangement") == "stacked" else "right")
        assert body["signed_confidence"] == body["confidence"]
    shown = {picture["sha256"] for picture in body["pictures"]}
    assert shown == set(pictures_of(json.loads(parse_payload(*ALL[name]).model_dump_json())))
    for picture in body["pictures"]:
        assert picture["width"] > 20
        assert picture["device_width"] == pytest.approx(picture["width"] * body["pixel_ratio"])
    assert len({picture["role"] for picture in body["pictures"]}) == len(body["pictures"])


def test_every_form_is_taken_by_mouse_and_the_rows_say_what_was_done(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL[name] for name in LEISURELY]).begin()
    for number, name in enumerate(LEISURELY, start=1):
        visitor.wait(number, len(LEISURELY))
        assert visitor.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), name
        take_by_mouse(visitor.page, ALL[name][1])
    for name, body in zip(LEISURELY, visitor.end(), strict=True):
        check_row(name, body, inputs={"mouse"})


def test_trials_with_references_fit_a_window_of_940_by_600(arrive: Callable[..., Visitor]) -> None:
    names = [name for name in ALL if ALL[name][0] == "forced_choice"]
    visitor = arrive([ALL[name] for name in names], viewport={"width": 940, "height": 600}).begin()
    for number, name in enumerate(names, start=1):
        visitor.wait(number, len(names))
        assert visitor.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), name
        assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        take_by_mouse(visitor.page, ALL[name][1])


def test_every_form_is_taken_by_keyboard_alone(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL[name] for name in LEISURELY]).begin()
    for number, name in enumerate(LEISURELY, start=1):
        visitor.wait(number, len(LEISURELY))
        take_by_keyboard(visitor.page, ALL[name][1])
    for name, body in zip(LEISURELY, visitor.end(), strict=True):
        check_row(name, body, inputs={"key"})


def test_every_form_is_taken_on_a_phone_by_touch(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL[name] for name in LEISURELY], **PHONE).begin()
    small = """nodes => nodes.map(n => n.getBoundingClientRect())
        .filter(r => r.height && (r.height < 44 || r.width < 44)).length"""
    for number, name in enumerate(LEISURELY, start=1):
        visitor.wait(number, len(LEISURELY))
        page = visitor.page
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        edge = "nodes => Math.max(0, ...nodes.map(node => node.getBoundingClientRect().right))"
        assert page.locator(".trial button, .trial img").evaluate_all(edge) <= 390 - 12, name
        assert page.locator("button, input, textarea").evaluate_all(small) == 0, name
        take_by_mouse(page, ALL[name][1], tap=True)
    for name, body in zip(LEISURELY, visitor.end(), strict=True):
        check_row(name, body, inputs={"touch"})
        assert body["pixel_ratio"] == 2


def test_pages_have_no_accessibility_violation_in_light_and_dark(arrive: Callable[..., Visitor]) -> None:
    if not AXE.is_file():
        pytest.skip("ACCESSIBILITY NOT TESTED: axe-core is not installed")
    visitor = arrive([ALL[name] for name in LEISURELY], reduced_motion="reduce", bypass_csp=True).begin()
    found: dict[str, list[str]] = {}
    for number, name in enumerate(LEISURELY, start=1):
        visitor.wait(number, len(LEISURELY))
        visitor.page.add_script_tag(path=str(AXE)) if number == 1 else None
        for scheme in ("light", "dark"):
            visitor.page.emulate_media(color_scheme=scheme)
            faults = visitor.page.evaluate("axe.run().then(r => r.violations.map(v => `${v.id}: ${v.nodes[0].html}`))")
            if faults:
                found[f"{name} {scheme}"] = faults
        take_by_mouse(visitor.page, ALL[name][1])
    assert found == {}


def speeded(**more: Any) -> tuple[str, dict[str, Any]]:
    """Return a speeded trial with other timing or questions."""
    timing = {key: more.pop(key) for key in list(more) if key.endswith("_ms") or key == "last_counts"}
    return "choice", {**SPEEDED, "speed": SPEEDED["speed"] | timing, **more}


def durations(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {phase["name"]: phase for phase in body["phases"]}


def test_a_speeded_trial_shows_each_thing_for_the_frames_that_were_asked_for(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded()] * 3).begin()
    for _ in range(3):
        visitor.page.wait_for_selector("[data-now=answer]")
        screen = walker.serial(visitor.page)
        visitor.page.keyboard.press("j")
        screen.wait_for_element_state("hidden")
    bodies = visitor.end()
    assert len(bodies) == 3
    for body in bodies:
        phases, frame = durations(body), body["phase_frame_ms"]
        assert list(phases) == ["fixation", "stimulus", "mask", "answer"]
        for name, ms in (("fixation", 300), ("stimulus", 100), ("mask", 100)):
            assert phases[name]["requested_ms"] == ms
            assert phases[name]["requested_frames"] == round(ms / frame)
            assert phases[name]["achieved_frames"] >= phases[name]["requested_frames"] - LATE
            assert phases[name]["achieved_ms"] == pytest.approx(phases[name]["achieved_frames"] * frame, abs=frame)
        assert phases["stimulus"]["onset_ms"] == body["onset_ms"]
        assert phases["answer"]["onset_ms"] <= body["onset_ms"] + body["rt_ms"]
        assert (body["response"], body["side"], body["input"], body["timed_out"]) == ("other", "right", "key", False)
        assert {picture["role"] for picture in body["pictures"]} == {"panel-1", "mask"}
    off = [durations(body)["stimulus"]["achieved_frames"] - round(100 / body["phase_frame_ms"]) for body in bodies]
    assert min(map(abs, off)) <= 1


def test_only_what_is_due_is_seen_in_a_speeded_trial(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded(fixation_ms=600, stimulus_ms=600, mask_ms=600)]).begin()
    parts = {"fixation": ".cross", "stimulus": ".panels", "mask": ".mask", "answer": ".options"}
    for now in parts:
        visitor.page.wait_for_selector(f"[data-now={now}]")
        look = "parts => parts.map(part => getComputedStyle(document.querySelector(part)).visibility)"
        seen = visitor.page.evaluate(look, list(parts.values()))
        assert seen == ["visible" if name == now else "hidden" for name in parts]


def test_a_late_answer_is_told_and_kept_and_does_not_count(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded(deadline_ms=200), speeded(deadline_ms=200)]).begin()
    visitor.page.wait_for_selector(".told.slow")
    visitor.page.keyboard.press("f")
    visitor.page.wait_for_selector(".trial .position:text-is('2 of 2')")
    late, never = visitor.end()
    assert (late["response"], late["timed_out"], late["rt_ms"]) == ("na", True, None)
    assert late["late_response"] == "animal"
    assert late["late_rt_ms"] > 400
    assert (never["response"], never["late_response"], never["late_rt_ms"]) == ("na", "", None)
    assert durations(never)["answer"]["achieved_frames"] >= durations(never)["answer"]["requested_frames"] - LATE


def test_an_answer_during_the_stimulus_counts_and_does_not_cut_it_short(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded(stimulus_ms=600)]).begin()
    visitor.page.wait_for_selector("[data-now=stimulus]")
    visitor.page.keyboard.press("f")
    (body,) = visitor.end()
    assert body["response"] == "animal"
    assert 0 <= body["rt_ms"] < 600
    phases = durations(body)
    assert list(phases) == ["fixation", "stimulus", "mask"]
    assert phases["stimulus"]["achieved_frames"] >= phases["stimulus"]["requested_frames"] - LATE


def test_the_last_answer_before_the_deadline_counts_where_the_study_says_so(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded(last_counts=True)]).begin()
    visitor.page.wait_for_selector("[data-now=answer]")
    for key in "fjj":
        visitor.page.keyboard.press(key)
    (body,) = visitor.end()
    assert [answer["response"] for answer in body["answers"]] == ["animal", "other"]
    assert (body["response"], body["changes"]) == ("other", 1)
    assert body["first_rt_ms"] < body["rt_ms"] < body["submit_ms"]
    answer = durations(body)["answer"]
    assert answer["achieved_frames"] >= answer["requested_frames"] - LATE


def test_the_confidence_of_a_speeded_trial_is_asked_at_leisure(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([speeded(confidence={"levels": 4})]).begin()
    visitor.page.wait_for_selector("[data-now=answer]")
    assert not visitor.page.locator(".confidence").is_visible()
    visitor.page.keyboard.press("f")
    visitor.page.locator(".confidence .step").nth(2).click()
    visitor.page.locator(".submit").click()
    (body,) = visitor.end()
    assert (body["response"], body["confidence"], body["input"]) == ("animal", 3, "key")
    assert body["rt_ms"] < body["submit_ms"]


def test_without_its_speed_the_same_trial_has_no_time_limit(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([("choice", {**SPEEDED, "speed": None})]).begin()
    visitor.wait(1, 1)
    assert visitor.page.locator(".panels").is_visible()
    visitor.page.keyboard.press("ArrowLeft")
    (body,) = visitor.end()
    assert (body["response"], body["deadline_ms"], body["phases"]) == ("animal", None, [])


def test_nothing_is_taken_before_the_lock_out_ends(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([("forced_choice", forced(lockout_ms=700))]).begin()
    visitor.page.wait_for_selector(".option.locked")
    visitor.page.keyboard.press("f")
    visitor.wait(1, 1)
    visitor.page.keyboard.press("j")
    (body,) = visitor.end()
    assert (body["response"], body["lockout_ms"]) == ("right-id", 700)
    assert body["rt_ms"] >= 700


def test_a_changed_mind_is_recorded_with_both_times(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["bare_slider"]]).begin()
    visitor.wait(1, 1)
    for key in "fjfjj":
        visitor.page.keyboard.press(key)
    assert visitor.page.locator(".submit").is_disabled()
    visitor.page.locator(".slider").focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        visitor.page.keyboard.press(key)
    visitor.page.locator(".submit").click()
    (body,) = visitor.end()
    assert [answer["response"] for answer in body["answers"]] == ["left-id", "right-id", "left-id", "right-id"]
    assert (body["response"], body["changes"], body["confidence"]) == ("right-id", 3, 2)
    assert body["confidence_changes"] == 2
    assert body["first_rt_ms"] < body["rt_ms"] < body["submit_ms"]


@pytest.mark.parametrize("levels", [4, 6])
def test_an_arrow_and_a_number_give_choice_and_confidence_for_any_number_of_steps(
    arrive: Callable[..., Visitor], levels: int
) -> None:
    visitor = arrive([("forced_choice", forced(confidence={"levels": levels}))]).begin()
    visitor.wait(1, 1)
    visitor.page.keyboard.press("ArrowLeft")
    assert visitor.page.locator(".query.leaning").count() == 1
    visitor.page.keyboard.press(str(levels))
    (body,) = visitor.end()
    assert (body["response"], body["confidence"], body["signed_confidence"]) == ("left-id", levels, -levels)


def test_the_right_answer_is_told_by_its_name_and_marked(arrive: Callable[..., Visitor]) -> None:
    trials = [
        ("forced_choice", forced(references=BOTH, confidence={"levels": 3}, phase="practice", feedback=True)),
        ("choice", {**DISTINCTION, "phase": "practice", "feedback": True}),
    ]
    visitor = arrive(trials).begin()
    for answer, name in (("k", "Picture A"), ("2", "boat")):
        visitor.page.wait_for_selector(".trial .option:enabled")
        visitor.page.keyboard.press(answer)
        visitor.page.wait_for_selector(".told.wrong")
        assert name in visitor.page.locator(".told").inner_text()
        assert visitor.page.locator(".expected").count() == 1
        visitor.page.keyboard.press("Enter")
        visitor.page.wait_for_selector(".told", state="detached")
    for answer in ("f", "1"):
        visitor.begin().page.wait_for_selector(".trial .option:enabled")
        visitor.page.keyboard.press(answer)
        visitor.page.wait_for_selector(".told.right")
        visitor.page.keyboard.press("Enter")
        visitor.page.wait_for_selector(".told", state="detached")
    assert [body["attempt"] for body in visitor.end()] == [1, 1, 2, 2]
    told = visitor.site.bodies("feedback")
    assert [(said["trial_id"], said["attempt"], said["correct"]) for said in told] == [
        ("t000", 1, False),
        ("t001", 1, False),
        ("t000", 2, True),
        ("t001", 2, True),
    ]
    assert all(said["shown_ms"] > 0 for said in told)


def test_a_query_that_is_among_the_references_is_shown_twice(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([("forced_choice", forced(references=[grid("max", "Strong", [0, 2, 3, 4])]))]).begin()
    visitor.wait(1, 1)
    shown = visitor.page.locator(f"img[data-sha256='{HASH[0]}']")
    assert shown.count() == 2
    assert shown.evaluate_all("images => images.every(image => image.complete && image.naturalWidth > 0)")
    visitor.page.keyboard.press("f")
    (body,) = visitor.end()
    roles = {picture["role"] for picture in body["pictures"] if picture["sha256"] == HASH[0]}
    assert roles == {"query-1", "max-1"}


def test_small_pictures_are_scaled_by_whole_pixels_and_keep_their_squares(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["intruder"]], device_scale_factor=1.5).begin()
    visitor.wait(1, 1)
    rendering = "images => images.map(image => getComputedStyle(image).imageRendering)"
    assert set(visitor.page.locator(".option img").evaluate_all(rendering)) == {"pixelated"}
    visitor.page.keyboard.press("1")
    (body,) = visitor.end()
    times = {picture["device_width"] / 28 for picture in body["pictures"]}
    assert len(times) == 1
    assert times.pop() == pytest.approx(round(body["pictures"][0]["device_width"] / 28))


def test_strong_references_are_on_the_right_and_weak_ones_on_the_left(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["both_grids"]]).begin()
    visitor.wait(1, 1)
    visitor.page.keyboard.press("s")
    (body,) = visitor.end()
    x = {picture["role"]: picture["x"] for picture in body["pictures"]}
    assert max(x[f"min-{i}"] for i in range(1, 10)) < x["query-1"] < min(x[f"max-{i}"] for i in range(1, 10))
    assert (body["response"], body["confidence"]) == ("left-id", 1)


def test_a_free_answer_that_cannot_count_is_not_sent(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["number"], ALL["free"]]).begin()
    visitor.wait(1, 2)
    page = visitor.page
    for given, fault in (("", "answer this question"), ("101", "from 0 to 100"), ("much", "from 0 to 100")):
        page.locator("#entry").fill(given)
        page.locator(".submit").click()
        assert fault in page.locator("#entry-fault").inner_text()
    page.locator("#entry").fill("87,5")
    page.locator(".submit").click()
    visitor.wait(2, 2)
    page.locator("#entry").focus()
    page.keyboard.type("f j 1 stripes")
    page.evaluate("document.querySelector('#entry').dispatchEvent(new ClipboardEvent('paste', { bubbles: true }))")
    page.locator(".submit").click()
    number, text = visitor.end()
    assert number["text"] == "87.5"
    assert (text["text"], text["text_pastes"], text["text_keystrokes"]) == ("f j 1 stripes", 1, 13)


def test_a_picture_whose_bytes_are_not_what_its_name_says_is_never_shown(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["bare"]])
    page = visitor.page
    sent: list[str] = []

    def exchange(route: Any) -> None:
        sent.append(route.request.url)
        route.fulfill(body=PNG[5])

    page.route(f"**/stimuli/{HASH[1]}.png", exchange)
    visitor.read("[data-page=picture-failed]")
    assert len(sent) == 4
    page.unroute(f"**/stimuli/{HASH[1]}.png")
    page.locator(".actions .primary").click()
    visitor.wait(1, 1)
    page.keyboard.press("f")
    (body,) = visitor.end()
    assert (body["load_failures"], body["load_faults"]) == (1, ["hash"] * 4)
    assert visitor.site.bodies("load") == [{"trial_id": "t000", "failures": 1, "faults": ["hash"] * 4}]


def test_without_the_browsers_own_hash_the_pictures_are_checked_all_the_same(arrive: Callable[..., Visitor]) -> None:
    visitor = arrive([ALL["bare"]])
    visitor.page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    visitor.page.reload()
    visitor.begin().wait(1, 1)
    visitor.page.keyboard.press("f")
    assert len(visitor.end()) == 1


@pytest.mark.parametrize("mode", [pytest.param("visual", marks=pytest.mark.long), "data-only"])
def test_every_form_simulates_a_person_whose_answers_count(arrive: Callable[..., Visitor], mode: str) -> None:
    names = (
        [*LEISURELY, "speeded"] if mode == "data-only" else ["both_grids", "bare_slider", "list", "number", "speeded"]
    )
    visitor = arrive([ALL[name] for name in names], query=f"simulate={mode}")
    visitor.page.wait_for_selector("#code", timeout=120_000)
    bodies = visitor.site.bodies()
    assert len(bodies) == len(names)
    for name, body in zip(names, bodies, strict=True):
        shown = parse_payload(*ALL[name])
        assert shown.fault(body["response"], body) == ""
        assert set(body) >= {"rt_ms", "onset_ms", "frame_ms", "window", "pixel_ratio", "pictures", "plugin", "changes"}


def test_the_pages_speak_the_studys_language_and_its_own_words(arrive: Callable[..., Visitor]) -> None:
    facts = {"language": "de", "words": {"next": "Weiter geht’s", "forcedChoice.bare": "Welches Bild mag das Netz?"}}
    visitor = arrive([ALL["bare"]], facts=facts)
    page = visitor.page
    assert walker.kind(page) == "consent"
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.get_by_role("button", name="Ich bin einverstanden").count() == 1
    assert page.get_by_role("button", name="Abbrechen").count() == 1
    visitor.begin()
    assert page.locator("h1").inner_text() == "Welches Bild mag das Netz?"
    assert page.locator(".position").inner_text() == "1 von 1"
    page.locator(".option:enabled").first.click()
    assert walker.kind(page) == "debrief"
    assert page.get_by_role("button", name="Weiter geht’s").count() == 1

"""Forced choice and choice in Chromium: every form of them by mouse, by keyboard and on a phone, and what the rows say."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select
from werkzeug.serving import make_server

from bench.images import encode_png
from bench.records import columns
from bench.store import Store, sha256_bytes
from psychophysics_server.app import ServerConfig, create_app
from psychophysics_server.frozen import FrozenStudy, Library
from psychophysics_server.tables import codes, events
from stimuli.records import CellRow, TrialRow
from stimuli.trials import parse_payload, pictures_of

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
PAGE = {"title": "Title", "body": "One paragraph."}
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def load(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walker = load(Path(__file__).with_name("make_screenshots.py"))


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
SPEEDED = {
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
def serving(study: FrozenStudy, folder: Path) -> Iterator[Site]:
    """Serve a study."""
    library = Library(study.artifact.path.parent.parent)
    config = ServerConfig(
        library=library, study=library.by_key(study.key), database=folder / "r.sqlite", disk_limit_mb=0.0
    )
    app = create_app(config)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.port}/study/{study.file.study}/", study, app)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions["limen"].close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One Chromium for the module, with the front-end built; skips loudly where either cannot be had."""
    hook = load(ROOT / "psychophysics_server" / "frontend" / "build_hook.py")
    if not hook.is_fresh() and hook.find_node() is None:
        pytest.skip("BROWSER TESTS NOT RUN: the front-end is not built and there is no Node to build it")
    hook.build()
    path = walker.chromium()
    if path is None:
        pytest.skip("BROWSER TESTS NOT RUN: no Chromium on the PATH (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=walker.ARGUMENTS)
        yield running
        running.close()


@dataclass
class Visitor:
    """A person at a screen who takes trials of these types."""

    site: Site
    page: Any

    def begin(self) -> Visitor:
        """Go on to the first trial."""
        while walker.kind(self.page) not in walker.ASKING:
            walker.go_on(self.page)
        return self

    def wait(self, number: int, count: int) -> None:
        """Wait until trial `number` of `count` takes an answer."""
        self.page.wait_for_selector(f".trial .position:text-is('{number} of {count}')")
        self.page.wait_for_selector(".trial .option:enabled, .trial #entry:enabled")

    def end(self) -> list[dict[str, Any]]:
        """Go on to the completion code and return the bodies of the trials."""
        while walker.kind(self.page) != "code":
            walker.go_on(self.page)
        assert self.site.rows(codes)[0].code == self.page.locator("#code").inner_text()
        return self.site.bodies()


@pytest.fixture
def arrive(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """Serve trials and open a window on them; fails if the page complained on the console."""
    complaints: list[str] = []
    closing: list[Callable[..., Any]] = []

    def come(trials: Sequence[tuple[str, Mapping[str, Any]]], query: str = "participant=p1", **more: Any) -> Visitor:
        facts = more.pop("facts", {})
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | more))
        server = serving(build_study(tmp_path / "store", trials, **facts), tmp_path)
        site = server.__enter__()
        closing.extend([context.close, lambda: server.__exit__(None, None, None)])
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
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

"""Let a simulated person take a served study in Chromium, and stop at each new kind of trial for a picture of it."""

from __future__ import annotations

import io
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SIZES = {"wide": (1280, 800), "phone": (390, 844)}
PATIENCE_S = 1500.0
STALL_S = 120.0
"""A page on which nothing changes for so long is told of and left, and the next person comes."""
PEOPLE = 20
"""A simulated person guesses the answers to the questions about the instructions; the first to get them right is followed."""
HOLD = """
(() => {
  const plain = window.setTimeout.bind(window);
  const signature = (page) => {
    const trial = page.querySelector(".trial") ?? page;
    const has = (name) => trial.querySelector(name) ? name : "";
    const options = trial.querySelector(".options")?.className ?? "";
    const parts = [".base", ".forced.bare", ".steps", ".slider", ".field", "textarea", ".reservoir"].map(has);
    const paper = [...trial.querySelectorAll("canvas")].some((canvas) => canvas.offsetParent);
    return [page.dataset.page, trial.className, options, trial.querySelectorAll(".panel, .grid").length > 0, paper, ...parts].join("|");
  };
  window.walk = { seen: new Set(), held: null };
  const look = () => {
    const page = document.querySelector("[data-page]:has(.trial)");
    if (!page || window.walk.held) return;
    const name = signature(page);
    // A round is looked at when it runs: before the start nothing is to be seen.
    if (page.querySelector(".reveal .begin")) return;
    if (window.walk.seen.has(name) || !page.querySelector("button:enabled, canvas, input:enabled")) return;
    window.walk.seen.add(name);
    window.walk.held = name;
  };
  const due = [];
  const release = () => {
    while (due.length > 0 && !window.walk.held) due.shift()();
    if (due.length > 0) plain(release, 20);
  };
  window.setTimeout = (act, wait = 0, ...rest) => {
    const later = () => {
      look();
      if (!window.walk.held && due.length === 0) return act(...rest);
      if (due.push(() => act(...rest)) === 1) plain(release, 20);
    };
    return plain(later, wait);
  };
})();
"""
"""While a new kind of trial is on the screen no timer goes off, so that nobody answers until its picture is taken; then they
go off in their order: an answer must not come before the button that takes it."""


@dataclass(frozen=True)
class Screen:
    """A kind of trial: its phase and heading, and PNGs by size."""

    phase: str
    heading: str
    pngs: dict[str, bytes]


def walk(url: str) -> tuple[list[Screen], str]:
    """Take the study at `url` (with `simulate=visual`) to its end; return a screen of each kind, and the code.

    Whoever fails the questions about the instructions is screened out, and the next person comes.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            width, height = SIZES["wide"]
            for _ in range(PEOPLE):
                page = running.new_page(viewport={"width": width, "height": height})
                faults: list[str] = []
                page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
                page.add_init_script(HOLD)
                page.goto(url)
                screens, code = _to_the_end(page, faults)
                if screens:
                    return screens, code
                page.close()
            raise SystemExit(f"none of {PEOPLE} people came to a trial")
        finally:
            running.close()


def _to_the_end(page: Any, faults: list[str]) -> tuple[list[Screen], str]:
    screens, end = [], time.monotonic() + PATIENCE_S
    shown, since = "", time.monotonic()
    while time.monotonic() < end and not faults:
        if (now := page.locator("body").inner_text()) != shown:
            shown, since = now, time.monotonic()
        if time.monotonic() - since > STALL_S:
            print(f"stalled: {re.sub(chr(10) + '+', ' / ', shown)[:300]}", file=sys.stderr)
            return [], ""
        code = page.query_selector("#code")
        if code is not None:
            return screens, str(code.inner_text())
        if page.evaluate("window.walk.held"):
            screens.append(_taken(page))
            page.evaluate("window.walk.held = null")
        page.wait_for_timeout(30)
    shown = page.locator("h1").first.inner_text() if page.locator("h1").count() else "nothing"
    raise SystemExit(f"no code at the end; the page shows '{shown}' {faults[:1]}")


def _taken(page: Any) -> Screen:
    trial = page.locator("[data-page]:has(.trial)").first
    phase = trial.get_attribute("data-page")
    if trial.locator("canvas").count():
        page.wait_for_timeout(1200)  # reveal rounds run on: some of the picture is uncovered by then
    heading = trial.locator("h1").first
    text = re.sub(r"\s+", " ", heading.inner_text()).strip() if heading.count() else ""
    pngs = {}
    for name, (width, height) in reversed(SIZES.items()):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(150)
        page.evaluate("window.scrollTo(0, 0)")
        pngs[name] = page.screenshot(animations="disabled")
    return Screen(str(phase), text, pngs)


def beside(screen: Screen, *, width: int = 760, colours: int = 128) -> bytes:
    """Return one PNG with the wide window and the phone side by side, small enough for a page."""
    wide, phone = (Image.open(io.BytesIO(screen.pngs[name])).convert("RGB") for name in ("wide", "phone"))
    height = round(width * wide.height / wide.width)
    wide = wide.resize((width, height), Image.Resampling.LANCZOS)
    phone = phone.resize((round(height * phone.width / phone.height), height), Image.Resampling.LANCZOS)
    gap, edge = 16, 1
    canvas = Image.new("RGB", (wide.width + gap + phone.width + 4 * edge, height + 2 * edge), (255, 255, 255))
    x = 0
    for picture in (wide, phone):
        frame = Image.new("RGB", (picture.width + 2 * edge, height + 2 * edge), (196, 200, 206))
        frame.paste(picture, (edge, edge))
        canvas.paste(frame, (x, 0))
        x += frame.width + gap
    out = io.BytesIO()
    canvas.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


def write(screens: list[Screen], folder: Path, name: str, *, apart: Path) -> list[dict[str, str]]:
    """Write a picture of each kind of trial, and both windows at full size `apart`; return what to say of it."""
    said = []
    for number, screen in enumerate(screens, start=1):
        path = folder / f"{name}-{number}.png"
        path.write_bytes(beside(screen))
        for size, png in screen.pngs.items():
            (apart / f"{name}-{number}-{size}.png").write_bytes(png)
        said.append({"file": path.name, "phase": screen.phase, "heading": screen.heading})
    return said

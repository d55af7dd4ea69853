"""Walk through a running study in Chromium as a person would, and take a picture of every kind of page.

    python tests/server/make_screenshots.py --url http://127.0.0.1:8000/study/NAME/?preview=KEY -o DIR

Every page is taken at two sizes, light and dark: of the whole way, of a person who declines, of a second window, of the page that
erases and, if `--answers` gives the right answers to the questions about the instructions, of a person who fails them. `DIR/trial_train.png` and `DIR/trial_test.png` are the small ones for the
documentation.
"""

from __future__ import annotations

import argparse
import io
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from PIL import Image

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
DOCUMENTED = {"train": "trial_train", "test": "trial_test"}
MOST_SCREENS = 400
ASKING = {"practice", "test"}


def chromium() -> str | None:
    """Return the path of the system's Chromium, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser(**context: Any) -> Iterator[Any]:
    """Start Chromium and yield a fresh browser context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield running.new_context(**context)
        finally:
            running.close()


def kind(page: Any) -> str:
    """Return what is on the screen once it can be used: 'consent', 'train', 'test', 'code' ..."""
    ready = "[data-page]:not([data-page=loading]):not([data-page=saving]) .button:enabled:not(.opener), [data-page=farewell]"
    page.wait_for_selector(f"{ready}, [data-page=code]", state="attached")
    found: str = page.locator("[data-page]").first.get_attribute("data-page")
    return found


def serial(page: Any) -> Any:
    """Return a handle of what is on the screen now, by which the next screen can be told from it."""
    return page.locator("[data-page]").first.element_handle()


def answer_questions(page: Any, answers: Sequence[str], *, wrong: bool = False) -> None:
    """Choose, for each question, the option that is among the answers (or is not), and send them."""
    for question in page.locator(".question").all():
        values = question.locator("input").evaluate_all("nodes => nodes.map(node => node.value)")
        place = next((i for i, value in enumerate(values) if (value in answers) != wrong), 0)
        question.locator("input").nth(place).check()
    page.locator("[data-page=quiz] .actions .primary").click()


def go_on(page: Any, *, side: int = 0, answers: Sequence[str] = ()) -> None:
    """Do what the present screen asks for, and wait until it is gone."""
    now, screen = kind(page), serial(page)
    if now in ASKING:
        page.locator(".option:enabled").nth(side).click()
        if now == "practice":
            page.locator(".verdict .button").click()
    elif now == "quiz":
        answer_questions(page, answers)
    else:
        page.locator("[data-page] .actions .primary:enabled").first.click()
    screen.wait_for_element_state("hidden")


def shown(page: Any) -> bytes:
    """Return a PNG of the window, once the fonts and animations have settled."""
    png: bytes = page.screenshot(animations="disabled")
    return png


def small_png(png: bytes, width: int = 960) -> bytes:
    """Return a PNG with few colours, for the documentation."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(256, kmeans=3, dither=Image.Dither.FLOYDSTEINBERG).save(out, "PNG", optimize=True)
    return out.getvalue()


def take_all(page: Any, name: str, folder: Path) -> None:
    """Take the present screen at every size and in every colour scheme."""
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            (folder / f"{name}_{size}_{scheme}.png").write_bytes(shown(page))
    page.emulate_media(color_scheme="light")
    width, height = SIZES["wide"]
    page.set_viewport_size({"width": width, "height": height})


def as_newcomer(url: str) -> str:
    """Give the address a recruiter's participant id of its own, unless it is a preview."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if "preview" not in query:
        fresh = secrets.token_hex(12)
        query = {"PROLIFIC_PID": fresh, "participant": fresh} | query
    return urlunsplit(parts._replace(query=urlencode(query)))


def extras(page: Any, now: str, folder: Path) -> None:
    """Take what opens over a screen: the withdrawal dialog, an enlarged example, the drawer, the feedback."""
    if now == "instructions":
        page.locator(".leave").click()
        take_all(page, "withdraw", folder)
        page.locator("dialog .primary").click()
    if now == "practice":
        page.locator(".option:enabled").first.click()
        page.locator(".verdict .button").wait_for()
        take_all(page, "feedback", folder)
    if now == "test":
        page.locator(".reservoir .card").first.click()
        take_all(page, "enlarged", folder)
        page.locator("dialog .primary").click()
        page.set_viewport_size({"width": SIZES["phone"][0], "height": SIZES["phone"][1]})
        page.locator(".opener").click()
        (folder / "drawer_phone_light.png").write_bytes(shown(page))
        page.locator("dialog .sticky .primary").click()
        page.set_viewport_size({"width": SIZES["wide"][0], "height": SIZES["wide"][1]})


def in_last_round(page: Any, now: str) -> bool:
    """Whether a training or test trial belongs to the last round; true of every other screen."""
    if now not in DOCUMENTED:
        return True
    return re.match(r"Round (\d+) of (?!\1\b)", page.locator(".position").inner_text()) is None


def walk(page: Any, folder: Path, answers: Sequence[str] = ()) -> list[str]:
    """Take the study, and the first screen of each kind on the way (of trials the last round's, with most to see)."""
    seen: list[str] = []
    for _ in range(MOST_SCREENS):
        now = kind(page)
        if now not in seen and in_last_round(page, now):
            seen.append(now)
            take_all(page, now, folder)
            if now in DOCUMENTED:
                (folder / f"{DOCUMENTED[now]}.png").write_bytes(small_png(shown(page)))
            extras(page, now, folder)
        if now == "code":
            return seen
        if now == "practice" and page.locator(".verdict .button").count():
            screen = serial(page)
            page.locator(".verdict .button").click()
            screen.wait_for_element_state("hidden")
        else:
            go_on(page, answers=answers)
    raise SystemExit(f"the study did not end within {MOST_SCREENS} screens")


def decline(page: Any, url: str, folder: Path) -> None:
    """Take what a person sees who does not consent, and before that a second window."""
    page.goto(url)
    for _ in range(MOST_SCREENS):
        if kind(page) == "consent":
            break
        go_on(page)
    second = page.context.new_page()
    second.goto(url.partition("?")[0])
    second.wait_for_selector("[data-page=elsewhere]")
    take_all(second, "elsewhere", folder)
    second.close()
    page.locator("[data-page=consent] .quiet").click()
    page.wait_for_selector("[data-page=farewell]")
    take_all(page, "farewell", folder)


def fail_questions(page: Any, url: str, folder: Path, answers: Sequence[str]) -> None:
    """Take what a person sees who answers the questions wrongly, to the end."""
    page.goto(url)
    for _ in range(MOST_SCREENS):
        if kind(page) == "ended":
            break
        if kind(page) == "quiz":
            screen = serial(page)
            answer_questions(page, answers, wrong=True)
            screen.wait_for_element_state("hidden")
        elif kind(page) == "quiz-wrong":
            take_all(page, "quiz-wrong", folder)
            go_on(page)
        else:
            go_on(page)
    take_all(page, "ended", folder)


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", required=True, help="address of the study, with preview=KEY for a preview")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument(
        "--answers", nargs="*", default=[], help="right answers to the questions about the instructions"
    )
    arguments = parser.parse_args()
    if chromium() is None:
        raise SystemExit("no Chromium on the PATH: install Debian's package `chromium`.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    width, height = SIZES["wide"]
    with browser(viewport={"width": width, "height": height}, device_scale_factor=1) as context:
        page = context.new_page()
        page.on("console", lambda message: print(f"console {message.type}: {message.text}"))
        page.goto(as_newcomer(arguments.url))
        seen = walk(page, arguments.output, arguments.answers)
        page.goto(urljoin(arguments.url, "/erase"))
        take_all(page, "erase", arguments.output)
    with browser(viewport={"width": width, "height": height}, device_scale_factor=1) as context:
        decline(context.new_page(), as_newcomer(arguments.url), arguments.output)
    if arguments.answers:
        with browser(viewport={"width": width, "height": height}, device_scale_factor=1) as context:
            fail_questions(context.new_page(), as_newcomer(arguments.url), arguments.output, arguments.answers)
    print(f"{len(seen)} kinds of page in {arguments.output}: {', '.join(seen)}")


if __name__ == "__main__":
    main()

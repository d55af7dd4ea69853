"""Take a picture of every page, of participants and of the dashboard, on a laptop and on a phone, and lay them out for the docs.

    python tests/server/make_gallery.py -o docs/images

Everything is served from this process on an artificial study; `--each DIR` keeps the single pictures too, to be looked at.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from sqlalchemy import update

from bench.store import Store
from psychophysics_server.admin.accounts import add_account
from psychophysics_server.app import create_app
from psychophysics_server.sessions.pause import pause
from psychophysics_server.storage.tables import sessions
from psychophysics_server.study.frozen import Library
from psychophysics_server.web.server import ServerConfig
from stimuli.build import build
from stimuli.records import Bots, Checks, Page, Question, StudyFile, Texts

HERE = Path(__file__).parent
SIZES: dict[str, dict[str, Any]] = {
    "laptop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2,
    },
}  # fmt: skip
COLUMNS = {"laptop": 3, "phone": 6}
WIDTH = {"laptop": 416, "phone": 200}
ANSWERS = ("What the machine says", "Yes")
PASSWORD = "four words and a comma,"
TYPES = ("both_grids", "occluders", "bare_slider", "intruder", "rating", "distinction", "list", "free", "number")
Shots = dict[str, bytes]


def load(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(f"gallery_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


walker = load(HERE / "make_screenshots.py")
answering = load(HERE.parent / "fixtures" / "loopback.py").answering


def study_file(**changes: Any) -> StudyFile:
    """Return a study that has a page of every kind."""
    facts: dict[str, Any] = {
        "study": "machine", "version": 1, "protocol": "utility", "title": "What will the machine say?", "seed": 3,
        "run": "demo", "conditions": ("baseline", "grad_cam"), "quota": 40, "contact": "study@example.org",
        "design": {"sessions": 2, "train": 2, "test": 3, "lists": 2, "practice": 2, "lockout_ms": 0, "size": 160},
        "checks": Checks(catch_accuracy=0.5, practice_attempts=5, quiz_attempts=2),
        "bots": Bots(accuracy={"baseline": (0.55, 0.6), "grad_cam": (0.75, 0.85)}),
        "texts": Texts(
            consent=Page(
                title="Would you like to take part?",
                body="You see pictures and **predict what a machine says** about them. It takes about ten minutes.\n\n"
                "Your answers are kept without your name. You may stop at any moment, and what you said is deleted.",
            ),
            instructions=(
                Page(
                    title="What you do",
                    body="First you see pictures together with what the machine said.\n\nThen you see new pictures, and say "
                    "**what the machine will say**, not what you see yourself.",
                ),
            ),
            quiz=(
                Question(question="What do you predict?", options=("What I see", ANSWERS[0]), answer=ANSWERS[0]),
                Question(question="May you stop at any moment?", options=(ANSWERS[1], "No"), answer=ANSWERS[1]),
            ),
            debrief=Page(title="Thank you", body="The machine was a network that looks at a picture's colours."),
            contact="study@example.org",
        ),
    }  # fmt: skip
    return StudyFile(**(facts | changes))


@contextmanager
def serving(file: StudyFile, store: Store, folder: Path) -> Iterator[tuple[Any, str]]:
    """Serve a study; yields the application and the address of its page."""
    library = Library(store)
    study = library.by_key(build(file, store).key)
    app = create_app(ServerConfig(library=library, study=study, database=folder / f"{file.study}.sqlite"))
    try:
        with answering(app) as url:
            yield app, f"{url}/study/{file.study}/"
    finally:
        app.extensions["limen"].close()


@contextmanager
def window(browser: Any, size: str, **more: Any) -> Iterator[Any]:
    """Open a page in a window of its own."""
    context = browser.new_context(**SIZES[size], reduced_motion="reduce", **more)
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        yield page
    finally:
        context.close()


def visit(page: Any, address: str) -> Shots:
    """Take the study from consent to the code, with what opens on the way."""
    shots: Shots = {}
    page.goto(f"{address}?participant=someone")
    wrong = True
    for _ in range(walker.MOST_SCREENS):
        now = walker.kind(page)
        if now not in shots:
            shots[now] = page.screenshot()
            _extras(page, now, shots)
        if now == "code":
            return shots
        if now == "quiz":
            screen = walker.serial(page)
            walker.answer_questions(page, ANSWERS, wrong=wrong)
            screen.wait_for_element_state("hidden")
            wrong = False
        elif now == "practice" and page.locator(".verdict .button").count():
            screen = walker.serial(page)
            page.locator(".verdict .button").click()
            screen.wait_for_element_state("hidden")
        elif now == "debrief":
            _saving(page, shots)
        else:
            walker.go_on(page)
    raise SystemExit("the study did not end")


def _extras(page: Any, now: str, shots: Shots) -> None:
    if now == "instructions":
        page.locator(".leave").click()
        shots["withdraw"] = page.screenshot()
        page.locator("dialog .primary").click()
    if now == "practice":
        page.locator(".option:enabled").first.click()
        page.locator(".verdict .button").wait_for()
        shots["feedback"] = page.screenshot()
    if now == "test":
        page.context.set_offline(True)
        page.evaluate("dispatchEvent(new Event('offline'))")
        page.locator(".notice").wait_for()
        shots["offline"] = page.screenshot()
        page.context.set_offline(False)
        page.evaluate("dispatchEvent(new Event('online'))")


def _saving(page: Any, shots: Shots) -> None:
    page.route("**/api/complete", lambda route: route.abort())
    page.locator("[data-page=debrief] .actions .primary").click()
    page.wait_for_selector("[data-page=saving]")
    shots["saving"] = page.screenshot()
    page.unroute("**/api/complete")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.wait_for_selector("[data-page=code]")


def endings(browser: Any, size: str, app: Any, address: str) -> Shots:
    """Take what a person sees who leaves, fails, comes twice, or finds the study paused."""
    shots: Shots = {}
    with window(browser, size) as page:
        page.goto(f"{address}?participant=leaves")
        walker.kind(page)
        second = page.context.new_page()
        second.goto(address)
        second.wait_for_selector("[data-page=elsewhere]")
        shots["elsewhere"] = second.screenshot()
        second.close()
        page.locator("[data-page=consent] .quiet").click()
        page.wait_for_selector("[data-page=farewell]")
        shots["farewell"] = page.screenshot()
        page.goto(address.partition("/study/")[0] + "/erase")
        shots["erase"] = page.screenshot()
    with window(browser, size) as page:
        page.goto(f"{address}?participant=fails")
        for _ in range(walker.MOST_SCREENS):
            now = walker.kind(page)
            if now == "ended":
                break
            if now == "quiz":
                screen = walker.serial(page)
                walker.answer_questions(page, ANSWERS, wrong=True)
                screen.wait_for_element_state("hidden")
            else:
                walker.go_on(page)
        shots["ended"] = page.screenshot()
    running = app.extensions["limen"]
    running.database.write(lambda connection: pause(connection, running.study, account="ada"))
    with window(browser, size) as page:
        page.goto(f"{address}?participant=late")
        walker.kind(page)
        shots["paused"] = page.screenshot()
    return shots


def full(browser: Any, size: str, store: Store, folder: Path) -> Shots:
    """Take what a person sees for whom no place is left."""
    file = study_file(study=f"full-{size}", quota=2)
    with serving(file, store, folder) as (app, address), window(browser, size) as page:
        for number in range(4):
            body = {"study": file.study, "client_id": f"browser-{number}", "parameters": {}, "source": "live"}
            assert app.test_client().post("/api/sessions", json=body).status_code == 201
        page.goto(f"{address}?participant=late")
        page.wait_for_selector("[data-page=no-place]")
        return {"full": page.screenshot()}


def trials(browser: Any, size: str, folder: Path) -> Shots:
    """Take a trial of each form, before an answer."""
    types = load(HERE / "test_browser_types.py")
    shots: Shots = {}
    forms = [types.ALL[name] for name in TYPES]
    study = types.build_study(folder / f"types-{size}", forms)
    (folder / size).mkdir()
    with types.serving(study, folder / size, answering) as site, window(browser, size) as page:
        page.goto(f"{site.url}?participant=p1")
        visitor = types.Visitor(site, page).begin()
        for number, (name, (kind, payload)) in enumerate(zip(TYPES, forms, strict=True), 1):
            visitor.wait(number, len(TYPES))
            shots[name] = page.screenshot()
            types.take_by_mouse(page, {**payload, "type": kind}, tap=size == "phone")
    return shots | canvases(browser, size, folder)


def canvases(browser: Any, size: str, folder: Path) -> Shots:
    """Take a picture that is being uncovered, and one that is being drawn."""
    shots: Shots = {}
    for name, payload in (("reveal", "PLAIN"), ("draw", "SEEN")):
        tests = load(HERE / f"test_browser_{name}.py")
        study = tests.types.build_study(folder / f"{name}-{size}", [(name, getattr(tests, payload))])
        place = folder / f"{name}-answers-{size}"
        place.mkdir()
        with tests.types.serving(study, place, answering) as site, window(browser, size) as page:
            page.goto(f"{site.url}?participant=p1")
            tests.types.Visitor(site, page).begin()
            if name == "reveal":
                page.locator(".begin:enabled").click()
                for x, y in ((20, 40), (75, 40), (48, 80), (40, 20)):
                    page.mouse.move(*tests.on_canvas(page, x, y), steps=6)
            else:
                page.locator("canvas.paper").wait_for()
                tests.draw(page, *tests.CROSS)
            page.wait_for_timeout(300)
            shots[name] = page.screenshot()
    return shots


def dashboard(browser: Any, size: str, folder: Path) -> Shots:
    """Take the pages of the dashboard, as an owner sees them."""
    ground = load(HERE / "conftest.py")
    study = ground.build_tiny(folder / f"tiny-{size}", quota=12, recruitment={"source": "mock", "amount": 2.0})
    running = ground.start(study, folder / f"dashboard-{size}.sqlite")
    add_account(running.database, "anna", role="owner", password=PASSWORD)
    _crowd(running)
    shots: Shots = {}
    with answering(running.app) as url, window(browser, size) as page:
        page.goto(f"{url}/admin/")
        shots["login"] = page.screenshot()
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:has-text('Overview')")
        shots["overview"] = page.screenshot()
        for name in ("people", "payments", "alarms", "study", "audit"):
            page.goto(f"{url}/admin/{name}")
            shots[name] = page.screenshot()
        page.goto(f"{url}/admin/people?state=COMPLETE")
        page.locator("tbody a").first.click()
        page.wait_for_selector("#checks-title")
        shots["person"] = page.screenshot()
        page.evaluate("document.getElementById('checks-title').scrollIntoView()")
        shots["checks"] = page.screenshot()
    running.app.extensions["limen"].close()
    return shots


def _crowd(running: Any) -> None:
    catch = tuple(t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch)
    for number in range(14):
        person = running.person(f"5f00000000000000000000{number:02d}")
        if number % 5 == 4:
            person.take(stop_before=person.trials()[5]["trial_id"])
            continue
        person.consent()
        person.say("instructions", {"viewed_ms": 21_000.0})
        person.take(wrong=catch if number % 6 == 2 else (), rt_ms=700.0 + 40 * number).complete()
    # People take minutes, which this script does not.
    earlier = update(sessions).where(sessions.c.finished_at.is_not(None))
    minutes = earlier.values(opened_at=sessions.c.opened_at - 540.0 - 7.0 * (sessions.c.opened_at % 30.0))
    running.database.write(lambda connection: connection.execute(minutes) and None)
    twice = running.person("5f0000000000000000000099")
    twice.consent()
    event = twice.event("focus", {"what": "blur", "at_ms": 1.0})
    twice.post(event)
    twice.post({**event, "body": json.dumps({"what": "focus", "at_ms": 2.0})})
    twice.call("POST", "/api/manual", json={"reason": "the page kept saving"})


def sheet(shots: Shots, size: str) -> bytes:
    """Lay pictures out in rows, each under its name; few colours keep the file small."""
    width, columns, gap, head = WIDTH[size], COLUMNS[size], 14, 20
    viewport = SIZES[size]["viewport"]
    height = round(width * viewport["height"] / viewport["width"])
    rows = -(-len(shots) // columns)
    canvas = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + head + gap) + gap), (236, 238, 241))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for place, (name, png) in enumerate(shots.items()):
        x, y = gap + place % columns * (width + gap), gap + place // columns * (height + head + gap)
        draw.text((x, y), name.replace("-", " ").replace("_", " "), fill=(40, 44, 52), font=font)
        picture = Image.open(io.BytesIO(png)).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(picture, (x, y + head))
    out = io.BytesIO()
    canvas.quantize(128, kmeans=2, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def galleries(browser: Any, size: str, folder: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Shots]]:
    """Yield (name of the sheet, pictures by page)."""
    store = Store(folder / "store")

    def participant() -> Shots:
        with serving(study_file(study=f"machine-{size}"), store, folder) as (app, address):
            with window(browser, size) as page:
                shots = visit(page, address)
            return shots | endings(browser, size, app, address) | full(browser, size, store, folder)

    makers: dict[str, Callable[[], Shots]] = {
        "participant": participant,
        "trials": lambda: trials(browser, size, folder),
        "dashboard": lambda: dashboard(browser, size, folder),
    }
    for name in wanted:
        yield name, makers[name]()


def main() -> None:
    """Read the command line, take the pictures, write the sheets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the sheets")
    parser.add_argument("--each", type=Path, help="folder for the single pictures")
    parser.add_argument("--only", nargs="*", default=["participant", "trials", "dashboard"])
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        load(HERE.parent / "fixtures" / "fake_run.py").make_fake_run(folder / "store")
        browser = playwright.chromium.launch(executable_path=walker.chromium(), args=walker.ARGUMENTS)
        for size in SIZES:
            for sheet_name, shots in galleries(browser, size, folder, given.only):
                path = given.output / f"pages_{sheet_name}_{size}.png"
                path.write_bytes(sheet(shots, size))
                print(f"{path}: {', '.join(shots)}", flush=True)
                for page, png in shots.items() if given.each else ():
                    (given.each / f"{sheet_name}_{page}_{size}.png").write_bytes(png)
        browser.close()


if __name__ == "__main__":
    main()

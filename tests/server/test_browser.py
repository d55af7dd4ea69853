"""A person takes a study in Chromium: the whole way, on a phone, by keyboard, on a bad network, and leaving it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import func, select

import make_screenshots as walker
from bench.store import Artifact, Store
from psychophysics_server.app import create_app
from psychophysics_server.export.folder import export
from psychophysics_server.storage.tables import alarms, codes, events, sessions, tombstones
from psychophysics_server.study.frozen import FrozenStudy, Library
from psychophysics_server.web.server import ServerConfig

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
QUEUED = """() => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error("the outbox did not open within 20 s")), 20000);
  const request = indexedDB.open("limen");
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const count = request.result.transaction("events").objectStore("events").count();
    count.onsuccess = () => { request.result.close(); resolve(count.result); };
  };
})"""


@dataclass
class Site:
    """A study served on loopback, and what a test wants to know of its data base."""

    url: str
    study: FrozenStudy
    app: Any
    folder: Path

    @property
    def database(self) -> Any:
        return self.app.extensions["limen"].database

    def rows(self, table: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(table)))

    def count(self, table: Any) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        rows = sorted(self.rows(events), key=lambda row: row.seq)
        return [json.loads(row.body) for row in rows if row.kind == kind]

    def exported(self, source: str = "live") -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the response rows (kept and excluded) and the session rows of an export."""
        folder = self.folder / f"export-{source}"
        export(self.database, self.study, folder, sources=(source,), stale_s=1e6)
        kept, excluded, people = (
            next(path for path in sorted(folder.glob("data/*.csv")) if path.name.endswith(ending))
            for ending in (
                f"{self.study.file.study}_data.csv",
                "description-excluded_data.csv",
                "description-sessions_data.csv",
            )
        )
        frames = [frame for frame in (pd.read_csv(kept), pd.read_csv(excluded)) if len(frame)]
        return pd.concat(frames).sort_values("seq"), pd.read_csv(people)

    def expected(self) -> dict[str, str]:
        """Right answers by picture: what a person who has understood would say."""
        trials = [trial for cell in self.study.trials.values() for trial in cell if trial.asks]
        return {trial.payload["image"]: trial.expected for trial in trials}


@pytest.fixture
def site(small_study: Artifact, small_store: Store, tmp_path: Path, answering: Callable[..., Any]) -> Iterator[Site]:
    library = Library(small_store)
    study = library.by_key(small_study.key)
    app = create_app(
        ServerConfig(library=library, study=study, database=tmp_path / "responses.sqlite", disk_limit_mb=0.0)
    )
    with answering(app) as url:
        yield Site(f"{url}/study/{study.file.study}/", study, app, tmp_path)
    app.extensions["limen"].close()


@dataclass
class Visitor:
    """A person at a screen."""

    site: Site
    page: Any

    def come(self, name: str = "person-1") -> Visitor:
        self.page.goto(f"{self.site.url}?participant={name}")
        return self

    @property
    def screen(self) -> str:
        return str(walker.kind(self.page))

    def right_side(self) -> int:
        """Which button is the right answer to the picture on the screen."""
        wanted = self.site.expected()[self.page.locator(".trial figure img").first.get_attribute("data-sha256")]
        labels = self.page.locator(".option").evaluate_all("nodes => nodes.map(node => node.firstChild.data)")
        return int(labels.index(wanted))

    def go_on(self) -> Visitor:
        """Do what the screen asks for, rightly."""
        asked = self.screen in walker.ASKING
        walker.go_on(self.page, side=self.right_side() if asked else 0)
        return self

    def go_to(self, screen: str, *, passing: int = 0) -> Visitor:
        """Go on until such a screen; `passing` lets that many of them go by first."""
        for _ in range(walker.MOST_SCREENS):
            if self.screen == screen:
                if passing == 0:
                    return self
                passing -= 1
            self.go_on()
        raise AssertionError(f"no '{screen}' within {walker.MOST_SCREENS} screens; the last was '{self.screen}'")

    def queued(self) -> int:
        return int(self.page.evaluate(QUEUED))

    def wait_until_sent(self) -> None:
        """Wait for the next screen, before which the last answer was queued, and for an empty queue."""
        assert self.screen
        self.page.wait_for_function(QUEUED.replace("resolve(count.result)", "resolve(count.result === 0)"))

    def code(self) -> str:
        return str(self.page.locator("#code").inner_text())


@pytest.fixture
def arrive(chromium: Any, site: Site) -> Iterator[Callable[..., Visitor]]:
    """Open a browser window of one's own; fails if the page complained on the console."""
    opened, complaints = [], []

    def open_window(script: str | None = None, **context: Any) -> Visitor:
        options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | context
        opened.append(chromium.new_context(**options))
        page = opened[-1].new_page()
        page.set_default_timeout(20_000)
        if script is not None:
            page.add_init_script(script)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
        return Visitor(site, page)

    yield open_window
    for context in opened:
        context.close()
    assert complaints == []


def _is_complaint(message: Any) -> bool:
    """Errors, apart from the ones about requests: tests break those on purpose."""
    return message.type == "error" and "Failed to load resource" not in message.text


def planned(site: Site) -> list[str]:
    """Return the trials, practice apart, that the one session of the data base should answer, in order."""
    (session,) = site.rows(sessions)
    return [trial.trial_id for trial in site.study.trials[session.cell] if trial.phase != "practice"]


def answered(site: Site) -> list[str]:
    """Return the trial of each held answer, practice apart, in order."""
    held = set(planned(site))
    return [body["trial_id"] for body in site.bodies("trial") if body["trial_id"] in held]


def test_a_person_takes_the_whole_study_with_a_reload_in_the_middle(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("test", passing=1)
    assert "?" not in visitor.page.url
    before = len(answered(site))
    visitor.page.reload()
    assert visitor.screen == "welcome"
    visitor.go_on()
    assert visitor.screen == "test"
    assert len(answered(site)) == before
    visitor.go_to("code")

    rows, people = site.exported()
    asked = rows[rows.phase != "practice"]
    assert list(asked.trial_id) == planned(site)
    assert (asked[asked.phase == "test"].correct == 1).all()
    assert (rows.rt_ms > 0).all()
    assert (rows.onset_ms > 0).all()
    assert rows.frame_ms.dropna().between(2, 1000).all()
    assert rows.frame_ms.notna().any()
    assert (rows.dropped_frames >= 0).all()
    assert set(rows.input) == {"mouse"}
    assert set(rows.window) == {"1280x800"}
    assert list(people.resumes) == [1]
    assert list(people.state) == ["COMPLETE"]
    assert site.count(alarms) == 0
    assert [row.code for row in site.rows(codes)] == [visitor.code()]


def test_a_reload_before_the_session_is_open_still_knows_who_this_is(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive()
    visitor.page.route("**/api/sessions", lambda route: None)
    with visitor.page.expect_request("**/api/sessions"):
        visitor.come()
    visitor.page.unroute("**/api/sessions")
    visitor.page.reload()
    assert visitor.screen == "consent"
    assert "?" not in visitor.page.url
    assert site.count(sessions) == 1


@pytest.mark.long
def test_the_completion_code_is_the_same_after_a_reload(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("code")
    code = visitor.code()
    visitor.page.reload()
    assert visitor.screen == "code"
    assert visitor.code() == code
    assert visitor.queued() == 0


@pytest.mark.long
def test_training_shows_the_answer_and_a_test_shows_neither_answer_nor_explanation(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("train")
    assert visitor.page.locator(".trial .answer strong").inner_text() in {"boat", "kite"}
    visitor.go_to("test")
    assert visitor.page.locator(".trial figure img").count() == 1
    assert visitor.page.locator(".trial .answer").count() == 0


@pytest.mark.long
def test_the_examples_seen_so_far_are_within_reach_and_looking_is_recorded(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("test")
    cards = visitor.page.locator(".reservoir .card")
    assert cards.count() == 2
    cards.nth(1).click()
    visitor.page.locator("dialog.closer .primary").click()
    visitor.page.wait_for_selector("dialog.closer", state="detached")
    visitor.go_on()
    visitor.wait_until_sent()
    body = site.bodies("trial")[-1]
    assert body["reservoir_layout"] == "panel"
    assert 0 < body["reservoir_ms"] <= body["rt_ms"]
    assert [len(item["image"]) for item in body["reservoir_items"]] == [64]


@pytest.mark.long
def test_wrong_practice_answers_are_explained_and_the_block_is_shown_again(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("practice")
    walker.go_on(visitor.page, side=1 - visitor.right_side())
    visitor.go_to("before-practice")
    assert "once more" in visitor.page.locator("h1").inner_text()
    visitor.go_to("practice-over")
    assert [body["attempt"] for body in site.bodies("trial")] == [1, 1, 2, 2]


def test_a_refusal_of_consent_keeps_nothing(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come()
    assert visitor.screen == "consent"
    visitor.page.get_by_role("button", name="I do not want to take part").click()
    visitor.page.wait_for_selector("[data-page=farewell]")
    assert site.count(events) == 0
    assert [row.reason for row in site.rows(tombstones)] == ["no consent"]


@pytest.mark.long
def test_a_withdrawal_deletes_the_answers_here_and_there(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("test")
    visitor.page.get_by_role("button", name="Withdraw").click()
    visitor.page.get_by_label("Reason").fill("Too long for me")
    visitor.page.keyboard.press("f")
    visitor.page.get_by_role("button", name="Withdraw and delete my answers").click()
    visitor.page.wait_for_selector("[data-page=farewell]")
    visitor.wait_until_sent()
    assert site.count(events) == 0
    assert [row.reason for row in site.rows(tombstones)] == ["Too long for mef"]


@pytest.mark.long
def test_answers_given_offline_arrive_when_the_network_is_back(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("test")
    visitor.wait_until_sent()
    held = len(answered(site))
    visitor.page.context.set_offline(True)
    visitor.go_on().go_on()
    assert visitor.page.locator(".notice").is_visible()
    assert visitor.queued() >= 2
    assert len(answered(site)) == held
    visitor.page.context.set_offline(False)
    visitor.wait_until_sent()
    assert len(answered(site)) == held + 2
    visitor.go_to("code")
    assert answered(site) == planned(site)


@pytest.mark.long
def test_unsent_answers_outlive_a_reload(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("test")
    visitor.wait_until_sent()
    held = len(answered(site))
    visitor.page.route("**/api/events", lambda route: route.abort())
    visitor.go_on().go_on()
    visitor.page.reload()
    assert visitor.screen == "welcome"
    assert visitor.queued() >= 2
    visitor.page.unroute("**/api/events")
    visitor.page.evaluate("dispatchEvent(new Event('online'))")
    visitor.wait_until_sent()
    assert len(answered(site)) == held + 2
    visitor.go_to("code")
    assert answered(site) == planned(site)


@pytest.mark.long
def test_lost_requests_and_lost_answers_lose_and_double_nothing(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come()
    fates = iter(["lose request", "lose answer", "pass"] * 200)

    def unreliable(route: Any) -> None:
        fate = next(fates)
        if fate == "lose answer":
            route.fetch()
        if fate == "pass":
            route.continue_()
        else:
            route.abort()

    visitor.go_to("before-train")
    visitor.page.route("**/api/events", unreliable)
    visitor.go_to("code")
    assert answered(site) == planned(site)
    assert site.count(alarms) == 0


@pytest.mark.long
def test_without_storage_each_answer_is_held_before_the_next_trial(arrive: Callable[..., Visitor], site: Site) -> None:
    script = "Object.defineProperty(window, 'indexedDB', { get() { throw new Error('private mode'); } });"
    visitor = arrive(script).come().go_to("test")
    for _ in range(3):
        held = len(answered(site))
        visitor.go_on()
        assert visitor.screen
        assert len(answered(site)) == held + 1
    visitor.go_to("code")
    assert answered(site) == planned(site)


@pytest.mark.long
def test_a_picture_that_fails_to_load_blocks_its_trial_and_not_the_study(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("before-train")
    visitor.page.route("**/stimuli/**", lambda route: route.abort())
    visitor.go_on()
    assert visitor.screen == "picture-failed"
    visitor.page.unroute("**/stimuli/**")
    visitor.go_on()
    assert visitor.screen == "train"
    visitor.go_on()
    visitor.wait_until_sent()
    trial = site.bodies("trial")[-1]
    assert trial["load_failures"] == 1
    (load,) = site.bodies("load")
    assert (load["trial_id"], load["failures"]) == (trial["trial_id"], 1)
    assert set(load["faults"]) == {"network"}


def test_a_lost_token_opens_the_same_session_again(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive()
    visitor.page.goto(site.url)
    visitor.go_to("instructions")
    visitor.page.evaluate("localStorage.setItem('limen:small:token', 'not-a-token')")
    visitor.page.reload()
    assert visitor.screen == "welcome"
    assert site.count(sessions) == 1


def test_a_lost_token_makes_no_second_session_of_a_person_who_came_by_a_recruiters_link(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("instructions")
    visitor.page.evaluate("localStorage.setItem('limen:small:token', 'not-a-token')")
    visitor.page.reload()
    assert visitor.screen == "trouble"
    assert "open the link" in visitor.page.locator("main").inner_text()
    visitor.come()
    assert visitor.screen == "welcome"
    assert site.count(sessions) == 1


def test_a_study_without_a_place_left_says_so(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive()
    refusal = {"error": "full", "message": "This study has all the participants it needs."}
    visitor.page.route("**/api/sessions", lambda route: route.fulfill(status=403, json=refusal))
    visitor.come()
    assert visitor.screen == "trouble"
    assert refusal["message"] in visitor.page.locator("main").inner_text()


@pytest.mark.long
def test_a_second_window_waits_until_the_first_is_closed(arrive: Callable[..., Visitor], site: Site) -> None:
    first = arrive().come().go_to("instructions")
    second = Visitor(site, first.page.context.new_page())
    second.page.goto(site.url)
    second.page.wait_for_selector("[data-page=elsewhere]")
    first.page.close()
    assert second.screen == "welcome"
    second.go_to("test")
    assert site.count(alarms) == 0


@pytest.mark.long
def test_a_study_can_be_taken_by_keyboard_alone(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come()
    keyboard = visitor.page.keyboard
    for _ in range(walker.MOST_SCREENS):
        if visitor.screen == "code":
            break
        screen = walker.serial(visitor.page)
        if visitor.screen in walker.ASKING:
            keyboard.press(["f", "ArrowRight"][visitor.right_side()])
            if visitor.screen == "practice":
                visitor.page.wait_for_selector(".verdict .button:focus")
                keyboard.press("Enter")
        elif visitor.screen == "train":
            keyboard.press("Space")
        else:
            keyboard.press("Tab")
            keyboard.press("Enter")
        screen.wait_for_element_state("hidden")
    assert answered(site) == planned(site)
    assert {body["input"] for body in site.bodies("trial")} == {"key"}


def test_a_study_can_be_taken_on_a_phone_by_touch(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    ).come()
    page = visitor.page
    for _ in range(walker.MOST_SCREENS):
        if visitor.screen == "code":
            break
        screen = walker.serial(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        small = "nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.height && (r.height < 44 || r.width < 44)).length"
        assert page.locator("button").evaluate_all(small) == 0
        if visitor.screen in walker.ASKING:
            page.locator(".option").nth(visitor.right_side()).tap()
            if visitor.screen == "practice":
                page.locator(".verdict .button").tap()
        else:
            page.locator("[data-page] .actions .primary:enabled").first.tap()
        screen.wait_for_element_state("hidden")
    trials = site.bodies("trial")
    assert {body["input"] for body in trials} == {"touch"}
    assert {body["pixel_ratio"] for body in trials} == {2}
    assert answered(site) == planned(site)


@pytest.mark.long
def test_on_a_phone_a_trial_fits_the_screen_and_the_examples_are_in_a_drawer(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).come()
    for screen, last in (("train", ".actions .button"), ("test", ".opener")):
        visitor.go_to(screen)
        box = visitor.page.locator(f".trial {last}").bounding_box()
        assert box["y"] + box["height"] <= 844
    visitor.page.locator(".opener").tap()
    visitor.page.locator("dialog.drawer .sticky .primary").tap()
    visitor.page.wait_for_selector("dialog.drawer", state="detached")
    visitor.go_on()
    visitor.wait_until_sent()
    body = site.bodies("trial")[-1]
    assert (body["reservoir_layout"], body["reservoir_openings"]) == ("drawer", 1)
    assert 0 < body["reservoir_ms"] <= body["rt_ms"]


@pytest.mark.long
def test_every_page_has_one_main_one_heading_a_language_and_described_pictures(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come()
    for _ in range(walker.MOST_SCREENS):
        page = visitor.page
        screen = visitor.screen
        assert page.locator("main").count() == 1
        assert page.locator("main h1").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.locator("img:not([alt]), img[alt='']").count() == 0
        if screen == "code":
            break
        visitor.go_on()
    assert visitor.screen == "code"


def test_losing_the_focus_is_an_event_and_is_counted_in_the_trial(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("train")
    visitor.page.evaluate("dispatchEvent(new Event('blur')); dispatchEvent(new Event('focus'))")
    visitor.go_on()
    visitor.wait_until_sent()
    trial = site.bodies("trial")[-1]
    assert trial["focus_lost"] == 1
    losses = site.bodies("focus")
    assert [(loss["what"], loss["trial_id"]) for loss in losses] == [
        ("blur", trial["trial_id"]),
        ("focus", trial["trial_id"]),
    ]


@pytest.mark.long
def test_a_key_held_down_or_pressed_too_early_is_no_answer(arrive: Callable[..., Visitor], site: Site) -> None:
    visitor = arrive().come().go_to("test")
    before = walker.serial(visitor.page)
    held = "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'f', repeat: true, bubbles: true }))"
    visitor.page.evaluate(held)
    assert before.is_visible()
    visitor.page.keyboard.press("f")
    before.wait_for_element_state("hidden")


@pytest.mark.long
def test_when_the_end_does_not_come_there_is_another_code_and_a_copy(
    arrive: Callable[..., Visitor], site: Site
) -> None:
    visitor = arrive().come().go_to("debrief")
    page = visitor.page
    visitor.wait_until_sent()
    for path in ("complete", "events"):
        page.route(f"**/api/{path}", lambda route: route.abort())
    page.clock.install()
    page.locator(".actions .primary").click()
    page.wait_for_selector("[data-page=saving]")
    page.clock.fast_forward("01:05")
    page.wait_for_selector(".help #code")
    code = visitor.code()
    with page.expect_download() as download:
        page.locator(".help a[download]").click()
    copy = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    page.unroute_all()
    page.evaluate("dispatchEvent(new Event('online'))")
    page.wait_for_selector("[data-page=code]")
    released = {row.kind: row.code for row in site.rows(codes)}
    assert set(released.values()) == {code, visitor.code()}
    assert code != visitor.code()
    assert [(event["kind"], event["body"]) for event in copy["events"]] == [("debrief", "{}")]


@pytest.mark.parametrize("mode", [pytest.param("visual", marks=pytest.mark.long), "data-only"])
def test_the_trial_type_simulates_a_person(arrive: Callable[..., Visitor], site: Site, mode: str) -> None:
    visitor = arrive()
    visitor.page.goto(f"{site.url}?simulate={mode}")
    # A simulated person takes a person's time, drawn anew each run.
    visitor.page.wait_for_selector("#code", timeout=180_000)
    rows, _ = site.exported("bot")
    assert list(rows[rows.phase != "practice"].trial_id) == planned(site)
    assert set(rows[rows.phase == "test"].response) <= {"boat", "kite"}
    assert (rows.rt_ms > 0).all()

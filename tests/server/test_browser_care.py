"""Care for a person in Chromium: questions, screen, card, coming back, leaving, and what they take along."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

import make_screenshots as walker
from psychophysics_server.storage.tables import events, sessions, tombstones

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
AXE = ROOT / "psychophysics_server" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PAGE = {"title": "What this is about", "body": "You look at pictures and **predict a machine**."}
QUIZ = [
    {"question": "What do you predict?", "options": ["what I see", "what the machine says"], "answer": "what the machine says"},
    {"question": "May you look back?", "options": ["yes", "no"], "answer": "yes"},
]  # fmt: skip
ASKING = {"consent": PAGE, "instructions": [PAGE], "quiz": QUIZ, "debrief": PAGE, "contact": "lab@example.org"}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
AGENT = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36"
)


@dataclass
class Visitor:
    """A person at a screen, and what the data base says of them."""

    running: Any
    address: str
    page: Any

    def come(self) -> Visitor:
        self.page.goto(f"{self.address}?PROLIFIC_PID=5f0000000000000000000001")
        return self

    @property
    def screen(self) -> str:
        return str(walker.kind(self.page))

    def go_to(self, screen: str) -> Visitor:
        for _ in range(walker.MOST_SCREENS):
            if self.screen == screen:
                return self
            walker.go_on(self.page)
        raise AssertionError(f"no '{screen}' within {walker.MOST_SCREENS} screens; the last was '{self.screen}'")

    def press(self, name: str) -> Visitor:
        self.page.get_by_role("button", name=name).click()
        return self

    def wait_for(self, screen: str) -> Visitor:
        self.page.wait_for_selector(f"[data-page={screen}]")
        return self

    def answer(self, *, right: bool) -> Visitor:
        """Answer the questions and wait for what follows."""
        page = self.page
        for number, asked in enumerate(QUIZ):
            wrong = next(option for option in asked["options"] if option != asked["answer"])
            text = asked["answer"] if right else wrong
            page.locator(".question").nth(number).get_by_label(text, exact=True).check()
        screen = walker.serial(page)
        self.press("Check my answers")
        screen.wait_for_element_state("hidden")
        return self

    def row(self) -> Any:
        with self.running.database.read() as connection:
            return connection.execute(select(sessions)).one()

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        with self.running.database.read() as connection:
            rows = connection.execute(select(events).order_by(events.c.seq)).all()
        return [json.loads(row.body) for row in rows if row.kind == kind]

    def count(self, table: Any) -> int:
        with self.running.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def told(self, kind: str) -> dict[str, Any]:
        """Wait until such an event has arrived and return it."""
        for _ in range(100):
            if found := self.bodies(kind):
                return found[-1]
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no {kind} event came")

    def accessible(self) -> Visitor:
        """Let axe look at the page, light and dark, and that nothing is wider than the window."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = self.page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
            assert found == [], (self.page.locator("[data-page]").first.get_attribute("data-page"), scheme)
        self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        return self


@pytest.fixture
def arrive(chromium: Any, build: Any, launch: Any, answering: Any) -> Iterator[Callable[..., Visitor]]:
    """Serve a study that differs from the tiny one, and open a window on it; fails if the page complained."""
    servers, contexts, complaints = contextlib.ExitStack(), [], []

    def open_window(study: dict[str, Any] | None = None, **context: Any) -> Visitor:
        running = launch(build(**study) if study else None)
        url = servers.enter_context(answering(running.app))
        options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | context
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return Visitor(running, f"{url}/study/tiny-study/", page)

    with servers:
        yield open_window
        for opened in contexts:
            opened.close()
    assert complaints == []


def test_the_questions_are_failed_once_read_again_and_passed(arrive):
    visitor = arrive({"texts": ASKING}).come().go_to("quiz").accessible()
    visitor.answer(right=False)
    assert visitor.screen == "quiz-wrong"
    assert "2 of your answers" in visitor.accessible().page.locator("main").inner_text()
    visitor.go_to("quiz").answer(right=True)
    assert visitor.screen == "before-practice"
    assert [body["attempt"] for body in visitor.bodies("quiz")] == [1, 2]
    assert all(body["viewed_ms"] > 0 for body in visitor.bodies("quiz"))
    visitor.go_to("code")
    assert visitor.row().state == "COMPLETE"


def test_who_fails_the_questions_for_good_is_thanked_with_a_code_and_keeps_it_over_a_reload(arrive):
    visitor = arrive({"texts": ASKING}).come().go_to("quiz")
    visitor.answer(right=False).go_to("quiz").answer(right=False).wait_for("ended").accessible()
    code = visitor.page.locator("#code").inner_text()
    token = visitor.page.locator("#deletion").inner_text()
    assert code.startswith("LIMEN-S-")
    assert "no bad consequences" in visitor.page.locator("main").inner_text()
    visitor.page.reload()
    visitor.wait_for("ended")
    assert visitor.page.locator("#code").inner_text() == code
    assert visitor.page.locator("#deletion").inner_text() == token
    assert (visitor.row().state, visitor.row().reason) == ("SCREENED_OUT", "quiz")


def test_a_question_that_is_left_out_is_asked_for_and_nothing_is_sent(arrive):
    visitor = arrive({"texts": ASKING}).come().go_to("quiz")
    visitor.page.locator(".question").nth(0).get_by_label("what I see").check()
    visitor.press("Check my answers")
    assert visitor.page.get_by_role("alert").inner_text() == "Please answer every question."
    assert visitor.page.evaluate("document.activeElement.name") == "question-1"
    assert visitor.bodies("quiz") == []


def test_the_questions_can_be_answered_by_keyboard_and_reloaded_between_tries(arrive):
    visitor = arrive({"texts": ASKING}).come().go_to("quiz").answer(right=False)
    visitor.page.reload()
    assert visitor.screen == "welcome"
    walker.go_on(visitor.page)
    assert visitor.screen == "quiz-wrong"
    visitor.go_to("quiz")
    keyboard, screen = visitor.page.keyboard, walker.serial(visitor.page)
    for asked in QUIZ:
        keyboard.press("Tab")
        keyboard.press("Space")
        shown = visitor.page.locator(".question", has_text=asked["question"]).locator("input")
        values = shown.evaluate_all("nodes => nodes.map(node => node.value)")
        for _ in range(values.index(asked["answer"])):
            keyboard.press("ArrowDown")
    keyboard.press("Tab")
    keyboard.press("Enter")
    screen.wait_for_element_state("hidden")
    assert visitor.screen == "before-practice"


def test_a_window_that_is_too_small_is_refused_until_it_is_larger_and_watched_after(arrive):
    visitor = arrive({"display": {"min_width": 900, "min_height": 600}}, viewport={"width": 700, "height": 500}).come()
    assert visitor.screen == "display"
    go = visitor.accessible().page.get_by_role("button", name="Continue")
    assert go.is_disabled()
    assert "700 × 500" in visitor.page.locator("main").inner_text()
    visitor.page.set_viewport_size({"width": 1000, "height": 700})
    visitor.page.wait_for_selector(".actions .primary:enabled")
    assert visitor.count(events) == 0
    go.click()
    assert visitor.screen == "consent"
    visitor.page.set_viewport_size({"width": 800, "height": 700})
    visitor.page.wait_for_selector(".advice:not([hidden])")
    visitor.accessible().page.set_viewport_size({"width": 1000, "height": 700})
    visitor.page.wait_for_selector(".advice", state="hidden")


def test_who_cannot_make_the_window_larger_ends_with_a_code_and_opens_the_place(arrive):
    visitor = arrive({"display": {"min_width": 900}}, viewport={"width": 700, "height": 500}).come()
    visitor.press("I cannot do that").wait_for("ended").accessible()
    assert visitor.page.locator("#code").inner_text().startswith("LIMEN-S-")
    assert (visitor.row().state, visitor.row().reason) == ("SCREENED_OUT", "device")


def test_a_phone_is_sent_to_a_computer_and_loses_nothing(arrive):
    visitor = arrive({"display": {"mobile": False}}, user_agent=AGENT, **PHONE).come()
    assert visitor.screen == "display"
    assert "on a computer" in visitor.accessible().page.locator("main").inner_text()
    assert visitor.page.get_by_role("button", name="Continue").count() == 0
    assert (visitor.row().state, visitor.count(events)) == ("PRE", 0)
    visitor.press("I cannot do that").wait_for("ended").accessible()
    assert visitor.row().reason == "device"


def test_full_screen_begins_with_a_click_and_leaving_it_is_recorded_and_offered_again(arrive):
    visitor = arrive({"display": {"fullscreen": True}}).come()
    assert visitor.screen == "display"
    visitor.accessible().press("Continue in full screen")
    assert visitor.screen == "consent"
    assert visitor.page.evaluate("document.fullscreenElement !== null")
    walker.go_on(visitor.page)
    assert visitor.told("display")["fullscreen"] is True
    visitor.page.evaluate("document.exitFullscreen()")
    visitor.page.wait_for_selector(".advice:not([hidden])")
    assert visitor.told("focus")["what"] == "fullscreen_exit"
    visitor.accessible().press("Back to full screen")
    visitor.page.wait_for_selector(".advice", state="hidden")


def test_each_visit_leaves_one_record_of_the_screen_without_a_user_agent(arrive):
    visitor = arrive().come().go_to("instructions")
    record = visitor.told("display")
    assert (record["window"], record["browser"], record["system"]) == ("1280x800", "chrome", "linux")
    assert (record["card"], record["px_per_cm"]) == ("", None)
    assert 1 < record["frame_ms"] < 500
    assert "Mozilla" not in json.dumps(record)
    visitor.page.reload()
    visitor.go_to("instructions")
    visitor.page.wait_for_timeout(1500)
    assert len(visitor.bodies("display")) == 2


@pytest.mark.parametrize("phone", [False, True])
def test_a_card_measures_the_screen_once(arrive, phone):
    visitor = arrive({"display": {"calibrate": True}}, **(PHONE if phone else {})).come().go_to("card").accessible()
    slider = visitor.page.get_by_label("Width of the picture")
    slider.focus()
    for _ in range(3):
        visitor.page.keyboard.press("ArrowRight")
    width = float(slider.input_value())
    assert visitor.page.locator(".bankcard").bounding_box()["width"] == pytest.approx(width, abs=0.5)
    visitor.press("It fits")
    measured = visitor.told("display")
    assert measured["px_per_cm"] == pytest.approx(width / (5.398 if phone else 8.56))
    assert measured["card"] == "measured"
    visitor.page.reload()
    visitor.go_to("instructions")
    visitor.page.wait_for_timeout(1500)
    assert [body["card"] for body in visitor.bodies("display")] == ["measured", "remembered"]
    assert visitor.bodies("display")[1]["px_per_cm"] == measured["px_per_cm"]


def test_who_has_no_card_goes_on(arrive):
    visitor = arrive({"display": {"calibrate": True}}).come().go_to("card").press("I have no card")
    assert visitor.screen == "instructions"
    assert visitor.told("display")["card"] == "skipped"


PLACES = ["consent", "instructions", "quiz", "before-practice", "practice", "before-train", "test", "debrief", "saving"]


@pytest.mark.parametrize(
    "place",
    [p if p in {"consent", "quiz", "saving"} else pytest.param(p, marks=pytest.mark.long) for p in PLACES],
)
def test_a_person_can_withdraw_with_a_reason_wherever_they_are(arrive, place):
    visitor = arrive({"texts": ASKING}).come()
    if PLACES.index(place) > PLACES.index("quiz"):
        visitor.go_to("quiz").answer(right=True)
    if place == "saving":
        visitor.go_to("debrief").page.route("**/api/complete", lambda route: route.abort())
        visitor.press("Continue").wait_for("saving")
    else:
        visitor.go_to(place)
    visitor.press("Withdraw")
    visitor.accessible().page.get_by_label("Reason").fill("Enough for today")
    visitor.press("Withdraw and delete my answers").wait_for("farewell").accessible()
    assert (visitor.row().state, visitor.row().reason) == ("WITHDRAWN", "Enough for today")
    assert visitor.count(events) == 0
    visitor.come()
    visitor.page.wait_for_selector("[data-page=trouble]")
    assert "your answers were deleted" in visitor.page.locator("main").inner_text()


def test_who_declines_leaves_nothing(arrive):
    visitor = arrive().come().accessible().press("I do not want to take part").wait_for("farewell").accessible()
    assert (visitor.row().state, visitor.row().reason) == ("WITHDRAWN", "no consent")
    assert (visitor.count(events), visitor.count(tombstones)) == (0, 1)


def test_consent_carries_its_version_and_an_untouched_honeypot(arrive):
    visitor = arrive().come().go_to("instructions")
    body = visitor.told("consent")
    assert body == {"accepted": True, "version": visitor.row().consent_version, "honeypot": False}


def test_a_program_that_fills_in_everything_is_marked_and_goes_on(arrive):
    visitor = arrive().come()
    assert visitor.screen == "consent"
    visitor.page.locator("input[name=website]").evaluate("node => { node.value = 'spam' }")
    visitor.go_to("instructions")
    assert visitor.told("consent")["honeypot"] is True


@pytest.mark.parametrize("policy", ["continue", "restart_block"])
def test_after_a_reload_within_a_block_one_goes_on_or_begins_it_again(arrive, policy):
    visitor = arrive({"resume": {"policy": policy}}).come().go_to("test")
    walker.go_on(visitor.page)
    assert visitor.screen == "test"
    visitor.page.wait_for_function("document.querySelector('.count').textContent.startsWith('5 ')")
    visitor.page.reload()
    assert visitor.accessible().screen == "welcome"
    visitor.go_to("test" if policy == "continue" else "before-test").go_to("code")
    practice = {t.trial_id for trials in visitor.running.study.trials.values() for t in trials if t.phase == "practice"}
    rows = [body for body in visitor.bodies("trial") if body["trial_id"] not in practice]
    resumed = visitor.bodies("resume")
    assert [body["reason"] for body in resumed] == ["reload"]
    assert resumed[0]["gap_s"] >= 0
    assert visitor.row().state == "COMPLETE"
    assert max(body["attempt"] for body in rows) == (1 if policy == "continue" else 2)


def test_a_study_in_one_go_ends_at_a_reload_with_a_code_for_review(arrive):
    visitor = arrive({"resume": {"policy": "refuse"}}).come().go_to("test")
    visitor.page.reload()
    visitor.wait_for("ended").accessible()
    assert visitor.page.locator("#code").inner_text().startswith("LIMEN-R-")
    assert (visitor.row().state, visitor.row().reason) == ("FAILED", "reload")


def test_a_session_that_is_too_old_says_so(arrive):
    visitor = arrive({"resume": {"max_age_hours": 2}}).come().go_to("instructions")

    def job(connection: Any) -> None:
        connection.execute(update(sessions).values(opened_at=sessions.c.opened_at - 3 * 3600))

    visitor.running.database.write(job)
    walker.go_on(visitor.page)
    visitor.wait_for("ended")
    assert "time for this study is over" in visitor.page.locator("h1").inner_text()
    assert visitor.row().state == "EXPIRED"


def test_after_a_long_gap_the_instructions_come_again(arrive):
    visitor = arrive().come().go_to("before-practice")

    def job(connection: Any) -> None:
        connection.execute(update(sessions).values(last_seen=sessions.c.last_seen - 3600))

    visitor.told("display")
    visitor.running.database.write(job)
    visitor.page.reload()
    assert visitor.screen == "welcome"
    walker.go_on(visitor.page)
    assert visitor.screen == "instructions"
    assert visitor.told("resume")["gap_s"] >= 3600


def test_a_double_click_does_one_thing(arrive):
    visitor = arrive().come()
    seen = []
    while (now := visitor.screen) not in {"practice", "card"}:
        screen = walker.serial(visitor.page)
        seen.append((now, visitor.page.locator(".position").all_inner_texts()))
        visitor.page.locator("[data-page] .actions .primary:enabled").first.dblclick(no_wait_after=True)
        screen.wait_for_element_state("hidden")
    assert [kind for kind, _ in seen] == ["consent", "instructions", "instructions", "before-practice"]
    assert seen[1][1] == ["1 / 2"]
    assert len(visitor.bodies("consent")) == 1
    assert len(visitor.bodies("instructions")) == 1


def test_without_a_network_the_saving_page_asks_to_wait_and_goes_on_by_itself(arrive):
    visitor = arrive().come().go_to("debrief")
    visitor.page.context.set_offline(True)
    visitor.press("Continue").wait_for("saving")
    assert "do not close" in visitor.accessible().page.locator("main").inner_text()
    assert visitor.page.locator(".notice").is_visible()
    visitor.page.context.set_offline(False)
    visitor.wait_for("code")


def test_the_end_gives_a_code_and_a_token_and_the_token_erases(arrive):
    visitor = arrive().come().go_to("code").accessible()
    page = visitor.page
    token, code = page.locator("#deletion").inner_text(), page.locator("#code").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the codes as a file").click()
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert token in text
    assert code in text
    page.goto(visitor.address.replace("/study/tiny-study/", "/erase"))
    visitor.accessible().page.get_by_label("Token").fill("ERASE-22222-22222-22222-22222")
    visitor.press("Erase my answers for good")
    assert page.get_by_role("alert").is_visible()
    assert visitor.accessible().row().state == "COMPLETE"
    page.get_by_label("Token").fill(token.lower())
    visitor.press("Erase my answers for good")
    assert page.locator("h1").inner_text() == "Your answers are erased"
    assert visitor.accessible().row().state == "WITHDRAWN"
    assert visitor.count(events) == 0


def test_a_second_window_waits_and_says_where_to_go_on(arrive):
    first = arrive().come().go_to("instructions")
    second = Visitor(first.running, first.address, first.page.context.new_page())
    second.page.goto(first.address)
    second.wait_for("elsewhere").accessible()

"""The dashboard: who gets in, what each role may do, what is written down, and what hostile text can do (nothing)."""

from __future__ import annotations

import html
import io
import re
import zipfile
from typing import Any

import pytest
from sqlalchemy import select, update

from bench.registry import LimenError
from psychophysics_server.admin import accounts as accounts_module
from psychophysics_server.admin.access import ANYONE, NEEDED
from psychophysics_server.admin.accounts import (
    FREE_ATTEMPTS,
    ROLES,
    add_account,
    add_token,
    remove_account,
    remove_token,
    wait_s,
)
from psychophysics_server.admin.roster import PAGE, Wish
from psychophysics_server.storage.database import insert_row
from psychophysics_server.storage.tables import (
    accounts,
    alarms,
    api_tokens,
    audit,
    decisions,
    payments,
    sessions,
    studies,
)

PASSWORD = "a long pass phrase of ours"
RECRUITED = "5f3a0000000000000000abcd"
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module", autouse=True)
def quick_hashes():
    """Hash with the smallest argon2 there is: these tests are about who gets in, not about the cost of a guess."""
    from argon2 import PasswordHasher

    patch = pytest.MonkeyPatch()
    patch.setattr(accounts_module, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    patch.setattr(accounts_module, "_NOBODY", accounts_module._HASHER.hash("nobody"))
    yield
    patch.undo()


class Desk:
    """A researcher's browser: keeps the cookie, sends forms with the token that the page gave."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.client = running.app.test_client()

    def get(self, path: str) -> Any:
        return self.client.get(path, base_url="https://localhost", buffered=True)

    def token_of(self, page: Any) -> str:
        return html.unescape(re.search(r'name="csrf" value="([^"]+)"', page.text)[1])

    def post(self, path: str, *, csrf: str | None = None, **form: Any) -> Any:
        token = self.token_of(self.get("/admin/login")) if csrf is None else csrf
        return self.client.post(path, data={"csrf": token, **form}, base_url="https://localhost", buffered=True)

    def log_in(self, name: str, password: str = PASSWORD, **form: Any) -> Any:
        return self.post("/admin/login", name=name, password=password, **form)


@pytest.fixture
def staffed(running):
    """Return a running study with one account a role."""
    for role in ROLES:
        add_account(running.database, f"the-{role}", role=role, password=PASSWORD)
    return running


@pytest.fixture
def desk(staffed):
    """Log a role in."""

    def sit(role: str = "owner") -> Desk:
        found = Desk(staffed)
        assert found.log_in(f"the-{role}").status_code == 303
        return found

    return sit


def rows(running, table):
    with running.database.read() as connection:
        return connection.execute(select(table)).all()


def admin_routes(running, session):
    """Every address of the dashboard, with values for its blanks, as (endpoint, method, path)."""
    found = []
    values = {"name": session, "number": 1, "filename": "admin.css"}
    for rule in running.app.url_map.iter_rules():
        if rule.endpoint.startswith("admin."):
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda blank: str(values[blank[1]]), rule.rule)
            found += [(rule.endpoint, method, path) for method in sorted(rule.methods - {"HEAD", "OPTIONS"})]
    return found


def test_every_route_under_admin_names_the_role_it_needs(running):
    endpoints = {rule.endpoint for rule in running.app.url_map.iter_rules() if rule.rule.startswith("/admin")}
    assert endpoints == set(NEEDED)
    assert {name for name, role in NEEDED.items() if role == ANYONE} == {
        "admin.static",
        "admin.login",
        "admin.login_check",
        "admin.logout",
    }


def test_no_page_answers_without_a_login(staffed):
    person = staffed.person(RECRUITED)
    for endpoint, method, path in admin_routes(staffed, person.session):
        if NEEDED[endpoint] == ANYONE:
            continue
        stranger = Desk(staffed)
        answer = stranger.post(path) if method == "POST" else stranger.get(path)
        if path.startswith("/admin/api/"):
            assert answer.status_code == 401, path
        else:
            assert answer.status_code == 303, path
            assert answer.headers["Location"].startswith("/admin/login"), path
        assert "baseline-" not in answer.text
        assert "grad_cam" not in answer.text
    assert rows(staffed, decisions) == []


def test_each_role_may_do_what_it_needs_and_no_more(staffed, desk):
    session = staffed.person(RECRUITED).session
    for role in ROLES:
        seat = desk(role)
        for endpoint, method, path in admin_routes(staffed, session):
            needed = NEEDED[endpoint]
            if needed == ANYONE or path.startswith("/admin/api/"):
                continue
            answer = seat.post(path) if method == "POST" else seat.get(path)
            allowed = ROLES.index(role) >= ROLES.index(needed)
            assert (answer.status_code != 403) is allowed, (role, path, answer.status_code)


def test_a_form_without_its_token_changes_nothing(staffed, desk):
    seat = desk("owner")
    session = staffed.person(RECRUITED).session
    before = len(rows(staffed, audit))
    for endpoint, method, path in admin_routes(staffed, session):
        if method == "POST":
            for token in ("", "wrong"):
                answer = seat.post(path, csrf=token, kind="exclude", reason="x", sure="yes", do="pause")
                assert answer.status_code == 403, endpoint
    assert len(rows(staffed, audit)) == before
    assert rows(staffed, decisions) == []


def test_a_form_from_another_site_is_refused(staffed, desk):
    seat = desk("owner")
    token = seat.token_of(seat.get("/admin/study"))
    answer = seat.client.post(
        "/admin/study/pause",
        data={"csrf": token, "sure": "yes", "do": "pause"},
        headers={"Sec-Fetch-Site": "cross-site"},
        base_url="https://localhost",
    )
    assert answer.status_code == 403


def test_without_any_account_one_sentence_says_how_to_make_one(running):
    for path in ("/admin/", "/admin/login", "/admin/people"):
        answer = Desk(running).get(path)
        assert answer.status_code == 503
        assert "limen study account add" in answer.text


def test_a_wrong_password_and_an_unknown_name_answer_alike(staffed):
    wrong, unknown = Desk(staffed).log_in("the-owner", "not it at all"), Desk(staffed).log_in("nobody", "not it at all")
    assert wrong.status_code == unknown.status_code == 401
    strip = re.compile(r'name="csrf" value="[^"]+"')
    assert strip.sub("", wrong.text) == strip.sub("", unknown.text)


def test_a_closed_account_refuses_even_the_right_password_and_says_nothing_of_it(staffed):
    seat = Desk(staffed)
    for _ in range(FREE_ATTEMPTS):
        wrong = seat.log_in("the-owner", "not it at all")
    refused = seat.log_in("the-owner")
    assert refused.status_code == 401
    strip = re.compile(r'name="csrf" value="[^"]+"')
    assert strip.sub("", refused.text) == strip.sub("", wrong.text)
    assert seat.log_in("the-viewer").status_code == 303


def test_a_closed_account_opens_again_after_its_wait(staffed):
    seat = Desk(staffed)
    for _ in range(FREE_ATTEMPTS):
        seat.log_in("the-owner", "not it at all")
    staffed.database.write(lambda c: c.execute(update(accounts).values(locked_until=1.0)))
    assert seat.log_in("the-owner").status_code == 303
    held = {row.name: row for row in rows(staffed, accounts)}["the-owner"]
    assert (held.failures, held.locked_until) == (0, 0.0)


def test_the_wait_doubles_up_to_a_limit():
    waits = [wait_s(failures) for failures in range(40)]
    assert waits[: FREE_ATTEMPTS + 3] == [0.0] * FREE_ATTEMPTS + [5.0, 10.0, 20.0]
    assert waits == sorted(waits)
    assert max(waits) == waits[-1] == 300.0


def test_the_cookie_is_kept_from_scripts_other_sites_and_plain_http(staffed):
    answer = Desk(staffed).log_in("the-owner")
    cookie = answer.headers["Set-Cookie"]
    for part in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/admin"):
        assert part in cookie


def test_a_forged_cookie_opens_nothing(staffed, desk):
    seat = desk("owner")
    held = seat.client.get_cookie("limen_admin", path="/admin").value
    seat.client.set_cookie("limen_admin", held[:-3] + "AAA", path="/admin")
    assert seat.get("/admin/").status_code == 303


def test_after_logging_out_the_old_cookie_is_worth_nothing(staffed, desk):
    seat = desk("owner")
    kept = seat.client.get_cookie("limen_admin", path="/admin").value
    seat.post("/admin/logout", csrf=seat.token_of(seat.get("/admin/")))
    seat.client.set_cookie("limen_admin", kept, path="/admin")
    assert seat.get("/admin/").status_code == 303
    assert not [row for row in rows(staffed, api_tokens) if row.role == "login"]


def test_an_account_that_is_removed_is_out_at_once(staffed, desk):
    seat = desk("viewer")
    assert seat.get("/admin/").status_code == 200
    remove_account(staffed.database, "the-viewer")
    assert seat.get("/admin/").status_code == 303


def test_an_old_login_ends(staffed, desk):
    seat = desk("viewer")
    staffed.database.write(lambda c: c.execute(update(api_tokens).values(expires_at=1.0)))
    assert seat.get("/admin/").status_code == 303


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/admin/\\evil", "javascript:alert(1)", "/study/x"]
)
def test_a_login_never_leads_to_another_site(staffed, wanted):
    answer = Desk(staffed).log_in("the-owner", next=wanted)
    assert answer.headers["Location"] == "/admin/"


def test_a_login_leads_to_the_page_that_was_asked_for(staffed):
    seat = Desk(staffed)
    asked = seat.get("/admin/people?state=stale").headers["Location"]
    assert 'value="/admin/people?state=stale"' in seat.get(asked).text
    assert seat.log_in("the-owner", next="/admin/people?state=stale").headers["Location"] == "/admin/people?state=stale"


def test_passwords_and_tokens_are_stored_as_hashes_alone(staffed, desk):
    desk("owner")
    token = add_token(staffed.database, "watcher", role="viewer")
    held = str([tuple(row) for table in (accounts, api_tokens, audit) for row in rows(staffed, table)])
    assert PASSWORD not in held
    assert token not in held
    assert "$argon2id$" in held


@pytest.mark.parametrize(
    ("name", "role", "password", "says"),
    [
        ("anna", "owner", "short", "at least 12"),
        ("anna", "owner", "my name is anna!", "do not hold the name"),
        ("anna", "boss", PASSWORD, "unknown name 'boss'"),
        ("a b", "owner", PASSWORD, "allowed are letters"),
        ("the-owner", "owner", PASSWORD, "exists already"),
    ],
)
def test_an_account_that_cannot_be_is_refused_in_one_sentence(staffed, name, role, password, says):
    with pytest.raises(LimenError, match=says):
        add_account(staffed.database, name, role=role, password=password)


def test_a_recruiters_id_is_shown_to_an_owner_who_asks_and_it_is_written_down(staffed, desk):
    session = staffed.person(RECRUITED).session
    seat = desk("owner")
    pages = ("/admin/", "/admin/people", f"/admin/people/{session}", "/admin/payments", "/admin/alarms", "/admin/audit")
    for path in pages:
        assert RECRUITED not in seat.get(path).text
    assert RECRUITED in seat.post(f"/admin/people/{session}/identity").text
    assert RECRUITED not in seat.get("/admin/audit").text
    line = rows(staffed, audit)[-1]
    assert (line.account, line.action, line.subject) == ("the-owner", "saw recruiter id", session)


def test_leaving_someone_out_and_paying_them_are_two_decisions(staffed, desk):
    person = staffed.person(RECRUITED).take()
    person.complete()
    seat, path = desk("owner"), f"/admin/people/{person.session}"
    assert seat.post(f"{path}/analysis", kind="exclude", reason="said so").status_code == 303
    assert seat.post(f"{path}/payment", kind="approve", reason="all there").status_code == 303
    assert seat.post(f"{path}/payment", kind="bonus", reason="quick", amount="0.5").status_code == 303
    assert [(row.kind, row.amount, row.author) for row in rows(staffed, decisions)] == [
        ("exclude", None, "the-owner"),
        ("approve", None, "the-owner"),
        ("bonus", 0.5, "the-owner"),
    ]
    [held] = rows(staffed, sessions)
    assert (held.state, held.excluded) == ("COMPLETE", True)
    told = {(line.action, line.account) for line in rows(staffed, audit)}
    assert {("exclude", "the-owner"), ("approve", "the-owner"), ("bonus", "the-owner")} <= told
    assert seat.post(f"{path}/analysis", kind="include", reason="checked again").status_code == 303
    assert not rows(staffed, sessions)[0].excluded


@pytest.mark.parametrize(
    ("way", "form"),
    [
        ("analysis", {"kind": "exclude", "reason": " "}),
        ("analysis", {"kind": "approve", "reason": "x"}),
        ("payment", {"kind": "exclude", "reason": "x"}),
        ("payment", {"kind": "bonus", "reason": "x"}),
        ("payment", {"kind": "bonus", "reason": "x", "amount": "nan"}),
        ("payment", {"kind": "bonus", "reason": "x", "amount": "many"}),
        ("payment", {"kind": "approve", "reason": "x" * 501}),
    ],
)
def test_a_decision_that_cannot_be_is_refused(staffed, desk, way, form):
    session = staffed.person(RECRUITED).session
    assert desk("owner").post(f"/admin/people/{session}/{way}", **form).status_code == 400
    assert rows(staffed, decisions) == []


def test_an_analyst_decides_on_the_analysis_but_not_on_money(staffed, desk):
    session = staffed.person(RECRUITED).session
    seat = desk("analyst")
    assert seat.post(f"/admin/people/{session}/analysis", kind="exclude", reason="x").status_code == 303
    assert seat.post(f"/admin/people/{session}/payment", kind="reject", reason="x").status_code == 403


def test_a_paused_study_turns_newcomers_away_until_it_is_resumed(staffed, desk):
    early, seat = staffed.person("early"), desk("owner")
    assert seat.post("/admin/study/pause", do="pause", reason="too fast").status_code == 400
    assert rows(staffed, studies)[0].paused_at is None
    assert seat.post("/admin/study/pause", do="pause", reason="too fast", sure="yes").status_code == 303
    assert staffed.person("late").opened.status_code == 403
    assert early.take().complete().status_code == 200
    assert "Paused" in seat.get("/admin/").text
    assert seat.post("/admin/study/pause", do="resume", sure="yes").status_code == 303
    assert staffed.person("late").opened.status_code == 201
    acts = [(line.action, line.detail) for line in rows(staffed, audit) if line.action in {"paused", "resumed"}]
    assert acts == [("paused", "too fast"), ("resumed", "")]


def test_the_study_page_leads_to_a_preview_of_each_cell(staffed, desk):
    page = html.unescape(desk("analyst").get("/admin/study").text)
    for cell in staffed.study.cells:
        assert (
            f"/study/tiny-study/?preview={staffed.app.extensions['limen'].config.preview_key}&cell={cell.cell}" in page
        )
    assert "preview=" not in desk("viewer").get("/admin/study").text


def test_the_overview_counts_each_person_once(staffed, desk):
    staffed.person("finishes").take().complete()
    careless = staffed.person("careless")
    catch = [t.trial_id for cell in staffed.study.trials.values() for t in cell if t.is_catch]
    careless.take(wrong=tuple(catch)).complete()
    staffed.person("starts").consent()
    leaver = staffed.person("leaves")
    leaver.call("POST", "/api/withdraw", json={})
    page = desk("viewer").get("/admin/").text
    totals = re.search(r"<tfoot>(.*?)</tfoot>", page, re.DOTALL)[1]
    numbers = [int(cell) for cell in re.findall(r'<td class="n[^"]*">(\d+)</td>', totals)]
    assert numbers == [1, 8, 1, 0, 1, 0, 1, 0]


def test_the_overview_says_where_people_stop(staffed, desk):
    from psychophysics_server.admin.figures import screens

    staffed.person("finishes").take().complete()
    stays = staffed.person("stays")
    stays.take(stop_before=stays.trials()[-1]["trial_id"])
    staffed.person("opens")
    everyone_is_old = update(sessions).values(last_seen=1.0)
    staffed.database.write(lambda c: c.execute(everyone_is_old))
    with staffed.database.read() as connection:
        found = {s.name: s for s in screens(connection, staffed.study, "live", now=1e6, stale_s=60.0)}
    assert [found[name].reached for name in ("Opened", "Consented", "session 2 test", "Finished")] == [3, 2, 2, 1]
    assert {name: s.left for name, s in found.items() if s.left} == {"Opened": 1, "session 2 test": 1}


def test_pay_below_the_minimum_is_a_warning(launch, build):
    recruitment = {"source": "mock", "amount": 1.0, "minutes": 5, "min_hourly": 9.0}
    running = launch(build(recruitment=recruitment))
    add_account(running.database, "anna", role="viewer", password=PASSWORD)
    running.person("one").take().complete()
    slow = {"opened_at": 0.0, "finished_at": 1200.0}
    running.database.write(lambda c: c.execute(update(sessions).values(**slow)))
    seat = Desk(running)
    seat.log_in("anna")
    page = seat.get("/admin/").text
    assert "Pay is too low" in page
    assert "3.00 GBP an hour" in page


def test_the_list_of_people_is_paged_and_sorted_by_the_data_base(staffed, desk):
    first = staffed.person("one")

    def many(connection):
        model = dict(connection.execute(select(sessions)).one()._mapping)
        for index in range(PAGE * 2):
            row = {**model, "session": f"pz{index:04d}", "opened_at": 1000.0 + index, "source": "bot"}
            insert_row(connection, sessions, row)

    staffed.database.write(many)
    seat = desk("viewer")
    names = re.compile(r'href="/admin/people/(p\w+)"')
    page = names.findall(seat.get("/admin/people").text)
    assert page[0] == first.session
    assert len(page) == PAGE
    oldest = names.findall(seat.get("/admin/people?sort=opened&down=0").text)
    assert oldest[:2] == ["pz0000", "pz0001"]
    assert len(names.findall(seat.get("/admin/people?page=3").text)) == 1
    assert names.findall(seat.get("/admin/people?source=live").text) == [first.session]
    assert names.findall(seat.get("/admin/people?look=pz0007").text) == ["pz0007"]


def test_a_page_of_people_takes_as_many_queries_as_a_page_of_one(staffed, desk):
    from sqlalchemy import event

    seat = desk("viewer")
    asked: list[str] = []
    engine = staffed.database._readers

    def count(*arguments: Any) -> None:
        asked.append(str(arguments[2]))

    counts = []
    for names in (("a",), ("b", "c", "d", "e", "f")):
        for name in names:
            staffed.person(name).take().complete()
        asked.clear()
        event.listen(engine, "before_cursor_execute", count)
        assert seat.get("/admin/people").status_code == 200
        event.remove(engine, "before_cursor_execute", count)
        counts.append(len(asked))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "query",
    ["sort=password_hash", "page=-1", "page=²", "page=99999999999999", "state=%27%3B--", "cell=../x", "look=%25"],
)
def test_a_list_asked_for_nonsense_shows_everyone(staffed, desk, query):
    session = staffed.person("one").session
    answer = desk("viewer").get(f"/admin/people?{query}")
    assert answer.status_code == 200
    assert session in answer.text


def test_what_a_list_asks_for_survives_its_address(staffed):
    wish = Wish.of({"source": "live", "state": "stale", "sort": "cell", "down": "0", "page": "3"}, staffed.study)
    again = Wish.of({name: str(value) for name, value in wish.query().items()}, staffed.study)
    assert again == wish
    assert Wish().query() == {}


def test_hostile_text_is_shown_as_text(staffed, desk):
    person = staffed.person("hostile")
    person.consent()
    event = person.event("focus", {"what": HOSTILE})
    person.post(event)
    person.post({**event, "body": '{"what": "' + "<img src=x onerror=alert(1)>" + '"}'})
    person.say("trial", {"trial_id": HOSTILE, "response": HOSTILE, "text": HOSTILE})
    person.call("POST", "/api/manual", json={"reason": HOSTILE})
    staffed.database.write(lambda c: c.execute(update(sessions).values(reason=HOSTILE)))
    seat = desk("owner")
    seat.post(f"/admin/people/{person.session}/analysis", kind="exclude", reason=HOSTILE)
    number = rows(staffed, alarms)[0].id
    pages = [seat.get(path) for path in ("/admin/", "/admin/people", f"/admin/people/{person.session}", "/admin/audit")]
    pages += [seat.get("/admin/alarms"), seat.post(f"/admin/alarms/{number}"), seat.get("/admin/payments")]
    shown = "".join(page.text for page in pages)
    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert (
        html.escape(HOSTILE) in shown
        or html.escape(HOSTILE).replace("&#x27;", "&#39;") in shown
        or "&lt;script&gt;alert" in shown
    )
    assert {page.status_code for page in pages} == {200}


def test_hostile_names_of_cells_and_texts_are_shown_as_text(launch, build):
    page = {"title": HOSTILE, "body": f"**{HOSTILE}**\n\n{HOSTILE}"}
    texts = {"consent": page, "instructions": [page], "debrief": page, "contact": HOSTILE}
    running = launch(build(title=HOSTILE, texts=texts))
    add_account(running.database, "anna", role="owner", password=PASSWORD)
    seat = Desk(running)
    seat.log_in("anna")
    for path in ("/admin/", "/admin/study", "/admin/people"):
        assert "<script>alert" not in seat.get(path).text
    assert "<strong>&lt;script&gt;" in seat.get("/admin/study").text


def test_a_bar_escapes_the_name_of_its_cell():
    from psychophysics_server.admin.shaping import cell_bar
    from psychophysics_server.monitoring.standing import CellCount

    cell = CellCount("live", f'x"{HOSTILE}', 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0)
    assert "<script>" not in cell_bar(cell, 2)
    assert 'x"' not in cell_bar(cell, 2).split("aria-label=")[1].split(">")[0][1:-1]


def test_the_schedule_is_replayed_with_answers_and_never_leaks_other_people(staffed, desk):
    person = staffed.person("one").take()
    other = staffed.person("two")
    page = desk("viewer").get(f"/admin/people/{person.session}").text
    assert page.count('<li class="trial') == len(person.trials())
    assert "expected" in page
    assert other.session not in page
    trial = desk("viewer").get(f"/admin/people/{person.session}/replay/5")
    assert trial.status_code == 200
    assert person.trials()[4]["trial_id"] in html.unescape(trial.text)
    assert desk("viewer").get(f"/admin/people/{person.session}/replay/500").status_code == 404


def test_a_withdrawn_persons_page_shows_the_tombstone_alone(staffed, desk):
    person = staffed.person("one").take()
    person.call("POST", "/api/withdraw", json={"reason": "changed my mind"})
    page = desk("owner").get(f"/admin/people/{person.session}")
    assert page.status_code == 200
    assert "changed my mind" in page.text
    assert '<li class="trial' not in page.text


def test_both_bodies_of_a_conflict_are_shown_to_an_owner_and_written_down(staffed, desk):
    person = staffed.person("one")
    person.consent()
    event = person.event("focus", {"what": "blur", "at_ms": 1.0})
    person.post(event)
    person.post({**event, "body": '{"what": "focus", "at_ms": 2.0}'})
    number = rows(staffed, alarms)[0].id
    page = html.unescape(desk("owner").post(f"/admin/alarms/{number}").text)
    assert '"at_ms": 1.0' in page
    assert '"at_ms": 2.0' in page
    assert rows(staffed, audit)[-1].action == "saw alarm"
    assert desk("owner").post("/admin/alarms/999").status_code == 404


def test_the_export_comes_as_one_archive_without_anyones_id(staffed, desk):
    staffed.person(RECRUITED).take().complete()
    answer = desk("analyst").post("/admin/export", live="1")
    assert answer.mimetype == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert "tiny-study-v1/dataset_description.json" in archive.namelist()
    assert RECRUITED.encode() not in b"".join(archive.read(name) for name in archive.namelist())
    line = rows(staffed, audit)[-1]
    assert (line.account, line.action, line.detail) == ("the-analyst", "export", "live")


def test_a_list_of_payments_is_written_once_and_can_be_sent_again(staffed, desk):
    staffed.person(RECRUITED).take().complete()
    seat = desk("owner")
    first = seat.post("/admin/payments/list")
    assert first.mimetype == "application/zip"
    [listed] = rows(staffed, payments)
    assert listed.item == "approve"
    assert seat.post("/admin/payments/list").status_code == 400
    assert listed.batch in seat.get("/admin/payments").text
    again = seat.post("/admin/payments/list", batch=listed.batch)
    assert again.mimetype == "application/zip"
    assert len(rows(staffed, payments)) == 1


def test_a_token_reads_the_standing_and_nothing_of_the_pages(staffed):
    token = add_token(staffed.database, "watcher", role="viewer")
    staffed.person(RECRUITED).take().complete()
    client = staffed.app.test_client()
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.get("/admin/api/standing", headers=headers)
    assert answer.status_code == 200
    assert sum(cell["complete"] for cell in answer.json["cells"]) == 1
    assert client.get("/admin/api/export", headers=headers).status_code == 403
    assert client.get("/admin/people", headers=headers).status_code == 303
    remove_token(staffed.database, "watcher")
    assert client.get("/admin/api/standing", headers=headers).status_code == 401


def test_a_token_of_an_analyst_fetches_the_export(staffed):
    token = add_token(staffed.database, "backup", role="analyst", days=1)
    staffed.person(RECRUITED).take().complete()
    client = staffed.app.test_client()
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.get("/admin/api/export", headers=headers, buffered=True)
    assert zipfile.ZipFile(io.BytesIO(answer.data)).testzip() is None
    assert rows(staffed, audit)[-1].account == "token backup"
    assert client.get("/admin/api/export?source=all", headers=headers).status_code == 400
    staffed.database.write(lambda c: c.execute(update(api_tokens).values(expires_at=1.0)))
    assert client.get("/admin/api/export", headers=headers).status_code == 401


def test_a_browsers_login_opens_no_address_for_scripts(staffed, desk):
    assert desk("owner").get("/admin/api/standing").status_code == 401


def test_a_participants_token_opens_no_dashboard(staffed):
    person = staffed.person("one")
    assert person.call("GET", "/admin/api/standing").status_code == 401
    assert person.call("GET", "/admin/").status_code == 303


def test_the_pages_allow_no_inline_code_or_style(staffed, desk):
    session = staffed.person("one").take().session
    seat = desk("owner")
    for endpoint, method, path in admin_routes(staffed, session):
        if method == "POST" or path.startswith("/admin/api/") or endpoint == "admin.static":
            continue
        answer = seat.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", answer.text), path


def test_empty_pages_say_so(staffed, desk):
    seat = desk("owner")
    says = {
        "/admin/": "has come yet",
        "/admin/people": "Nobody has come yet",
        "/admin/people?state=stale": "Nobody matches",
        "/admin/payments": "No code was released",
        "/admin/alarms": "No conflict",
    }
    for path, sentence in says.items():
        assert sentence in seat.get(path).text


def test_an_unknown_person_is_not_found(staffed, desk):
    for name in ("nobody", "p" * 500, "%00", "..%2f..%2fetc"):
        assert desk("viewer").get(f"/admin/people/{name}").status_code == 404


@pytest.mark.parametrize("name", ["a\0b", "' OR 1=1 --", "x" * 10_000, "\u202eanna", ""])
def test_a_name_no_account_can_have_is_refused_like_any_other(staffed, name):
    assert Desk(staffed).log_in(name).status_code == 401


def test_the_page_of_someone_who_is_at_it_says_what_is_failed_already(staffed, desk):
    person = staffed.person(RECRUITED)
    person.consent()
    for attempt in (1, 2):
        page = desk("viewer").get(f"/admin/people/{person.session}").text
        assert ("practice attempts: 3, the threshold is 2" in page) is False
        for trial in [one for one in person.trials() if one["phase"] == "practice"]:
            key = person.key()[trial["trial_id"]]
            wrong = next(option for option in trial["payload"]["options"] if option != key)
            person.answer(trial, wrong, attempt=attempt)
            if attempt == 2:
                break
    page = desk("viewer").get(f"/admin/people/{person.session}").text
    assert "practice attempts: 3, the threshold is 2" in re.sub(r"\s+", " ", page)

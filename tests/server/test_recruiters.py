"""Recruiters: who a link names, codes and ways back per outcome, secrets from the environment, and the registry itself."""

from __future__ import annotations

import csv
import io

import pytest

from bench.registry import LimenError, UnknownName
from psychophysics_server.recruitment.recruiter import (
    OUTCOMES,
    RECRUITERS,
    BadIdentity,
    Payable,
    open_recruiter,
    required,
    status_name,
)
from stimuli.records import Recruitment

WORKER = {
    "workerId": "A3EXAMPLE",
    "assignmentId": "3IJXV6UZ1XJ",
    "hitId": "30OG32W0S5L",
    "turkSubmitTo": "https://www.mturk.com",
}
CODES = {
    "LIMEN_PROLIFIC_CODE": "C1DONE",
    "LIMEN_PROLIFIC_SCREENED_OUT": "C2SCREEN",
    "LIMEN_PROLIFIC_NO_CONSENT": "C3NO",
    "LIMEN_PROLIFIC_FULL": "C4FULL",
    "LIMEN_PROLIFIC_MANUAL": "C5LOOK",
}
NOBODY = [
    "",
    "  ",
    "undefined",
    "null",
    "None",
    "NaN",
    "[object Object]",
    "{{%PROLIFIC_PID%}}",
    "%7B%7Bx",
    "a\nb",
    "x" * 201,
]
TERMS = Recruitment()


@pytest.mark.parametrize("name", RECRUITERS.names())
def test_every_file_is_a_recruiter_of_its_name_with_a_card(name):
    found = open_recruiter(name)
    assert found.name == name
    assert RECRUITERS.card(name).summary.endswith((".", ";")) or RECRUITERS.card(name).summary
    assert RECRUITERS.card(name).kind == "recruiter"


@pytest.mark.parametrize("name", RECRUITERS.names())
def test_every_recruiter_ends_every_outcome_with_a_code_of_its_own(name):
    found = open_recruiter(name, CODES if name == "prolific" else {})
    codes = {outcome: found.new_code(TERMS, "live", outcome) for outcome in OUTCOMES}
    assert len(set(codes.values())) == len(OUTCOMES)
    assert found.new_code(TERMS, "bot").startswith("BOT-")
    assert found.new_code(TERMS, "preview", "manual").startswith("PREVIEW-R-")


@pytest.mark.parametrize("name", ["prolific", "mock", "connect"])
@pytest.mark.parametrize("given", NOBODY)
def test_an_id_that_is_nobody_is_refused(name, given):
    found = open_recruiter(name)
    with pytest.raises(BadIdentity, match=f"lacks a valid {found.parameter}"):
        found.identify({found.parameter: given}, "client-12345")


@pytest.mark.parametrize("name", ["prolific", "connect"])
def test_a_placeholder_left_in_the_visit_is_refused_and_a_missing_visit_is_not(name):
    found = open_recruiter(name)
    with pytest.raises(BadIdentity, match=found.visit):
        found.identify({found.parameter: "someone", found.visit: "{{%SESSION_ID%}}"}, "client-12345")
    assert found.identify({found.parameter: "someone"}, "client-12345").submission == ""


def test_prolific_reads_person_and_visit():
    found = open_recruiter("prolific").identify({"PROLIFIC_PID": " 5f00 ", "SESSION_ID": "6a11"}, "client-12345")
    assert (found.recruiter, found.recruiter_id, found.submission) == ("prolific", "5f00", "6a11")


def test_prolific_has_one_code_and_one_address_an_outcome():
    found = open_recruiter("prolific", CODES)
    for outcome, code in found.codes.items():
        assert found.new_code(TERMS, "live", outcome) == code
        assert found.completion_url("live", code) == f"https://app.prolific.com/submissions/complete?cc={code}"
    assert set(found.codes) == set(OUTCOMES)


def test_a_code_that_prolific_does_not_know_leads_nowhere():
    found = open_recruiter("prolific", {"LIMEN_PROLIFIC_CODE": "C1DONE"})
    code = found.new_code(TERMS, "live", "screened_out")
    assert code.startswith("LIMEN-S-")
    assert found.completion_url("live", code) is None
    assert found.completion_url("bot", "C1DONE") is None


def test_a_worker_is_known_by_assignment_too():
    found = open_recruiter("mturk").identify(WORKER, "client-12345")
    assert (found.recruiter, found.recruiter_id, found.submission) == ("mturk", "A3EXAMPLE", "3IJXV6UZ1XJ")


def test_a_previewed_hit_is_told_to_accept_it_first():
    with pytest.raises(BadIdentity, match="accept the HIT"):
        open_recruiter("mturk").identify({**WORKER, "assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE"}, "client-12345")


@pytest.mark.parametrize("lacks", ["workerId", "assignmentId", "turkSubmitTo"])
def test_a_worker_whose_link_lacks_something_is_refused(lacks):
    given = {name: value for name, value in WORKER.items() if name != lacks}
    with pytest.raises(BadIdentity):
        open_recruiter("mturk").identify(given, "client-12345")


@pytest.mark.parametrize(
    "where",
    ["https://workersandbox.mturk.com", "https://www.mturk.com.evil.example", "http://www.mturk.com", "https://evil"],
)
def test_workers_are_handed_back_to_the_site_this_server_works_with_alone(where):
    with pytest.raises(BadIdentity, match="Mechanical Turk site"):
        open_recruiter("mturk").identify({**WORKER, "turkSubmitTo": where}, "client-12345")


def test_the_sandbox_is_asked_for_in_the_environment():
    found = open_recruiter("mturk", {"LIMEN_MTURK_SANDBOX": "1"})
    sandbox = {**WORKER, "turkSubmitTo": "https://workersandbox.mturk.com/"}
    assert found.identify(sandbox, "client-12345").recruiter_id == "A3EXAMPLE"
    form = found.form("live", "LIMEN-AB", "3IJXV6UZ1XJ")
    assert form.action == "https://workersandbox.mturk.com/mturk/externalSubmit"
    assert form.fields == {"assignmentId": "3IJXV6UZ1XJ", "code": "LIMEN-AB"}
    with pytest.raises(BadIdentity):
        found.identify(WORKER, "client-12345")


def test_only_people_whom_mturk_sent_get_its_form():
    found = open_recruiter("mturk")
    assert found.form("preview", "C", "assignment") is None
    assert found.form("live", "C", "") is None


def test_connect_sends_people_to_the_redirect_of_their_outcome():
    known = {
        "LIMEN_CONNECT_CODE": "AB12",
        "LIMEN_CONNECT_SCREENED_OUT": "CD34",
        "LIMEN_CONNECT_COMPLETE_URL": "https://connect.cloudresearch.com/participant/project/FF4E/complete",
    }
    found = open_recruiter("connect", known)
    assert found.completion_url("live", "AB12") == known["LIMEN_CONNECT_COMPLETE_URL"]
    assert found.completion_url("live", "CD34") is None
    assert found.completion_url("preview", "AB12") is None


@pytest.mark.parametrize("url", ["http://connect.cloudresearch.com/x", "https://evil.example/", "javascript:alert(1)"])
def test_a_redirect_that_is_not_connects_is_refused(url):
    with pytest.raises(LimenError, match="LIMEN_CONNECT_FULL_URL: is not an address at https://connect"):
        open_recruiter("connect", {"LIMEN_CONNECT_FULL_URL": url})


def test_an_unknown_recruiter_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown name 'prolifik'; allowed are .*did you mean 'prolific'"):
        open_recruiter("prolifik")


@pytest.mark.parametrize(("name", "variable"), [("prolific", "LIMEN_PROLIFIC_CODE"), ("connect", "LIMEN_CONNECT_CODE")])
def test_what_the_environment_lacks_is_one_sentence(name, variable):
    with pytest.raises(LimenError, match=rf"recruitment.source '{name}': lacks .*; set {variable} in the environment"):
        required(open_recruiter(name))
    required(open_recruiter(name, {variable: "C1"}))


def test_secrets_are_in_no_text_of_a_recruiter():
    shown = repr(open_recruiter("prolific", {**CODES, "LIMEN_PROLIFIC_TOKEN": "t0ken-t0ken"}))
    assert "t0ken" not in shown
    assert "C1DONE" not in shown


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("AWAITING_REVIEW", "AWAITING REVIEW"),
        ("timed-out", "TIMED-OUT"),
        ("TIMED_OUT", "TIMED-OUT"),
        ("Returned", "RETURNED"),
    ],
)
def test_statuses_have_one_spelling(given, ours):
    assert status_name(given) == ours


LISTS = [
    Payable(recruiter_id="anna", submission="s1", item="approve"),
    Payable(recruiter_id="=ben()", submission="s2", item="reject", reason="Answered, all left"),
    Payable(recruiter_id="anna", submission="s1", item="bonus", amount=1.5, reason="longer than told"),
]


def test_prolific_takes_ids_and_amounts_without_a_head():
    files = open_recruiter("prolific").payment_files(LISTS)
    assert files["approve.csv"] == "anna\n"
    assert files["bonus.csv"] == "anna,1.50\n"


def test_mturk_takes_assignments_with_an_x_or_a_reason():
    files = open_recruiter("mturk").payment_files(LISTS)
    rows = list(csv.reader(io.StringIO(files["review.csv"])))
    assert rows[0] == ["AssignmentId", "WorkerId", "Approve", "Reject"]
    assert rows[1] == ["s1", "anna", "x", ""]
    assert rows[2][0] == "s2"
    assert rows[2][2:] == ["", "Answered, all left"]
    assert files["bonus.csv"].splitlines()[1] == "anna,s1,1.50,longer than told"


def test_no_cell_of_a_list_is_a_formula():
    files = open_recruiter("link").payment_files(LISTS)
    assert list(csv.reader(io.StringIO(files["reject.csv"])))[1][0] == "'=ben()"


@pytest.mark.parametrize("name", RECRUITERS.names())
def test_no_one_on_a_list_makes_no_file(name):
    assert open_recruiter(name).payment_files([]) == {}


def test_a_study_page_may_be_framed_by_mturk_alone_and_for_its_studies_alone(launch, build, tmp_path):
    dist = tmp_path / "static" / "dist"
    dist.mkdir(parents=True)
    for name in ("index.js", "index.css"):
        (dist / name).touch()
    (dist / "manifest.json").write_text('{"index.js": "index.js", "index.css": "index.css"}')
    for source in ("mock", "mturk"):
        study = build(study=f"study-{source}", recruitment={"source": source})
        running = launch(study, static=tmp_path / "static")
        policy = running.app.test_client().get(f"/study/study-{source}/").headers["Content-Security-Policy"]
        framed = "frame-ancestors https://worker.mturk.com https://www.mturk.com" in policy
        posts = "form-action https://www.mturk.com;" in policy
        assert (framed, posts) == (source == "mturk", source == "mturk")
        other = running.app.test_client().get("/healthz").headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in other


def worker(running, name="A3EXAMPLE", **changes):
    from_mturk = {"workerId": name, "assignmentId": f"as-{name}", "turkSubmitTo": "https://www.mturk.com", **changes}
    return running.person(name, **from_mturk)


def test_a_worker_gets_the_form_that_submits_the_assignment(launch, build):
    running = launch(build(recruitment={"source": "mturk"}))
    answer = worker(running).take().complete().json
    assert answer["form"] == {
        "action": "https://www.mturk.com/mturk/externalSubmit",
        "fields": {"assignmentId": "as-A3EXAMPLE", "code": answer["code"]},
    }


def test_a_previewing_worker_opens_no_session(launch, build):
    running = launch(build(recruitment={"source": "mturk"}))
    answer = worker(running, assignmentId="ASSIGNMENT_ID_NOT_AVAILABLE").opened
    assert (answer.status_code, answer.json["error"]) == (400, "identity")
    assert "accept the HIT" in answer.json["message"]


def test_whoever_finds_the_study_full_is_told_the_way_back(launch, build):
    running = launch(build(quota=2, recruitment={"source": "prolific"}), environment=CODES)
    for number in range(4):
        running.person(f"person{number}")
    refused = running.person("late").opened
    assert refused.status_code == 403
    assert refused.json["code"] == "C4FULL"
    assert refused.json["url"] == "https://app.prolific.com/submissions/complete?cc=C4FULL"


def test_without_a_fixed_code_all_who_find_no_place_get_the_same(launch, build):
    running = launch(build(quota=2))
    for number in range(4):
        running.person(f"person{number}")
    codes = {running.person(f"late{number}").opened.json["code"] for number in range(3)}
    assert len(codes) == 1
    assert codes.pop().startswith("LIMEN-F-")

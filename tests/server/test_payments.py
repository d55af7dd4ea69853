"""Money and the analysis are two decisions: lists for review, nothing listed twice, nobody unpaid by a rule."""

from __future__ import annotations

import csv
import itertools
import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from bench.registry import LimenError, UnknownName
from psychophysics_server.cli import study as command
from psychophysics_server.people.checks import FLAG
from psychophysics_server.people.decisions import Decision, decide, find_session
from psychophysics_server.people.payments import batches, due, list_again, list_payments
from psychophysics_server.recruitment.recruiter import open_recruiter
from psychophysics_server.storage.tables import audit, check_values, decisions, payments, sessions

TERMS = {"source": "prolific", "minutes": 12, "amount": 2.0, "min_hourly": 9.0}
CODE = {"LIMEN_PROLIFIC_CODE": "C1DONE"}


@pytest.fixture
def paying(launch, build):
    return launch(build(recruitment=TERMS, quota=40), environment=CODE)


def finish(running, name, *, careless=False):
    catch = tuple(t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch)
    person = running.person(name, SESSION_ID=f"visit-{name}")
    assert person.take(wrong=catch if careless else ()).complete().status_code == 200
    return person


def say(running, person, kind, amount=None, reason="because", author="ada"):
    session = person if isinstance(person, str) else person.session
    decision = Decision(session=session, kind=kind, reason=reason, author=author, amount=amount)
    return decide(running.database, running.study, decision)


def row(running, person):
    with running.database.read() as connection:
        return connection.execute(select(sessions).filter_by(session=person.session)).one()


def owed(running):
    with running.database.read() as connection:
        found = due(connection, running.study)
    return [(line.session, line.item.split()[0]) for line in found.lines], [(w.session, w.why) for w in found.waiting]


def write(running, folder, author="ada"):
    recruiter = open_recruiter("prolific", CODE)
    return list_payments(running.database, running.study, recruiter, folder, author=author)


def lines(folder, name):
    path = folder / name
    return list(csv.reader(path.read_text().splitlines())) if path.is_file() else []


def test_whoever_finished_is_paid_whatever_the_checks_say(paying, tmp_path):
    finish(paying, "good")
    careless = finish(paying, "careless", careless=True)
    assert row(paying, careless).excluded
    write(paying, tmp_path / "list")
    assert sorted(lines(tmp_path / "list", "approve.csv")) == [["careless"], ["good"]]
    assert not (tmp_path / "list" / "reject.csv").exists()


def test_the_checks_never_reject(paying):
    careless = finish(paying, "careless", careless=True)
    with paying.database.read() as connection:
        kinds = set(connection.execute(select(decisions.c.kind)).scalars())
    assert kinds == set()
    assert owed(paying)[0] == [(careless.session, "approve")]


def test_excluding_changes_the_analysis_and_not_the_pay(paying):
    person = finish(paying, "good")
    say(paying, person, "exclude", reason="said so in the debrief")
    assert row(paying, person).excluded
    assert owed(paying)[0] == [(person.session, "approve")]
    say(paying, person, "include")
    assert not row(paying, person).excluded


def test_rejecting_changes_the_pay_and_not_the_analysis(paying, tmp_path):
    person = finish(paying, "good")
    say(paying, person, "reject", reason="answers copied")
    assert not row(paying, person).excluded
    write(paying, tmp_path / "list")
    assert not (tmp_path / "list" / "approve.csv").exists()
    assert lines(tmp_path / "list", "reject.csv") == [["good", "answers copied"]]


def test_the_newest_decision_about_money_counts(paying):
    person = finish(paying, "good")
    for kind in ("reject", "approve", "reject", "approve"):
        say(paying, person, kind)
    assert owed(paying)[0] == [(person.session, "approve")]


def test_codes_for_review_wait_for_a_person(paying, tmp_path):
    person = paying.person("unlucky", SESSION_ID="visit-u").take()
    person.call("POST", "/api/manual", json={"reason": "no network"})
    assert owed(paying) == ([], [(person.session, "was given a code for review")])
    listed = write(paying, tmp_path / "one")
    assert (listed.waiting, listed.counts["approve"]) == (1, 0)
    assert lines(tmp_path / "one", "waiting.csv")[1] == [person.session, "was given a code for review"]
    say(paying, person, "approve")
    write(paying, tmp_path / "two")
    assert lines(tmp_path / "two", "approve.csv") == [["unlucky"]]


def test_someone_who_finished_after_the_time_at_the_recruiter_waits_for_a_person(paying):
    person = finish(paying, "slow")
    paying.database.write(lambda connection: connection.execute(update(sessions).values(remote="TIMED-OUT")).rowcount)
    assert owed(paying)[1] == [(person.session, "finished after the time at the recruiter had run out")]


@pytest.mark.parametrize("status", ["APPROVED", "REJECTED", "RETURNED"])
def test_what_is_settled_at_the_recruiter_is_not_listed(paying, status):
    finish(paying, "good")
    paying.database.write(lambda connection: connection.execute(update(sessions).values(remote=status)).rowcount)
    assert owed(paying) == ([], [])


def test_someone_who_finished_and_then_withdrew_is_paid(paying):
    person = finish(paying, "good")
    person.call("POST", "/api/withdraw", json={"reason": "changed my mind"})
    assert owed(paying)[0] == [(person.session, "approve")]


def test_bots_and_previews_are_paid_nothing(paying):
    finish_as_bot = paying.person("bot", source="bot").take()
    assert finish_as_bot.complete().status_code == 200
    assert owed(paying) == ([], [])


def test_what_was_listed_is_not_listed_again(paying, tmp_path):
    finish(paying, "first")
    write(paying, tmp_path / "one")
    with pytest.raises(LimenError, match="nothing is owed that was not listed before"):
        write(paying, tmp_path / "two")
    assert not (tmp_path / "two").exists()
    finish(paying, "second")
    write(paying, tmp_path / "three")
    assert lines(tmp_path / "three", "approve.csv") == [["second"]]


def test_a_list_that_was_lost_is_written_again_as_it_was(paying, tmp_path):
    person = finish(paying, "first")
    say(paying, person, "bonus", 1.25)
    listed = write(paying, tmp_path / "one")
    finish(paying, "second")
    recruiter = open_recruiter("prolific", CODE)
    list_again(paying.database, paying.study, recruiter, tmp_path / "again", batch=listed.batch)
    for name in ("approve.csv", "bonus.csv", "list.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert batches(paying.database, paying.study) == [listed.batch]
    with pytest.raises(UnknownName, match=r"list of payments: unknown name 'x'; allowed are"):
        list_again(paying.database, paying.study, recruiter, tmp_path / "more", batch="x")


def test_nothing_is_overwritten_and_nothing_is_listed_then(paying, tmp_path):
    finish(paying, "first")
    (tmp_path / "list").mkdir()
    with pytest.raises(LimenError, match="exists already; nothing is overwritten"):
        write(paying, tmp_path / "list")
    assert owed(paying)[0] != []


def test_lists_are_for_the_eyes_of_their_owner(paying, tmp_path):
    finish(paying, "first")
    write(paying, tmp_path / "list")
    assert stat.S_IMODE((tmp_path / "list").stat().st_mode) == 0o700
    for path in (tmp_path / "list").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_who_list_at_once_share_the_lines(paying, tmp_path):
    for number in range(6):
        finish(paying, f"person{number}")

    def attempt(number):
        try:
            return write(paying, tmp_path / f"list{number}", author=f"a{number}").counts["approve"]
        except LimenError:
            return 0

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(attempt, range(4)))
    assert sum(counts) == 6
    listed = [line for number in range(4) for line in lines(tmp_path / f"list{number}", "approve.csv")]
    assert sorted(listed) == sorted([f"person{number}"] for number in range(6))


def test_a_bonus_is_listed_once_and_several_add_up(paying, tmp_path):
    person = finish(paying, "good")
    say(paying, person, "bonus", 1.5, "study ran long")
    say(paying, person, "bonus", 0.25, "best of the day")
    listed = write(paying, tmp_path / "one")
    assert lines(tmp_path / "one", "bonus.csv") == [["good", "1.50"], ["good", "0.25"]]
    assert (listed.total, json.loads((tmp_path / "one" / "list.json").read_text())["currency"]) == (1.75, "GBP")
    say(paying, person, "bonus", 1.0)
    write(paying, tmp_path / "two")
    assert lines(tmp_path / "two", "bonus.csv") == [["good", "1.00"]]


def test_a_bonus_of_nothing_takes_back_what_was_not_listed(paying, tmp_path):
    person = finish(paying, "good")
    say(paying, person, "bonus", 500.0, "a slip")
    say(paying, person, "bonus", 0, "meant 5.00")
    say(paying, person, "bonus", 5.0)
    write(paying, tmp_path / "one")
    assert lines(tmp_path / "one", "bonus.csv") == [["good", "5.00"]]


@pytest.mark.parametrize("amount", [None, -1.0, float("nan"), float("inf"), 1000.01, 0.005])
def test_an_amount_that_cannot_be_is_refused(paying, amount):
    person = finish(paying, "good")
    with pytest.raises(LimenError, match="decision 'bonus': given"):
        say(paying, person, "bonus", amount)


def test_only_a_bonus_has_an_amount(paying):
    person = finish(paying, "good")
    with pytest.raises(LimenError, match="only a bonus has an amount"):
        say(paying, person, "approve", 3.0)


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_decision_without_a_reason_is_refused(paying, reason):
    person = finish(paying, "good")
    with pytest.raises(LimenError, match="no reason was given"):
        say(paying, person, "exclude", reason=reason)
    assert not row(paying, person).excluded


def test_an_unknown_kind_and_an_unknown_person_are_refused(paying):
    with pytest.raises(UnknownName, match="did you mean 'reject'"):
        say(paying, "pnobody", "rejects")
    with pytest.raises(LimenError, match="has no participant 'pnobody'"):
        say(paying, "pnobody", "reject")


def test_whoever_is_in_a_list_to_approve_is_not_rejected(paying, tmp_path):
    person = finish(paying, "good")
    write(paying, tmp_path / "list")
    with pytest.raises(LimenError, match="in a list of payments already"):
        say(paying, person, "reject")


def test_someone_screened_out_is_never_rejected(paying):
    person = paying.person("out").take()
    paying.database.write(lambda connection: connection.execute(update(sessions).values(state="SCREENED_OUT")).rowcount)
    with pytest.raises(LimenError, match="screened out; such people are paid as announced"):
        say(paying, person, "reject")


def test_a_rejection_that_the_recruiter_would_question_is_told(paying):
    good, careless = finish(paying, "good"), finish(paying, "careless", careless=True)
    assert "not failed by the study's own rule" in say(paying, good, "reject").cautions[0]
    assert "two failed attention checks" in say(paying, careless, "reject").cautions[0]
    assert say(paying, good, "exclude").cautions == []


def test_every_decision_stays_with_author_reason_and_time_and_in_the_audit_log(paying):
    person = finish(paying, "good")
    for kind in ("exclude", "include", "exclude"):
        say(paying, person, kind, reason=f"{kind} it", author="grace")
    with paying.database.read() as connection:
        held = connection.execute(select(decisions).order_by(decisions.c.id)).all()
        log = connection.execute(select(audit).where(audit.c.subject == person.session).order_by(audit.c.id)).all()
    assert [(one.kind, one.author, one.reason) for one in held] == [
        (kind, "grace", f"{kind} it") for kind in ("exclude", "include", "exclude")
    ]
    assert [(one.action, one.account) for one in log] == [(one.kind, "grace") for one in held]


def test_every_listed_payment_is_in_the_audit_log_without_the_recruiters_id(paying, tmp_path):
    person = finish(paying, "5f00000000000000000000ab")
    say(paying, person, "bonus", 2.0)
    write(paying, tmp_path / "list", author="grace")
    with paying.database.read() as connection:
        log = connection.execute(select(audit).where(audit.c.action == "listed payment")).all()
    assert sorted(one.detail.split(",")[0].split()[0] for one in log) == ["approve", "bonus"]
    assert all("5f0000" not in f"{one.subject}{one.detail}" for one in log)


def test_excluding_opens_a_place_and_including_fills_it(launch, build):
    running = launch(build(recruitment=TERMS, quota=2), environment=CODE)
    people = [finish(running, f"person{number}") for number in range(4)]
    assert running.person("late").opened.status_code == 403
    say(running, people[0], "exclude")
    assert running.person("late").opened.status_code == 201
    assert running.person("later").opened.status_code == 403


def test_someone_excluded_while_they_are_at_it_holds_no_place_and_stays_excluded(launch, build):
    running = launch(build(recruitment=TERMS, quota=2), environment=CODE)
    person = running.person("early").consent and running.person("early")
    say(running, person, "exclude")
    assert person.take().complete().status_code == 200
    assert row(running, person).excluded


def test_a_persons_word_stands_above_the_checks_and_verify_agrees(paying):
    from psychophysics_server.monitoring.verify import verify

    careless = paying.person("careless", SESSION_ID="v")
    say(paying, careless, "include", reason="told us the keys were swapped")
    catch = tuple(t.trial_id for cell in paying.study.trials.values() for t in cell if t.is_catch)
    assert careless.take(wrong=catch).complete().status_code == 200
    assert not row(paying, careless).excluded
    late = finish(paying, "late", careless=True)
    say(paying, late, "include")
    assert not row(paying, late).excluded
    library = paying.app.extensions["limen"].library
    assert verify(paying.database, library).faults == []
    with paying.database.read() as connection:
        failed = select(check_values.c.session).where(
            check_values.c.passed.is_(False), check_values.c.name.not_like(f"{FLAG}%")
        )
        assert set(connection.execute(failed).scalars()) == {careless.session, late.session}


def test_a_person_is_found_by_pseudonym_or_by_the_recruiters_id(paying):
    person = finish(paying, "5f00")
    assert find_session(paying.database, paying.study, person.session) == person.session
    assert find_session(paying.database, paying.study, "5f00") == person.session
    with pytest.raises(LimenError, match="no participants are called so"):
        find_session(paying.database, paying.study, "nobody")


COUNT = itertools.count()


@pytest.fixture(scope="module")
def piloting(launch_once):
    """Return a running study without quotas that the examples of a property share."""
    running = launch_once(pilot=True)
    return lambda: running


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    acts=st.lists(st.sampled_from(["approve", "reject", "exclude", "include", "bonus", "undo", "list"]), max_size=14)
)
def test_whatever_is_decided_in_whatever_order_nothing_is_paid_twice(piloting, tmp_path_factory, acts):
    running = piloting()
    name = f"p{next(COUNT)}"
    person = finish(running, name)
    folder = tmp_path_factory.mktemp("lists")
    standing, told = [], []
    for number, act in enumerate(acts):
        try:
            if act == "list":
                write(running, folder / str(number))
                told += [line for line in lines(folder / str(number), "bonus.csv") if line[0] == name]
                standing.clear()
            elif act in {"bonus", "undo"}:
                say(running, person, "bonus", 0 if act == "undo" else 1.0 + number)
                standing = [] if act == "undo" else [*standing, 1.0 + number]
            else:
                say(running, person, act)
        except LimenError:
            pass
    with running.database.read() as connection:
        items = connection.execute(select(payments.c.item).filter_by(session=person.session)).scalars().all()
        found = due(connection, running.study)
    assert items.count("approve") <= 1
    if "approve" in items:
        assert "reject" not in items or items.index("reject") < items.index("approve")
    assert len(items) == len(set(items))
    open_now = sorted(line.amount for line in found.lines if line.session == person.session and line.amount)
    assert open_now == sorted(standing)
    assert len(told) == sum(item.startswith("bonus") for item in items)


def call(*given, env=None):
    return CliRunner().invoke(command, [str(one) for one in given], env=env or CODE, catch_exceptions=True)


@pytest.fixture
def typed(paying, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(paying.study.file.model_dump(mode="json")))
    common = [
        path,
        "--store",
        paying.study.artifact.path.parent.parent,
        "--db",
        paying.database.url.render_as_string(False),
    ]
    return paying, common


def test_the_commands_decide_list_and_warn(typed, tmp_path):
    running, common = typed
    person = finish(running, "good")
    running.database.write(
        lambda connection: (
            connection.execute(update(sessions).values(opened_at=sessions.c.finished_at - 3600.0)).rowcount
        )
    )
    said = call("decide", *common, "--participant", "good", "bonus", "8", "--reason", "ran long", "--author", "ada")
    assert said.exit_code == 0, said.output
    assert person.session in said.output
    assert "good" not in said.output
    done = call("payments", *common, "-o", tmp_path / "list", "--author", "ada")
    assert done.exit_code == 0, done.output
    assert "1 to approve, 0 to reject, 1 bonuses (8.00 GBP)" in done.output
    assert "realised pay 2.00 GBP per hour (median 60.0 minutes)" in done.output
    assert "warning: below the minimum of 9.00 GBP per hour" in done.output
    again = call("payments", *common, "-o", tmp_path / "more")
    assert again.exit_code != 0
    assert "nothing is owed" in str(again.exception)


def test_the_commands_pause_and_resume(typed):
    running, common = typed
    assert call("pause", *common, "--reason", "a flaw in the stimuli").output.strip().endswith("is paused")
    refused = running.person("new").opened
    assert (refused.status_code, refused.json["error"]) == (403, "paused")
    assert call("pause", *common).output.strip().endswith("is paused already")
    assert call("resume", *common).output.strip().endswith("is open")
    assert running.person("new").opened.status_code == 201


def test_a_decision_without_a_reason_cannot_be_typed(typed):
    running, common = typed
    person = finish(running, "good")
    assert call("decide", *common, "--participant", person.session, "exclude").exit_code == 2

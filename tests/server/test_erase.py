"""Erasing: what was erased is in no table and in no file, and what must stay stays."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from bench.registry import LimenError
from psychophysics_server.cli import study as study_command
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.people.deletion import give
from psychophysics_server.people.erase import UNLINKED, erase_person, unlink
from psychophysics_server.sessions.pause import SERVER, pause, resume
from psychophysics_server.storage.tables import (
    audit,
    codes,
    deletions,
    events,
    participants,
    schedules,
    sessions,
    studies,
    tokens,
    tombstones,
)

SAID = "the sea at five in the morning"
SOON = time.time() + 1e6


@pytest.fixture
def spoken(running):
    """Return an application in which one person said something that can be searched for, and one did not."""
    person = running.person("5f00000000000000000000aa")
    person.consent()
    person.say("focus", {"what": "blur", "at_ms": 1.5, "trial_id": SAID})
    running.spoken = person.take()
    assert person.complete().status_code == 200
    running.silent = running.person("5f00000000000000000000bb").take()
    assert running.silent.complete().status_code == 200
    return running


def library(running):
    return running.app.extensions["limen"].library


def count(running, table, **where):
    with running.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table).filter_by(**where)).scalar_one()


def stop(running):
    running.database.write(lambda connection: pause(connection, running.study, account="ada"))


def files(running):
    """Return every byte on disk of an SQLite data base."""
    path = Path(str(running.database.url.database))
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_an_erased_person_leaves_a_tombstone_and_the_others_everything(spoken):
    held = count(spoken, events, session=spoken.silent.session)
    done = erase_person(spoken.database, spoken.study, participant=spoken.spoken.session)
    assert done.events > 10
    assert count(spoken, events, session=spoken.spoken.session) == 0
    assert count(spoken, tombstones, session=spoken.spoken.session, events_deleted=done.events) == 1
    assert count(spoken, events, session=spoken.silent.session) == held
    assert count(spoken, audit, subject=spoken.spoken.session, action="erased") == 1
    assert verify(spoken.database, library(spoken)).faults == []


def test_an_erased_person_cannot_enter_again_and_keeps_their_code(spoken):
    erase_person(spoken.database, spoken.study, participant=spoken.spoken.session)
    assert spoken.person("5f00000000000000000000aa").opened.status_code == 410
    assert count(spoken, codes, session=spoken.spoken.session, kind="complete") == 1


def test_what_was_erased_is_in_no_byte_of_the_files(spoken, engine_name):
    if engine_name == "postgresql":
        pytest.skip("PostgreSQL keeps dead rows until it vacuums, on its own machine")
    assert SAID.encode() in files(spoken)
    erase_person(spoken.database, spoken.study, participant=spoken.spoken.session)
    assert SAID.encode() not in files(spoken)


def test_a_deletion_token_erases_whoever_holds_it(spoken):
    session = spoken.spoken.session
    token = spoken.database.write(lambda connection: give(connection, session, "bearer", now=1.0))
    assert erase_person(spoken.database, spoken.study, token=token).session == session
    assert count(spoken, events, session=session) == 0


def test_erasing_twice_is_the_same_as_once(spoken):
    first = erase_person(spoken.database, spoken.study, participant=spoken.spoken.session)
    assert erase_person(spoken.database, spoken.study, participant=spoken.spoken.session) == first
    assert verify(spoken.database, library(spoken)).faults == []


@pytest.mark.parametrize(
    "given", [{"participant": "pnobody"}, {"token": "ERASE-AAAAA"}, {"participant": "5f" + "0" * 22}]
)
def test_nobody_is_erased_by_a_name_that_is_none(spoken, given):
    with pytest.raises(LimenError, match="nobody answers to"):
        erase_person(spoken.database, spoken.study, **given)
    assert count(spoken, tombstones) == 0


def test_unlinking_drops_every_link_and_keeps_every_answer(spoken, engine_name):
    stop(spoken)
    held = count(spoken, events)
    assert unlink(spoken.database, spoken.study, before=SOON) == 2
    assert count(spoken, participants) == count(spoken, tokens) == 0
    assert count(spoken, codes) == count(spoken, codes, code=UNLINKED) == 2
    assert count(spoken, events) == held
    assert verify(spoken.database, library(spoken)).faults == []
    if engine_name == "sqlite":
        assert b"5f00000000000000000000aa" not in files(spoken)


def test_unlinking_has_a_cut_off(spoken):
    with spoken.database.read() as connection:
        moments = sorted(connection.execute(select(sessions.c.opened_at)).scalars())
    stop(spoken)
    assert unlink(spoken.database, spoken.study, before=moments[1]) == 1
    with spoken.database.read() as connection:
        kept = list(connection.execute(select(participants.c.recruiter_id)).scalars())
        assert connection.execute(select(studies.c.unlinked_at)).scalar_one() == moments[1]
    assert kept == ["5f00000000000000000000bb"]
    assert verify(spoken.database, library(spoken)).faults == []


@pytest.mark.parametrize("account", [None, SERVER])
def test_a_study_that_takes_newcomers_is_not_unlinked(spoken, account):
    if account is not None:
        spoken.database.write(lambda connection: pause(connection, spoken.study, account=account))
    with pytest.raises(LimenError, match="pause it first"):
        unlink(spoken.database, spoken.study, before=SOON)
    assert count(spoken, participants) == 2


def test_an_unlinked_study_stays_paused_so_nobody_enters_twice(spoken):
    stop(spoken)
    unlink(spoken.database, spoken.study, before=SOON)
    with pytest.raises(LimenError, match="stays paused"):
        spoken.database.write(lambda connection: resume(connection, spoken.study, account="ada"))
    assert spoken.person("5f00000000000000000000aa").opened.status_code == 403
    assert count(spoken, sessions) == 2


def test_people_who_are_still_to_be_paid_are_not_unlinked(launch, build):
    running = launch(build(recruitment={"source": "prolific"}), environment={"LIMEN_PROLIFIC_CODE": "C0DE1234"})
    assert running.person("5f00000000000000000000cc").take().complete().status_code == 200
    stop(running)
    with pytest.raises(LimenError, match="1 people who finished are on no payment list"):
        unlink(running.database, running.study, before=SOON)
    assert unlink(running.database, running.study, before=SOON, paid=True) == 1


def test_a_person_can_still_erase_their_answers_after_unlinking(spoken):
    session = spoken.spoken.session
    token = spoken.database.write(lambda connection: give(connection, session, "bearer", now=1.0))
    stop(spoken)
    unlink(spoken.database, spoken.study, before=SOON)
    assert count(spoken, deletions) >= 1
    assert erase_person(spoken.database, spoken.study, token=token).session == session
    assert count(spoken, schedules, session=session) == 0


def test_the_command_asks_before_it_erases(tmp_path):
    run = CliRunner().invoke(study_command, ["erase", str(tmp_path / "study.yaml")])
    assert isinstance(run.exception, LimenError)
    assert "one of --participant, --token and --unlink-before" in str(run.exception)

"""Counting again: does the data base keep the promise it made to every participant?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from bench.registry import LimenError

from ..people.checks import failed, judge
from ..people.conduct import observed
from ..people.decisions import ANALYSIS, decision_on
from ..people.rows import held_events
from ..sessions.gate import held_blocks
from ..sessions.schedule import missing_trials
from ..sessions.session import answers_of, schedule_of
from ..storage.database import Database, one
from ..storage.tables import alarms, check_values, codes, schedules, sessions
from ..study.frozen import FrozenStudy, Library
from ..wire.chain import body_hash, chain_over
from .links import link_faults


@dataclass
class Verified:
    """What was counted, and one sentence a fault."""

    sessions: int = 0
    complete: int = 0
    withdrawn: int = 0
    events: int = 0
    quarantined: int = 0
    """Events that are kept but cannot count."""
    alarms: int = 0
    manual_codes: int = 0
    faults: list[str] = field(default_factory=list)


def verify(database: Database, library: Library) -> Verified:
    """Recount every session: hashes, chain, gaps, schedule, checks, and that a released code means all is held."""
    result = Verified()
    with database.read() as connection:
        if connection.dialect.name == "sqlite":
            state = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
            if state != "ok":
                result.faults.append(f"data base: SQLite's integrity check says {state}.")
        for row in connection.execute(select(sessions).order_by(sessions.c.session)).all():
            _session(connection, library, row, result)
        result.faults += link_faults(connection)
        result.alarms = len(connection.execute(select(alarms.c.id)).all())
        result.manual_codes = len(connection.execute(select(codes.c.session).filter_by(kind="manual")).all())
    return result


def _session(connection: Connection, library: Library, row: Row[Any], result: Verified) -> None:
    rows = held_events(connection, row.session)
    result.sessions += 1
    result.events += len(rows)
    result.quarantined += sum(bool(event.fault) for event in rows)
    faults = _log_faults(row, rows)
    if row.state == "WITHDRAWN":
        result.withdrawn += 1
    else:
        try:
            study = library.by_key(row.stimuli)
        except LimenError as error:
            faults.append(f"its stimulus set cannot be read: {error}")
        else:
            schedule = _schedule_faults(connection, study, row)
            faults += schedule or [
                *_answer_faults(connection, study, row, rows),
                *_end_faults(connection, study, row, rows),
            ]
    result.complete += row.state == "COMPLETE"
    result.faults += [f"session {row.session}: {fault}" for fault in faults]


def _log_faults(row: Row[Any], rows: list[Row[Any]]) -> list[str]:
    faults = [f"event {event.seq} was changed." for event in rows if body_hash(event.body) != event.body_hash]
    mark = 0
    for event in rows:
        if event.seq != mark + 1:
            break
        mark = event.seq
    if mark != row.high_water:
        faults.append(f"holds events without a gap up to {mark}, its high-water mark says {row.high_water}.")
    if chain_over(event.body_hash for event in rows[:mark]) != row.chain:
        faults.append("the chain over its events differs from the stored one.")
    counted = [(event.trial_id, event.attempt) for event in rows if event.trial_id and not event.fault]
    if len(set(counted)) != len(counted):
        faults.append("a trial counts twice.")
    return faults


def _schedule_faults(connection: Connection, study: FrozenStudy, row: Row[Any]) -> list[str]:
    stored = one(connection, schedules, session=row.session)
    if stored is None:
        return ["has no schedule."]
    frozen = [trial.trial_id for trial in study.trials.get(stored.cell, ())]
    if stored.cell != row.cell or json.loads(stored.trial_ids) != frozen:
        return ["its schedule differs from the frozen set's."]
    return []


def _answer_faults(connection: Connection, study: FrozenStudy, row: Row[Any], rows: list[Row[Any]]) -> list[str]:
    """Compare what counts with the schedule it must be on, and consent with the event that gave it."""
    faults = []
    trials = {trial.trial_id: trial for trial in schedule_of(connection, study, row.session)}
    blocks = held_blocks(connection, study, row.session, trials.values())
    for event in rows:
        if not event.trial_id or event.fault:
            continue
        trial = trials.get(event.trial_id)
        if event.kind != "trial" or trial is None:
            faults.append(f"event {event.seq} counts for a trial that is not on its schedule.")
        elif json.loads(event.body).get("trial_id") != event.trial_id:
            faults.append(f"event {event.seq} counts for another trial than it names.")
        elif (
            not 1 <= event.attempt <= (study.attempts if trial.phase == "practice" else blocks.attempt(trial.trial_id))
        ):
            faults.append(f"event {event.seq} counts as attempt {event.attempt}, which there is not.")
    given = any(event.kind == "consent" and not event.fault and _accepts(event.body) for event in rows)
    if (row.consented_at is not None) != given:
        faults.append("its time of consent and its events of consent contradict each other.")
    return faults


def _accepts(body: str) -> bool:
    return json.loads(body).get("accepted") is True


def _end_faults(connection: Connection, study: FrozenStudy, row: Row[Any], rows: list[Row[Any]]) -> list[str]:
    released = one(connection, codes, session=row.session, kind="complete")
    if (released is None) == (row.state == "COMPLETE"):
        return [f"is {row.state} and {'has no' if released is None else 'has a'} completion code."]
    if released is None:
        return []
    trials, answers = schedule_of(connection, study, row.session), answers_of(connection, row.session)
    lacking = missing_trials(trials, answers, study.attempts)
    faults = [f"has a completion code, but {len(lacking)} trials are not held."] if lacking else []
    if row.high_water < (row.last_seq or math.inf):
        faults.append(f"has a completion code, but not every event up to {row.last_seq}.")
    verdicts = judge(study.file.checks, observed(row, study, trials, rows))
    query = select(check_values.c.name, check_values.c.passed).filter_by(session=row.session)
    if {stored.name: bool(stored.passed) for stored in connection.execute(query)} != {
        verdict.key: verdict.passed for verdict in verdicts
    }:
        faults.append("its stored checks differ from a recount.")
    decided = decision_on(connection, row.session, ANALYSIS)
    if bool(row.excluded) != (bool(failed(verdicts)) if decided is None else decided.kind == "exclude"):
        faults.append("its exclusion differs from its checks and from what was decided.")
    return faults

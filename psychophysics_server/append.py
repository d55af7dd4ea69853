"""Appending events: idempotent by (session, seq), never overwritten, acknowledged after the commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select, update

from .chain import body_hash, link
from .db import Database, insert_once, one
from .frozen import FrozenStudy, Trial
from .schedule import practice_state
from .sessions import answers_of, schedule_of
from .tables import alarms, events, sessions
from .wire import BadBody, Event, TrialBody, parse_body, parse_trial


@dataclass(kw_only=True)
class Appended:
    """What became of a batch (docs/wire.md, section 4)."""

    gone: bool = False
    acknowledged: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    high_water: int = 0
    feedback: dict[str, Any] = field(default_factory=dict)
    practice: Mapping[str, Any] | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "acknowledged": self.acknowledged,
            "high_water": self.high_water,
            "feedback": self.feedback,
            "practice": self.practice,
            "faults": self.faults,
        }


@dataclass(frozen=True, kw_only=True)
class _Read:
    """An event after reading its body: what it is about, and why it cannot count ('' if it can)."""

    fault: str = ""
    trial: Trial | None = None
    body: TrialBody | None = None
    accepted: bool = False

    @property
    def attempt(self) -> int:
        if self.trial is None or self.body is None:
            return 0
        return self.body.attempt if self.trial.phase == "practice" else 1


def append(database: Database, study: FrozenStudy, session: str, batch: Sequence[Event]) -> Appended:
    """Store a batch of events; each is stored once, whatever is sent how often."""

    def job(connection: Connection) -> Appended:
        now = time.time()
        row = connection.execute(select(sessions).filter_by(session=session).with_for_update()).one()
        if row.state == "WITHDRAWN":
            return Appended(gone=True)
        trials = {trial.trial_id: trial for trial in schedule_of(connection, study, session)}
        result = Appended()
        values: dict[str, Any] = {"last_seen": now}
        practised = False
        for event in sorted(batch, key=lambda event: event.seq):
            read = _read(event, trials, study)
            fault = _store(connection, session, event, read, now=now, result=result)
            if fault is None:
                continue
            if fault:
                result.faults[str(event.seq)] = fault
            elif read.accepted and row.consented_at is None:
                values |= {"consented_at": now} | ({"state": "ACTIVE"} if row.state == "PRE" else {})
            practised |= read.trial is not None and read.trial.phase == "practice"
            _tell(read, fault, event.seq, result)
        result.high_water, chain = _advance(connection, row)
        values |= {"high_water": result.high_water, "chain": chain}
        connection.execute(update(sessions).where(sessions.c.session == session).values(**values))
        if practised:
            answers = answers_of(connection, session)
            result.practice = practice_state(list(trials.values()), answers, study.attempts).public()
        return result

    appended: Appended = database.write(job)
    return appended


def _read(event: Event, trials: Mapping[str, Trial], study: FrozenStudy) -> _Read:
    """Judge an event by itself; a faulty one is kept, told of, and never counted."""
    try:
        if event.kind != "trial":
            body = parse_body(event.kind, event.body)
            return _Read(accepted=event.kind == "consent" and body.get("accepted") is True)
        answer = parse_trial(event.body)
    except BadBody as error:
        return _Read(fault=str(error))
    trial = trials.get(answer.trial_id)
    if trial is None:
        return _Read(fault="this trial is not on the schedule of this session")
    if fault := trial.shown.fault(answer.response, parse_body("trial", event.body)):
        return _Read(trial=trial, body=answer, fault=fault)
    if trial.phase == "practice" and answer.attempt > study.attempts:
        return _Read(trial=trial, body=answer, fault=f"practice has at most {study.attempts} attempts")
    return _Read(trial=trial, body=answer)


def _store(
    connection: Connection, session: str, event: Event, read: _Read, *, now: float, result: Appended
) -> str | None:
    """Insert one event; return the fault it is held with ('' if none), or None if its seq is taken by another body."""
    hashed = body_hash(event.body)
    held = one(connection, events, session=session, seq=event.seq)
    if held is None:
        fault = read.fault or _repeat(connection, session, read)
        row = {
            "session": session,
            "seq": event.seq,
            "kind": event.kind,
            "body": event.body,
            "body_hash": hashed,
            "client_time": event.time,
            "server_time": now,
            "trial_id": "" if read.trial is None else read.trial.trial_id,
            "attempt": read.attempt,
            "fault": fault,
        }
        if insert_once(connection, events, row):
            result.acknowledged.append(event.seq)
            return fault
        held = one(connection, events, session=session, seq=event.seq)
    if held is not None and held.body_hash == hashed and held.kind == event.kind:
        result.acknowledged.append(event.seq)
        return str(held.fault)
    alarm = {"session": session, "seq": event.seq, "body": event.body, "body_hash": hashed, "server_time": now}
    insert_once(connection, alarms, alarm)
    result.conflicts.append(event.seq)
    return None


def _repeat(connection: Connection, session: str, read: _Read) -> str:
    if read.trial is None:
        return ""
    query = select(events.c.seq).filter_by(
        session=session, trial_id=read.trial.trial_id, attempt=read.attempt, fault=""
    )
    earlier = connection.execute(query).scalar()
    return "" if earlier is None else f"this trial was answered already, in event {earlier}"


def _tell(read: _Read, fault: str, seq: int, result: Appended) -> None:
    """Tell the answer of a trial that gives feedback, now that the response to it is held."""
    trial, body = read.trial, read.body
    if fault or trial is None or body is None or not trial.asks or trial.payload.get("feedback") is not True:
        return
    result.feedback[str(seq)] = {"correct": body.response == trial.expected, "expected": trial.expected}


def _advance(connection: Connection, row: Row[Any]) -> tuple[int, str]:
    """Move the high-water mark, and the chain with it, over every event that now follows without a gap."""
    mark, chain = int(row.high_water), str(row.chain)
    query = select(events.c.seq, events.c.body_hash).where(events.c.session == row.session, events.c.seq > mark)
    for seq, hashed in connection.execute(query.order_by(events.c.seq)):
        if seq != mark + 1:
            break
        mark, chain = seq, link(chain, hashed)
    return mark, chain

"""Appending events: idempotent by (session, seq), never overwritten, acknowledged after the commit."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import pydantic
from sqlalchemy import Connection, Executable, bindparam, select, update

from ..storage.database import Database, insert_once, one
from ..storage.prepared import Prepared, insert_new
from ..storage.tables import alarms, events, schedules, sessions, tokens
from ..study.frozen import FrozenStudy, Trial
from ..wire.chain import body_hash, link
from ..wire.requests import BadBody, Event, TrialBody, parse_body, sentence
from .gate import Gate
from .schedule import practice_state
from .session import answers_of


@dataclass(kw_only=True)
class Appended:
    """What became of a batch (docs/wire.md, section 4)."""

    unknown: bool = False
    """The token opens this session no longer."""
    gone: bool = False
    stored: int = 0
    """How many of the acknowledged were new."""
    acknowledged: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    high_water: int = 0
    feedback: dict[str, Any] = field(default_factory=dict)
    practice: Mapping[str, Any] | None = None
    quiz: Mapping[str, Any] | None = None
    state: str = "ACTIVE"
    faults: dict[str, str] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "acknowledged": self.acknowledged,
            "high_water": self.high_water,
            "feedback": self.feedback,
            "practice": self.practice,
            "quiz": self.quiz,
            "state": self.state,
            "faults": self.faults,
        }


class _Said(NamedTuple):
    """An event after reading its text, before anything is known of the session."""

    event: Event
    hashed: str
    parsed: dict[str, Any]
    answer: TrialBody | None
    fault: str


@dataclass(frozen=True, kw_only=True)
class _Read:
    """An event after reading its body: what it is about, and why it cannot count ('' if it can)."""

    fault: str = ""
    trial: Trial | None = None
    body: TrialBody | None = None
    attempt: int = 0


class _Standing(NamedTuple):
    """Where a session stands, read under its lock."""

    session: str
    state: str
    cell: str
    high_water: int
    chain: str
    opened_at: float
    consented_at: float | None
    trial_ids: str | None


def _standing(*, by_token: bool) -> Prepared:
    def build(dialect: str) -> Executable:
        columns = [sessions.c[name] for name in _Standing._fields[:-1]]
        query = select(*columns, schedules.c.trial_ids)
        source = sessions.outerjoin(schedules, schedules.c.session == sessions.c.session)
        query = query.where(sessions.c.session == bindparam("of"))
        if by_token:
            source = source.join(tokens, tokens.c.session == sessions.c.session)
            query = query.where(tokens.c.token_hash == bindparam("token"))
        return query.select_from(source).with_for_update(of=sessions)

    return Prepared(build)


def _moved(dialect: str) -> Executable:
    values: dict[str, Any] = {name: bindparam(name) for name in ("last_seen", "high_water", "chain")}
    return update(sessions).where(sessions.c.session == bindparam("of")).values(**values)


def _beyond(dialect: str) -> Executable:
    query = select(events.c.seq, events.c.body_hash)
    query = query.where(events.c.session == bindparam("of"), events.c.seq > bindparam("mark"))
    return query.order_by(events.c.seq)


STANDING, STANDING_BY_TOKEN = _standing(by_token=False), _standing(by_token=True)
MOVED, BEYOND = Prepared(_moved), Prepared(_beyond)
KEPT = insert_new(events, *events.c.keys())


def append(
    database: Database, study: FrozenStudy, session: str, batch: Sequence[Event], *, token: str | None = None
) -> Appended:
    """Store a batch of events; each is stored once, whatever is sent how often.

    Parameters
    ----------
    token
        Hash of the token the batch came with; it must open this session still. None: the caller has seen to it.
    """
    said = [_hear(event) for event in sorted(batch, key=lambda event: event.seq)]

    def job(connection: Connection) -> Appended:
        if token is None:
            found = STANDING.run(connection, of=session)
        else:
            found = STANDING_BY_TOKEN.run(connection, of=session, token=token)
        if not found:
            return Appended(unknown=True)
        return _append(connection, study, _Standing(*found[0]), said)

    appended: Appended = database.write(job)
    return appended


def _append(connection: Connection, study: FrozenStudy, row: _Standing, said: Sequence[_Said]) -> Appended:
    if row.state == "WITHDRAWN":
        return Appended(gone=True)
    now = time.time()
    trials = _scheduled(study.trial_index[row.cell], row.trial_ids or "[]")
    gate = Gate(connection, study, row, trials.values(), now=now)
    result = Appended()
    practised = False
    for heard in said:
        read = _judge(heard, trials, study, gate)
        fault = _store(connection, heard, read, gate=gate, result=result)
        if fault is None:
            continue
        if fault:
            result.faults[str(heard.event.seq)] = fault
        practised |= read.trial is not None and read.trial.phase == "practice"
        _tell(read, fault, heard.event.seq, result)
    if gate.values:
        connection.execute(update(sessions).where(sessions.c.session == row.session).values(**gate.values))
    result.state = gate.state
    if any(heard.event.kind == "quiz" for heard in said):
        result.quiz = gate.quiz.public()
    result.high_water, chain = _advance(connection, row)
    MOVED.run(connection, of=row.session, last_seen=now, high_water=result.high_water, chain=chain)
    if practised:
        answers = answers_of(connection, row.session)
        result.practice = practice_state(list(trials.values()), answers, study.attempts).public()
    return result


class _Index:
    """A cell's trials, compared by identity: the sets of a running server are few and never change."""

    __slots__ = ("trials",)

    def __init__(self, trials: Mapping[str, Trial]) -> None:
        self.trials = trials

    def __hash__(self) -> int:
        return id(self.trials)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Index) and other.trials is self.trials


def _scheduled(index: Mapping[str, Trial], trial_ids: str) -> Mapping[str, Trial]:
    return _lookup(_Index(index), trial_ids)


@lru_cache(maxsize=256)
def _lookup(index: _Index, trial_ids: str) -> Mapping[str, Trial]:
    """Look the trials of a stored schedule up; the people of a cell share one."""
    return {trial_id: index.trials[trial_id] for trial_id in json.loads(trial_ids)}


def _hear(event: Event) -> _Said:
    """Read the text of an event."""
    parsed: dict[str, Any] = {}
    answer, fault = None, ""
    try:
        parsed = parse_body(event.kind, event.body)
        if event.kind == "trial":
            answer = TrialBody.model_validate(parsed)
    except BadBody as error:
        fault = str(error)
    except pydantic.ValidationError as error:
        fault = sentence(error)
    return _Said(event, body_hash(event.body), parsed, answer, fault)


def _judge(said: _Said, trials: Mapping[str, Trial], study: FrozenStudy, gate: Gate) -> _Read:
    """Judge an event by itself and by the life cycle; a faulty one is kept, told of, and never counted."""
    answer = said.answer
    if said.fault:
        return _Read(fault=said.fault)
    if answer is None:
        return _Read(fault=gate.fault(said.event.kind, said.parsed))
    trial = trials.get(answer.trial_id)
    if trial is None:
        return _Read(fault="this trial is not on the schedule of this session")
    fault = trial.shown.fault(answer.response, said.parsed)
    if not fault and trial.phase == "practice" and answer.attempt > study.attempts:
        fault = f"practice has at most {study.attempts} attempts"
    attempt = gate.attempt(trial, answer.attempt)
    fault = fault or gate.fault("trial", said.parsed, trial, attempt)
    return _Read(trial=trial, body=answer, attempt=attempt, fault=fault)


def _store(connection: Connection, said: _Said, read: _Read, *, gate: Gate, result: Appended) -> str | None:
    """Insert one event; return the fault it is held with ('' if none), or None if its seq is taken by another body."""
    event, session, now = said.event, gate.session, gate.now
    row = {
        "session": session,
        "seq": event.seq,
        "kind": event.kind,
        "body": event.body,
        "body_hash": said.hashed,
        "client_time": event.time,
        "server_time": now,
        "trial_id": "" if read.trial is None else read.trial.trial_id,
        "attempt": read.attempt,
        "fault": read.fault,
    }
    if _insert(connection, row):
        result.acknowledged.append(event.seq)
        result.stored += 1
        if not read.fault:
            gate.take(event.kind, said.parsed, read.trial, read.attempt)
        return read.fault
    held = one(connection, events, session=session, seq=event.seq)
    if held is None:  # its seq is free, so the one answer that its trial may have is held already
        row["fault"] = _repeat(connection, row)
        if _insert(connection, row):
            result.acknowledged.append(event.seq)
            result.stored += 1
            return str(row["fault"])
        held = one(connection, events, session=session, seq=event.seq)
    if held is not None and held.body_hash == said.hashed and held.kind == event.kind:
        result.acknowledged.append(event.seq)
        return str(held.fault)
    alarm = {"session": session, "seq": event.seq, "body": event.body, "body_hash": said.hashed, "server_time": now}
    insert_once(connection, alarms, alarm)
    result.conflicts.append(event.seq)
    return None


def _insert(connection: Connection, row: Mapping[str, Any]) -> bool:
    return bool(KEPT.run(connection, **row))


def _repeat(connection: Connection, row: Mapping[str, Any]) -> str:
    answered = {"session": row["session"], "trial_id": row["trial_id"], "attempt": row["attempt"], "fault": ""}
    earlier = connection.execute(select(events.c.seq).filter_by(**answered)).scalar_one()
    return f"this trial was answered already, in event {earlier}"


def _tell(read: _Read, fault: str, seq: int, result: Appended) -> None:
    """Tell the answer of a trial that gives feedback, now that the response to it is held."""
    trial, body = read.trial, read.body
    if fault or trial is None or body is None or not trial.asks or trial.payload.get("feedback") is not True:
        return
    result.feedback[str(seq)] = {"correct": body.response in trial.accepted, "expected": trial.expected}


def _advance(connection: Connection, row: _Standing) -> tuple[int, str]:
    """Move the high-water mark, and the chain with it, over every event that now follows without a gap."""
    mark, chain = row.high_water, row.chain
    for seq, hashed in BEYOND.run(connection, of=row.session, mark=mark):
        if seq != mark + 1:
            break
        mark, chain = seq, link(chain, hashed)
    return mark, chain

"""Sessions: the claim of a place, the tokens that open it, and what a browser reads of it."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from bench.store import sha256_bytes
from stimuli.interface import words_of
from stimuli.records import CellRow

from ..recruitment.submissions import revisit
from ..storage.database import Database, insert_once, insert_row, one
from ..storage.tables import codes, events, participants, schedules, sessions, studies, tokens
from ..study.consent import consent_version
from ..study.frozen import FrozenStudy, Trial, cell_row
from .assign import assign, turned_away
from .gate import held_blocks
from .lifecycle import AGE, ENDING, state_now
from .pause import study_row
from .quiz import held_tries, questions, quiz_state
from .schedule import Answer, practice_state, timeline

TOKENS_KEPT = 20


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Who wants in, after the entry link was read."""

    source: str
    recruiter: str
    recruiter_id: str
    submission: str = ""
    """The recruiter's name of this visit."""
    cell: str | None = None
    """Set for previews and simulated people that ask to be a participant of one cell."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The outcome of opening: a session with a fresh token, or why there is none."""

    refused: str = ""
    session: str = ""
    token: str = ""
    state: str = ""
    resumed: bool = False
    next_seq: int = 1


def token_hash(token: str) -> str:
    """Return what is stored of a token: 256 random bits need no slow hash."""
    return sha256_bytes(token.encode())


def bearer_of(header: str) -> str:
    """Return the token of an Authorization header, '' if it has none."""
    scheme, _, token = header.partition(" ")
    return token if scheme.lower() == "bearer" else ""


def new_session_id() -> str:
    """Draw a public id, never derived from a recruiter's."""
    return "p" + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def open_session(database: Database, study: FrozenStudy, entry: Entry, *, admit: bool, stale_s: float) -> Opened:
    """Claim a place, or open the one this person holds already; one transaction.

    Parameters
    ----------
    admit
        False if no newcomer may enter (the disk is nearly full).
    stale_s
        Seconds after which a silent session holds no place in the balance.
    """

    def job(connection: Connection) -> Opened:
        now = time.time()
        insert_once(connection, studies, study_row(study, now))
        # Where several processes write, one at a time looks who is there: no twin, no seed twice, no place twice.
        connection.execute(select(studies.c.stimuli).filter_by(stimuli=study.key).with_for_update())
        claim = {
            "stimuli": study.key,
            "source": entry.source,
            "recruiter": entry.recruiter,
            "recruiter_id": entry.recruiter_id,
        }
        held = one(connection, participants, **claim)
        if held is not None:
            revisit(connection, held.session, entry.recruiter, entry.submission)
            return _reopen(connection, held.session, now)
        if not admit:
            return Opened(refused="disk")
        if refused := turned_away(connection, study, entry.source, entry.recruiter, entry.recruiter_id):
            return Opened(refused=refused)
        seed = _seed(connection, study, entry.source)
        if entry.cell is not None:
            cell: CellRow | None = cell_row(study, entry.cell)
        else:
            cell = assign(connection, study, entry.source, seed=seed, now=now, stale_s=stale_s)
        if cell is None:
            return Opened(refused="full")
        session = new_session_id()
        _insert_session(connection, study, session, cell, source=entry.source, seed=seed, now=now)
        insert_row(connection, participants, {"session": session, **claim})
        revisit(connection, session, entry.recruiter, entry.submission)
        return Opened(session=session, token=_issue(connection, session, now), state="PRE")

    result: Opened = database.write(job)
    return result


def _seed(connection: Connection, study: FrozenStudy, source: str) -> int:
    """Derive the seed of the next assignment from the study's seed and how many came before."""
    query = (
        select(func.count()).select_from(sessions).where(sessions.c.stimuli == study.key, sessions.c.source == source)
    )
    before = connection.execute(query).scalar_one()
    return int(sha256_bytes(f"{study.file.seed}/{study.key}/{source}/{before}".encode())[:12], 16)


def _insert_session(
    connection: Connection, study: FrozenStudy, session: str, cell: CellRow, *, source: str, seed: int, now: float
) -> None:
    row = {
        "session": session,
        "stimuli": study.key,
        "source": source,
        "state": "PRE",
        "cell": cell.cell,
        "condition": cell.condition,
        "list": cell.list,
        "opened_at": now,
        "last_seen": now,
        "high_water": 0,
        "chain": "",
        "excluded": False,
    }
    insert_row(connection, sessions, row)
    trial_ids = json.dumps([trial.trial_id for trial in study.trials[cell.cell]])
    insert_row(connection, schedules, {"session": session, "cell": cell.cell, "seed": seed, "trial_ids": trial_ids})


def _issue(connection: Connection, session: str, now: float) -> str:
    token = secrets.token_urlsafe(32)
    insert_row(connection, tokens, {"token_hash": token_hash(token), "session": session, "issued_at": now})
    newest = select(tokens.c.token_hash).where(tokens.c.session == session)
    kept = newest.order_by(tokens.c.issued_at.desc(), tokens.c.token_hash).limit(TOKENS_KEPT)
    hashes = list(connection.execute(kept).scalars())
    connection.execute(delete(tokens).where(tokens.c.session == session, tokens.c.token_hash.not_in(hashes)))
    return token


def _reopen(connection: Connection, session: str, now: float) -> Opened:
    row = one(connection, sessions, session=session)
    assert row is not None
    if row.state == "WITHDRAWN":
        return Opened(refused="withdrawn")
    token, next_seq = _issue(connection, session, now), next_free(connection, session)
    return Opened(session=session, token=token, state=row.state, resumed=True, next_seq=next_seq)


def next_free(connection: Connection, session: str) -> int:
    """Return the highest held seq + 1."""
    highest = connection.execute(select(func.max(events.c.seq)).where(events.c.session == session)).scalar()
    return (highest or 0) + 1


def authenticate(connection: Connection, token: str) -> str | None:
    """Return the session a token opens, or None."""
    held = one(connection, tokens, token_hash=token_hash(token))
    return None if held is None else str(held.session)


def schedule_of(connection: Connection, study: FrozenStudy, session: str) -> tuple[Trial, ...]:
    """Read the stored schedule of a session and look its trials up in the frozen set."""
    row = one(connection, schedules, session=session)
    if row is None:
        return ()
    index = study.trial_index[row.cell]
    return tuple(index[trial_id] for trial_id in json.loads(row.trial_ids))


def answers_of(connection: Connection, session: str) -> list[Answer]:
    """Read the answers of a session that count, in the order of seq."""
    query = select(events.c.seq, events.c.trial_id, events.c.attempt, events.c.body)
    query = query.where(events.c.session == session, events.c.trial_id != "", events.c.fault == "")
    return [
        Answer(seq=row.seq, trial_id=row.trial_id, attempt=row.attempt, response=str(json.loads(row.body)["response"]))
        for row in connection.execute(query.order_by(events.c.seq))
    ]


def view(connection: Connection, study: FrozenStudy, row: Row[Any]) -> Mapping[str, Any]:
    """Compose what `GET /api/session` answers (docs/wire.md, section 3)."""
    texts, now = study.file.texts, time.time()
    assert texts is not None
    trials, answers = schedule_of(connection, study, row.session), answers_of(connection, row.session)
    blocks = held_blocks(connection, study, row.session, trials)
    answered = blocks.answered
    query = select(events.c.kind).where(events.c.session == row.session).distinct()
    kinds = set(connection.execute(query).scalars())
    state = state_now(study, row, now)
    code = one(connection, codes, session=row.session, kind=ENDING.get(state, "complete"))
    seed = one(connection, schedules, session=row.session)
    asked = questions(study, 0 if seed is None else seed.seed)
    return {
        "session": row.session,
        "study": {
            "study": study.file.study,
            "version": study.file.version,
            "title": study.file.title,
            "stimuli": study.key,
            "minutes": study.file.recruitment.minutes,
        },
        "state": state,
        "reason": AGE if state == "EXPIRED" else row.reason,
        "next_seq": next_free(connection, row.session),
        "high_water": row.high_water,
        "chain": row.chain,
        "idle_s": max(0.0, now - row.last_seen),
        "language": study.file.language,
        "words": words_of(study.file),
        "texts": texts.model_dump(exclude={"quiz"}),
        "consent_version": consent_version(study),
        "display": study.file.display.model_dump(),
        "resume": study.file.resume.model_dump(),
        "timeline": timeline(study, trials, attempts=blocks.attempts, quiz=asked),
        "done": {
            "consent": row.consented_at is not None,
            "instructions": "instructions" in kinds,
            "debrief": "debrief" in kinds,
        },
        "quiz": quiz_state(study, held_tries(connection, study, row.session)).public(),
        "practice": practice_state(trials, answers, study.attempts).public(),
        "answered": [trial.trial_id for trial in trials if trial.trial_id in answered],
        "code": None if code is None else code.code,
    }

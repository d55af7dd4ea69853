"""Lists of payments for a person to review: who is to be approved, rejected, given a bonus; nothing is listed twice."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from bench.registry import LimenError, unknown

from ..recruitment.recruiter import RECRUITED, Payable, Recruiter, as_csv
from ..storage.audit import note
from ..storage.database import Database, insert_row
from ..storage.tables import codes, participants, payments, sessions, studies
from ..study.frozen import FrozenStudy
from .decisions import BONUS, MONEY, bonus_item, decision_on, open_bonuses

SETTLED = frozenset({"APPROVED", "REJECTED", "RETURNED"})
"""Statuses at the recruiter after which there is nothing left to approve or reject."""
ITEMS = ("approve", "reject", BONUS)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that goes to the recruiter."""

    session: str
    item: str
    """approve, reject, or `bonus N` with the number of the decision."""
    amount: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Someone whom a person must decide on before money moves, and why."""

    session: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Due:
    """What is owed and not listed yet."""

    lines: tuple[Line, ...]
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What was written."""

    batch: str
    folder: Path
    files: tuple[str, ...]
    counts: dict[str, int]
    total: float
    """Sum of the bonuses."""
    waiting: int


def due(connection: Connection, study: FrozenStudy) -> Due:
    """Work out what is owed: whoever holds a completion code is paid unless a person rejected them and said why.

    Neither the checks nor an exclusion from the analysis enter here. Codes for review, people who were screened out, and
    those who finished after their time at the recruiter wait for a person's decision.
    """
    lines: list[Line] = []
    waiting: list[Waiting] = []
    for row in _people(connection, study):
        kinds = set(connection.execute(select(codes.c.kind).where(codes.c.session == row.session)).scalars())
        done = set(connection.execute(select(payments.c.item).where(payments.c.session == row.session)).scalars())
        decided = decision_on(connection, row.session, MONEY)
        lines += [
            Line(session=row.session, item=bonus_item(bonus.id), amount=bonus.amount, reason=bonus.reason)
            for bonus in open_bonuses(connection, row.session)
        ]
        if decided is not None and decided.kind not in done and row.remote not in SETTLED:
            reason = decided.reason if decided.kind == "reject" else ""
            lines.append(Line(session=row.session, item=decided.kind, reason=reason))
        elif decided is None and not done & set(MONEY) and row.remote not in SETTLED:
            why = _why_waiting(kinds, row)
            if why:
                waiting.append(Waiting(session=row.session, why=why))
            elif "complete" in kinds:
                lines.append(Line(session=row.session, item="approve"))
    return Due(lines=tuple(lines), waiting=tuple(waiting))


def _people(connection: Connection, study: FrozenStudy) -> Sequence[Row[Any]]:
    mine = select(sessions).where(sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(RECRUITED)))
    return connection.execute(mine.order_by(sessions.c.opened_at, sessions.c.session)).all()


def _why_waiting(kinds: set[str], row: Row[Any]) -> str:
    if "complete" in kinds:
        return "finished after the time at the recruiter had run out" if row.remote == "TIMED-OUT" else ""
    if "manual" in kinds:
        return "was given a code for review"
    return "was screened out" if "screened_out" in kinds else ""


def list_payments(database: Database, study: FrozenStudy, recruiter: Recruiter, folder: Path, *, author: str) -> Listed:
    """Write what is owed into a new folder, and remember that it was listed.

    What was listed is kept before the files are written: if the machine stops in between, `list_again` writes them.

    Raises
    ------
    LimenError
        If the folder exists, or nothing is owed.
    """
    if folder.exists():
        raise LimenError(f"{folder}: exists already; nothing is overwritten.")
    batch = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"

    def job(connection: Connection) -> Due:
        connection.execute(select(studies.c.stimuli).where(studies.c.stimuli == study.key).with_for_update())
        owed = due(connection, study)
        for line in owed.lines:
            row = {
                "session": line.session,
                "item": line.item,
                "batch": batch,
                "amount": line.amount,
                "reason": line.reason,
                "author": author[:80],
                "listed_at": time.time(),
            }
            insert_row(connection, payments, row)
            amount = "" if line.amount is None else f", {line.amount:.2f} {study.file.recruitment.currency}"
            note(connection, author, "listed payment", line.session, f"{line.item}{amount}, list {batch}")
        return owed

    owed: Due = database.write(job)
    if not owed.lines and not owed.waiting:
        raise LimenError(f"study {study.file.study}: nothing is owed that was not listed before.")
    return _write(database, study, recruiter, folder, batch=batch, waiting=owed.waiting)


def list_again(database: Database, study: FrozenStudy, recruiter: Recruiter, folder: Path, *, batch: str) -> Listed:
    """Write the files of an earlier list again, exactly as they were; nothing is owed anew.

    Raises
    ------
    UnknownName
        If there is no such list.
    LimenError
        If the folder exists.
    """
    if folder.exists():
        raise LimenError(f"{folder}: exists already; nothing is overwritten.")
    known = batches(database, study)
    if batch not in known:
        raise unknown("list of payments", batch, known)
    return _write(database, study, recruiter, folder, batch=batch, waiting=())


def batches(database: Database, study: FrozenStudy) -> list[str]:
    """Name the lists that were written, the oldest first."""
    query = select(payments.c.batch).join(sessions, sessions.c.session == payments.c.session).distinct()
    with database.read() as connection:
        return sorted(connection.execute(query.where(sessions.c.stimuli == study.key)).scalars())


def _write(
    database: Database,
    study: FrozenStudy,
    recruiter: Recruiter,
    folder: Path,
    *,
    batch: str,
    waiting: Sequence[Waiting],
) -> Listed:
    with database.read() as connection:
        rows, unlinked = _payable(connection, batch)
    files = recruiter.payment_files(rows)
    waits = [*waiting, *(Waiting(session=name, why="the link to the recruiter's id was dropped") for name in unlinked)]
    if waits:
        files["waiting.csv"] = as_csv([["participant", "why"], *([one.session, one.why] for one in waits)])
    counts = {item: sum(row.item == item for row in rows) for item in ITEMS}
    total = round(sum(row.amount or 0.0 for row in rows), 2)
    facts = {
        "study": study.file.study,
        "version": study.file.version,
        "recruiter": recruiter.name,
        "list": batch,
        "currency": study.file.recruitment.currency,
        "counts": counts,
        "bonuses": total,
        "waiting": len(waits),
    }
    files["list.json"] = json.dumps(facts, indent=2) + "\n"
    _folder(folder, files)
    return Listed(
        batch=batch, folder=folder, files=tuple(sorted(files)), counts=counts, total=total, waiting=len(waits)
    )


def _payable(connection: Connection, batch: str) -> tuple[list[Payable], list[str]]:
    query = (
        select(payments, participants.c.recruiter_id, participants.c.submission)
        .outerjoin(participants, participants.c.session == payments.c.session)
        .where(payments.c.batch == batch)
        .order_by(payments.c.session, payments.c.item)
    )
    rows, unlinked = [], []
    for row in connection.execute(query):
        if row.recruiter_id is None:
            unlinked.append(row.session)
            continue
        item = BONUS if row.item.startswith(BONUS) else row.item
        rows.append(
            Payable(
                recruiter_id=row.recruiter_id,
                submission=row.submission,
                item=item,
                amount=row.amount,
                reason=row.reason,
            )
        )
    return rows, unlinked


def _folder(folder: Path, files: dict[str, str]) -> None:
    """Write files that only their owner may read, and give the folder its name when all are there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name, text in files.items():
            descriptor = os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
        os.rename(draft, folder)
    except OSError as error:
        raise LimenError(
            f"{folder}: cannot be written ({error.strerror}); `--again LIST` writes the list again."
        ) from None

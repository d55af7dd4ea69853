"""What a person decides about a person: out of the analysis is one thing, payment another; every decision stays."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from bench.registry import LimenError, unknown

from ..storage.audit import note
from ..storage.database import Database, insert_row, one
from ..storage.tables import check_values, codes, decisions, participants, payments, sessions
from ..study.frozen import FrozenStudy
from .checks import FLAG

ANALYSIS = ("exclude", "include")
MONEY = ("approve", "reject")
BONUS = "bonus"
KINDS = (*ANALYSIS, *MONEY, BONUS)
LARGEST_BONUS = 1000.0
SHORT_MINUTES = 5.0
"""Prolific asks for one failed attention check below this length, for two from it on, before a rejection."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision to make; `amount` is for bonuses, where 0 takes back what was not listed for payment yet."""

    session: str
    kind: str
    reason: str
    author: str
    amount: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The outcome: the row's number, and sentences that a careful person should read."""

    number: int
    cautions: list[str] = field(default_factory=list)


def decision_on(connection: Connection, session: str, kinds: Collection[str]) -> Row[Any] | None:
    """Return the newest decision of some kinds on a person, or None."""
    query = select(decisions).where(decisions.c.session == session, decisions.c.kind.in_(sorted(kinds)))
    return connection.execute(query.order_by(decisions.c.id.desc()).limit(1)).one_or_none()


def open_bonuses(connection: Connection, session: str) -> list[Row[Any]]:
    """List a person's bonuses that were neither taken back nor listed for payment."""
    query = select(decisions).where(decisions.c.session == session, decisions.c.kind == BONUS)
    listed = set(connection.execute(select(payments.c.item).where(payments.c.session == session)).scalars())
    standing: list[Row[Any]] = []
    for row in connection.execute(query.order_by(decisions.c.id)):
        if not row.amount:
            standing.clear()
        elif bonus_item(row.id) not in listed:
            standing.append(row)
    return standing


def find_session(database: Database, study: FrozenStudy, given: str) -> str:
    """Return the session of a pseudonym, or of a recruiter's id.

    Raises
    ------
    LimenError
        If nobody in this study version is called so, or several are.
    """
    query = select(participants.c.session).where(
        participants.c.stimuli == study.key, or_(participants.c.session == given, participants.c.recruiter_id == given)
    )
    mine = select(sessions.c.session).where(sessions.c.stimuli == study.key, sessions.c.session == given)
    with database.read() as connection:
        found = set(connection.execute(query).scalars()) | set(connection.execute(mine).scalars())
    if len(found) != 1:
        raise LimenError(
            f"study {study.file.study}, version {study.file.version}: {len(found) or 'no'} participants are called so; "
            "give the pseudonym (p...) that the export and the dashboard show."
        )
    return str(found.pop())


def bonus_item(number: int) -> str:
    """Name a bonus in the table of payments."""
    return f"{BONUS} {number}"


def decide(database: Database, study: FrozenStudy, decision: Decision) -> Decided:
    """Keep a decision, carry it out, and write it into the audit log; one transaction.

    Excluding opens the person's place again, including fills it again; neither touches payment, and no decision about
    money touches the analysis.

    Raises
    ------
    LimenError
        If the kind is unknown, a reason or amount lacks, there is no such person in this study, or it comes too late.
    """
    _check(decision)

    def job(connection: Connection) -> Decided:
        return _decide(connection, study, decision)

    done: Decided = database.write(job)
    return done


def _check(decision: Decision) -> None:
    where = f"decision '{decision.kind}'"
    if decision.kind not in KINDS:
        raise unknown("decision", decision.kind, KINDS)
    if not decision.reason.strip():
        raise LimenError(f"{where}: no reason was given; it is what people read later.")
    if decision.kind != BONUS:
        if decision.amount is not None:
            raise LimenError(f"{where}: {decision.amount:g} was given; only a bonus has an amount.")
        return
    amount = decision.amount
    if amount is None or not math.isfinite(amount) or not 0 <= amount <= LARGEST_BONUS:
        raise LimenError(f"{where}: given {amount}; allowed is an amount from 0 to {LARGEST_BONUS:g}.")
    if abs(round(amount, 2) - amount) > 1e-9:
        raise LimenError(f"{where}: given {amount:g}; allowed are whole cents.")


def _decide(connection: Connection, study: FrozenStudy, decision: Decision) -> Decided:
    held = connection.execute(select(sessions).filter_by(session=decision.session).with_for_update())
    row = held.one_or_none()
    if row is None or row.stimuli != study.key:
        raise LimenError(
            f"decision '{decision.kind}': study {study.file.study}, version {study.file.version} has no participant "
            f"'{decision.session}'."
        )
    if decision.kind in MONEY:
        _refuse_late(connection, row, decision.kind)
    values = {
        "session": decision.session,
        "kind": decision.kind,
        "amount": decision.amount,
        "reason": decision.reason.strip(),
        "author": decision.author[:80],
        "server_time": time.time(),
    }
    insert_row(connection, decisions, values)
    if decision.kind in ANALYSIS:
        mine = update(sessions).where(sessions.c.session == decision.session)
        connection.execute(mine.values(excluded=decision.kind == "exclude"))
    amount = "" if decision.amount is None else f" ({decision.amount:.2f} {study.file.recruitment.currency})"
    note(connection, decision.author, decision.kind, decision.session, decision.reason.strip() + amount)
    kept = decision_on(connection, decision.session, [decision.kind])
    assert kept is not None
    return Decided(number=int(kept.id), cautions=_cautions(connection, study, row, decision.kind))


def _refuse_late(connection: Connection, row: Row[Any], kind: str) -> None:
    other = "reject" if kind == "approve" else "approve"
    if kind == "reject":
        if row.state == "SCREENED_OUT":
            raise LimenError(
                f"decision 'reject': participant {row.session} was screened out; such people are paid as announced or "
                "return their submission, they are never rejected."
            )
        if one(connection, payments, session=row.session, item=other) is not None:
            raise LimenError(
                f"decision 'reject': participant {row.session} is in a list of payments already; settle it with the recruiter."
            )


def _cautions(connection: Connection, study: FrozenStudy, row: Row[Any], kind: str) -> list[str]:
    """Say what a recruiter would hold against a rejection; nothing of it is refused here."""
    if kind != "reject":
        return []
    found = []
    query = select(check_values.c.name).where(
        check_values.c.session == row.session,
        check_values.c.passed.is_(False),
        check_values.c.name.not_like(f"{FLAG}%"),
    )
    failing = set(connection.execute(query).scalars())
    if "catch_accuracy" not in failing:
        found.append("The attention checks were not failed by the study's own rule.")
    elif study.file.recruitment.minutes >= SHORT_MINUTES:
        found.append(
            f"Prolific asks for two failed attention checks in a study of {SHORT_MINUTES:g} minutes or more; count them first."
        )
    manual = one(connection, codes, session=row.session, kind="manual")
    if manual is not None:
        found.append(
            "This person was given a code for review because answers could not be saved, which was not their fault."
        )
    return found

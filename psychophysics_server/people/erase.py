"""Erasing: one person's answers at their wish, or what links a study's answers to a recruiter's people.

Unlinking drops the ids for good. A hash of an id would still tell whoever holds the recruiter's list who is who, so
none is kept; then nobody who returns can be recognised, and so a study must be paused before and stays so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from bench.registry import LimenError

from ..sessions.pause import SERVER, paused_by, subject
from ..storage.audit import TERMINAL, note
from ..storage.database import Database, one
from ..storage.tables import codes, participants, payments, recruiter_events, sessions, studies, tokens, tombstones
from ..study.frozen import FrozenStudy
from .deletion import session_of
from .finish import withdraw

ERASED = "erased on request"
"""Reason in the tombstone of a person whose answers a researcher erased."""
UNLINKED = "unlinked"
"""What stands in the place of a code: a code that a person typed at the recruiter names them."""
PAYERS = ("prolific", "mturk", "connect")


@dataclass(frozen=True, kw_only=True)
class Erased:
    """One person's erasure: the pseudonym, and how many events there were."""

    session: str
    events: int


def erase_person(database: Database, study: FrozenStudy, *, participant: str = "", token: str = "") -> Erased:
    """Delete everything one person said; the session stays as a tombstone, so that they cannot enter twice.

    Parameters
    ----------
    participant
        The pseudonym, or
    token
        the deletion token that the person holds.

    Raises
    ------
    LimenError
        If nobody in this study is called so.
    """
    with database.read() as connection:
        name = session_of(connection, token) if token else participant
        row = None if name is None else one(connection, sessions, session=name)
    if name is None or row is None or row.stimuli != study.key:
        given = "this token" if token else f"'{participant}'"
        raise LimenError(
            f"study {study.file.study}, version {study.file.version}: nobody answers to {given}; give the pseudonym "
            "(p...) that the export and the dashboard show, or the whole deletion token."
        )
    withdraw(database, name, reason=ERASED)

    def rest(connection: Connection) -> int:
        connection.execute(update(codes).where(codes.c.session == name).values(reason=""))
        connection.execute(update(tombstones).where(tombstones.c.session == name).values(reason=ERASED))
        note(connection, TERMINAL, "erased", name)
        return int(connection.execute(select(tombstones.c.events_deleted).filter_by(session=name)).scalar_one())

    erased = Erased(session=name, events=database.write(rest))
    database.compact()
    return erased


def unlink(database: Database, study: FrozenStudy, *, before: float, paid: bool = False) -> int:
    """Drop what links everyone who entered before a moment to the recruiter; returns how many.

    Dropped are recruiters' ids and names of visits, what the recruiter told of them, the codes, and the tokens of their
    browsers. Answers, pseudonyms, decisions and deletion tokens stay: whoever holds one can still erase their answers.

    Parameters
    ----------
    before
        Seconds since 1970.
    paid
        Everyone was paid, though no list says so.

    Raises
    ------
    LimenError
        If the study is not paused by a person, or somebody who finished is on no payment list.
    """

    def job(connection: Connection) -> int:
        connection.execute(select(studies.c.stimuli).filter_by(stimuli=study.key).with_for_update())
        _refuse_open(connection, study)
        names = select(sessions.c.session).where(sessions.c.stimuli == study.key, sessions.c.opened_at < before)
        if not paid and (unpaid := _unpaid(connection, study, before)):
            raise LimenError(
                f"study {study.file.study}: {unpaid} people who finished are on no payment list, and lists need their ids; "
                "write it with `limen study payments`, or add --paid if they were paid otherwise."
            )
        mine = participants.c.session.in_(names)
        ids = select(participants.c.recruiter_id).where(mine)
        connection.execute(delete(recruiter_events).where(recruiter_events.c.recruiter_id.in_(ids)))
        dropped = connection.execute(delete(participants).where(mine)).rowcount
        connection.execute(update(codes).where(codes.c.session.in_(names)).values(code=UNLINKED))
        connection.execute(delete(tokens).where(tokens.c.session.in_(names)))
        cut = connection.execute(select(studies.c.unlinked_at).filter_by(stimuli=study.key)).scalar()
        connection.execute(
            update(studies).where(studies.c.stimuli == study.key).values(unlinked_at=max(before, cut or 0.0))
        )
        day = time.strftime("%Y-%m-%d", time.gmtime(before))
        note(connection, TERMINAL, "unlinked", subject(study), f"{dropped} people who entered before {day}")
        return int(dropped)

    dropped: int = database.write(job)
    database.compact()
    return dropped


def _refuse_open(connection: Connection, study: FrozenStudy) -> None:
    if paused_by(connection, study) in {None, SERVER}:
        raise LimenError(
            f"study {study.file.study}: takes newcomers, and without ids nobody who returns can be recognised; pause it "
            "first with `limen study pause`."
        )


def _unpaid(connection: Connection, study: FrozenStudy, before: float) -> int:
    listed = select(payments.c.session).where(payments.c.item.in_(["approve", "reject"]))
    query = (
        select(func.count())
        .select_from(sessions)
        .join(participants, participants.c.session == sessions.c.session)
        .where(
            sessions.c.stimuli == study.key,
            sessions.c.opened_at < before,
            sessions.c.state == "COMPLETE",
            sessions.c.source == "live",
            participants.c.recruiter.in_(PAYERS),
            sessions.c.session.not_in(listed),
        )
    )
    return int(connection.execute(query).scalar_one())

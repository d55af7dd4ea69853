"""Pausing a study: newcomers wait, whoever is in goes on; by a person, or by the server at the limit."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, select, update

from bench.registry import LimenError

from ..storage.audit import note
from ..storage.database import insert_once
from ..storage.tables import audit, studies
from ..study.frozen import FrozenStudy

SERVER = "(server)"
"""Author of a pause that the server made when every place was filled."""
PAUSE, RESUME = "paused", "resumed"
"""Actions in the audit log, which the dashboard writes as well."""


def study_row(study: FrozenStudy, now: float) -> dict[str, Any]:
    """Return the row of a study version that is seen for the first time."""
    return {"stimuli": study.key, "study": study.file.study, "version": study.file.version, "first_served": now}


def subject(study: FrozenStudy) -> str:
    """Name a study version as the audit log does."""
    return f"{study.file.study} version {study.file.version} ({study.key})"


def paused_by(connection: Connection, study: FrozenStudy) -> str | None:
    """Return who paused a study, None if it is not paused, '' if nobody put a name to it."""
    held = connection.execute(select(studies.c.paused_at).where(studies.c.stimuli == study.key)).scalar()
    if held is None:
        return None
    query = select(audit.c.account).where(audit.c.action == PAUSE, audit.c.subject == subject(study))
    return str(connection.execute(query.order_by(audit.c.id.desc()).limit(1)).scalar() or "")


def pause(connection: Connection, study: FrozenStudy, *, account: str, detail: str = "") -> bool:
    """Take no newcomers; returns False if the same holds already. A person's pause takes the place of the server's."""
    insert_once(connection, studies, study_row(study, time.time()))
    held = paused_by(connection, study)
    if held not in {None, SERVER} or held == account:
        return False
    connection.execute(update(studies).where(studies.c.stimuli == study.key).values(paused_at=time.time()))
    note(connection, account, PAUSE, subject(study), detail)
    return True


def resume(connection: Connection, study: FrozenStudy, *, account: str, detail: str = "") -> bool:
    """Take newcomers again; returns False if the study was not paused.

    Raises
    ------
    LimenError
        If the study's link to its people was cut: whoever returned would be taken for somebody new.
    """
    if paused_by(connection, study) is None:
        return False
    if connection.execute(select(studies.c.unlinked_at).where(studies.c.stimuli == study.key)).scalar() is not None:
        raise LimenError(
            f"study {subject(study)}: its recruiter ids were dropped, so nobody who returns could be recognised; "
            "it stays paused, serve a new version."
        )
    connection.execute(update(studies).where(studies.c.stimuli == study.key).values(paused_at=None))
    note(connection, account, RESUME, subject(study), detail)
    return True

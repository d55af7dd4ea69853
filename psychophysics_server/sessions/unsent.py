"""The copy of unsent answers that a participant downloaded and sent in: stored as if the browser had sent it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from bench.registry import LimenError

from ..storage.audit import TERMINAL, note
from ..storage.database import Database, one
from ..storage.tables import events, sessions
from ..study.frozen import FrozenStudy
from ..wire.chain import body_hash, chain_over
from ..wire.requests import MAX_BATCH, MAX_SEQ, Event, sentence
from .append import append

LARGEST = 64 * 1024 * 1024
"""Bytes of a file."""


class Copy(BaseModel):
    """What the file holds (docs/wire.md, section 6); a code and a deletion token beside it are not read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    study: Annotated[str, Field(min_length=1, max_length=64)]
    session: Annotated[str, Field(pattern=r"^[a-z0-9]{1,40}$")]
    last_seq: Annotated[int, Field(ge=1, le=MAX_SEQ)]
    chain: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    events: Annotated[list[Event], Field(max_length=MAX_SEQ)]


@dataclass
class Imported:
    """What became of a copy."""

    session: str
    stored: list[int] = field(default_factory=list)
    """Events that were not held before."""
    held: list[int] = field(default_factory=list)
    """Events that were held already, with the same bodies."""
    faults: dict[str, str] = field(default_factory=dict)
    """Events that are kept but cannot count."""
    high_water: int = 0


def read_copy(file: str | Path) -> Copy:
    """Read a participant's copy.

    Raises
    ------
    LimenError
        If it cannot be read, is too large, or is not such a copy.
    """
    file = Path(file)
    try:
        if file.stat().st_size > LARGEST:
            raise LimenError(f"{file}: is larger than {LARGEST} bytes; a participant's copy never is.")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise LimenError(f"{file}: cannot be read as a text file.") from None
    try:
        return Copy.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise LimenError(f"{file}: is not a participant's copy: {sentence(error)}") from None


def import_copy(database: Database, study: FrozenStudy, file: str | Path) -> Imported:
    """Store the events of a copy, each once, and say so in the audit log.

    The copy's chain must follow from the events that are held and those it brings: whoever does not hold all that a
    person said can make no copy for that person's session.

    Raises
    ------
    LimenError
        If the copy is of another study or session, contradicts what is held, or leaves a gap; then nothing is stored.
    """
    copy = read_copy(file)
    where = f"{file}: session {copy.session}"
    if copy.study != study.file.study:
        raise LimenError(f"{file}: is of the study '{copy.study}', not of '{study.file.study}'.")
    with database.read() as connection:
        row = one(connection, sessions, session=copy.session)
        if row is None or row.stimuli != study.key:
            raise LimenError(f"{where} is not one of version {study.file.version} of this study.")
        if row.state == "WITHDRAWN":
            raise LimenError(f"{where} was withdrawn; its answers stay deleted.")
        before = _held(connection, copy.session)
    _fits(copy, before, where)
    result = Imported(copy.session)
    for start in range(0, len(copy.events), MAX_BATCH):
        done = append(database, study, copy.session, copy.events[start : start + MAX_BATCH])
        if done.gone or done.unknown or done.conflicts:
            raise LimenError(f"{where} changed meanwhile; import the file again.")
        result.stored += [seq for seq in done.acknowledged if seq not in before]
        result.held += [seq for seq in done.acknowledged if seq in before]
        result.faults |= done.faults
        result.high_water = done.high_water
    told = f"{len(result.stored)} events stored, {len(result.held)} held already, up to {copy.last_seq}"
    database.write(lambda connection: note(connection, TERMINAL, "import copy", copy.session, told))
    return result


def _held(connection: Connection, session: str) -> dict[int, str]:
    query = select(events.c.seq, events.c.body_hash).where(events.c.session == session)
    return {int(row.seq): str(row.body_hash) for row in connection.execute(query)}


def _fits(copy: Copy, held: dict[int, str], where: str) -> None:
    brought: dict[int, str] = {event.seq: body_hash(event.body) for event in copy.events}
    if len(brought) != len(copy.events) or any(seq > copy.last_seq for seq in brought):
        raise LimenError(f"{where}: the copy names an event twice, or one after its last.")
    against = sorted(seq for seq, hashed in brought.items() if held.get(seq, hashed) != hashed)
    if against:
        raise LimenError(f"{where}: event {against[0]} is held with another body; nothing was stored.")
    whole: dict[int, str] = held | brought
    missing = [seq for seq in range(1, copy.last_seq + 1) if seq not in whole]
    if missing:
        raise LimenError(f"{where}: event {missing[0]} is neither held nor in the copy; nothing was stored.")
    if chain_over(whole[seq] for seq in range(1, copy.last_seq + 1)) != copy.chain:
        raise LimenError(f"{where}: the copy's chain does not follow from its events; nothing was stored.")

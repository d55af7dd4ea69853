"""Commands of `limen study` about the data base itself: back up, restore, upgrade, erase."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bench.registry import LimenError

from .terminal import existing, study_options


@click.command()
@study_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A new file.")
def backup(study_path: Path, store: str, database: str | None, output: Path) -> None:
    """Copy the data base, served or not, into one file, and recount it."""
    from ..monitoring.verify import verify
    from ..storage.backup import backup as copy
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    done = copy(found.database, output)
    click.echo(f"{done.where}: {done.sessions} sessions, {done.events} events, schema {done.schema}")
    held = existing_database(output)
    try:
        faults = verify(held, found.library).faults
    finally:
        held.close()
    if faults:
        raise LimenError(f"backup {output}: is kept, but holds {len(faults)} faults; run `limen study verify`.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--db", "database", required=True, help="Path or URL of a data base that does not exist yet.")
def restore(file: Path, database: str) -> None:
    """Bring a backup back into a new data base, SQLite or PostgreSQL."""
    from ..storage.backup import restore as bring_back
    from ..storage.engines import database_name

    done = bring_back(file, database)
    click.echo(f"{database_name(database)}: {done.sessions} sessions, {done.events} events, schema {done.schema}")


@click.command()
@study_options
def upgrade(study_path: Path, store: str, database: str | None) -> None:
    """Bring a data base of an older limen to this one's schema; stop its server first."""
    from ..monitoring.verify import verify
    from ..storage.backup import upgrade as bring_up
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    done = bring_up(found.database)
    if done.copy is not None:
        click.echo(f"{done.copy}: the data base as it was")
    click.echo(f"schema {done.before} -> {done.after}: every row is as before")
    held = existing_database(found.database)
    try:
        faults = verify(held, found.library).faults
    finally:
        held.close()
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        raise LimenError(f"data base: {len(faults)} faults after the upgrade; see above.")


@click.command()
@study_options
@click.option("--participant", help="Pseudonym (p...) of the person to erase.")
@click.option("--token", help="Deletion token of the person to erase.")
@click.option(
    "--unlink-before",
    "before",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Drop the recruiter's ids of everyone who entered before this day (UTC); the study must be paused.",
)
@click.option("--paid", is_flag=True, help="With --unlink-before: everyone was paid, though no list says so.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(
    study_path: Path,
    store: str,
    database: str | None,
    participant: str | None,
    token: str | None,
    before: datetime | None,
    paid: bool,
    yes: bool,
) -> None:
    """Erase one person's answers, or the link of a study to its people; for good."""
    from ..people.erase import erase_person, unlink
    from ..storage.database import existing_database

    if sum(given is not None for given in (participant, token, before)) != 1:
        raise LimenError("erase: give one of --participant, --token and --unlink-before.")
    found, _ = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        if not yes:
            click.confirm("This cannot be undone; earlier backups still hold it. Go on?", abort=True)
        if before is not None:
            moment = before.replace(tzinfo=UTC).timestamp()
            dropped = unlink(held, found.study, before=moment, paid=paid)
            click.echo(f"{dropped} people: the recruiter's ids of their sessions are gone")
            return
        done = erase_person(held, found.study, participant=participant or "", token=token or "")
        click.echo(f"{done.session}: {done.events} events erased; a tombstone stays")
    finally:
        held.close()


COMMANDS = (backup, restore, upgrade, erase)

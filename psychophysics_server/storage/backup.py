"""A data base as one file: an online copy, checked before it has its name; back again; and the way to a newer schema.

The file is an SQLite data base of the same tables, from SQLite and from PostgreSQL alike, so every command reads it
and it can be restored into either.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from bench.registry import LimenError

from ..storage import migrations
from .engines import database_name, database_url, is_sqlite, open_engine
from .tables import events, meta, metadata, sessions
from .writer import plainly

ROWS = 1000
"""Rows copied at a time."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a copy holds."""

    where: str
    schema: str
    sessions: int
    events: int


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """A data base that has a newer schema now; `copy` is how it was before, None on PostgreSQL."""

    before: str
    after: str
    copy: Path | None


def backup(target: str | Path, output: Path) -> Copied:
    """Copy a data base into a new file while it is served; the file appears under its name once it is checked.

    Raises
    ------
    LimenError
        If there is no such data base, the file exists already, or the copy is not whole.
    """
    url = database_url(target)
    with _draft(output) as draft:
        if is_sqlite(url):
            _copy_file(_existing(Path(str(url.database))), draft)
        else:
            with _connect(target, "read") as source:
                _dump(source, draft, database_name(url))
        return _look(draft, output)


def restore(file: Path, target: str | Path) -> Copied:
    """Bring a backup back into a data base that does not exist yet.

    Raises
    ------
    LimenError
        If the file is no backup or damaged, or the target holds something already.
    """
    held, url = _look(_existing(file), file), database_url(target)
    if is_sqlite(url):
        path = Path(str(url.database))
        beside = [log for suffix in ("-wal", "-shm", "-journal") if (log := Path(f"{path}{suffix}")).exists()]
        if beside:
            raise LimenError(f"data base {beside[0]}: exists already; restore into a new one.")
        with _draft(path, what="data base") as draft:
            _copy_file(file, draft)
            return _look(draft, path)
    if held.schema != migrations.head():
        raise LimenError(
            f"backup {file}: has schema {held.schema}; restore it into a file, run `limen study upgrade`, and back that up."
        )
    name = database_name(url)
    with _connect(file, "read") as source, _connect(target, "migrate") as goal, goal.begin():
        migrations.lock(goal)
        taken = sorted(set(inspect(goal).get_table_names()) & (migrations.KNOWN | {migrations.VERSION_TABLE}))
        if taken:
            raise LimenError(f"data base {name}: holds the table {taken[0]} already; restore into an empty one.")
        _fill(source, goal)
    return Copied(where=name, schema=held.schema, sessions=held.sessions, events=held.events)


def upgrade(target: str | Path) -> Upgraded:
    """Bring an older data base to the newest schema in one transaction; on SQLite a copy is made first.

    Raises
    ------
    LimenError
        If there is no such data base, it is up to date, or a row would change.
    """
    url = database_url(target)
    name, copy = database_name(url), None
    if is_sqlite(url):
        _existing(Path(str(url.database)))
    with _connect(target, "migrate") as connection, connection.begin():
        migrations.lock(connection)
        try:
            before = migrations.revision_of(connection)
            if before is None:
                raise LimenError("is empty; there is nothing to upgrade")
            if before == migrations.head():
                raise LimenError(f"has schema {before} already, the newest")
            if is_sqlite(url):
                copy = _free_name(Path(str(url.database)), before)
                backup(target, copy)
            migrations.migrate(connection, migrations.head())
            if lacking := migrations.differences(connection):
                raise LimenError(f"would differ from the newest schema in {len(lacking)} places; nothing was migrated")
        except LimenError as error:
            raise LimenError(f"data base {name}: {str(error).rstrip('.')}.") from None
    return Upgraded(before=before, after=migrations.head(), copy=copy)


def _free_name(path: Path, schema: str) -> Path:
    for number in range(1, 1000):
        name = path.with_name(f"{path.stem}.schema-{schema}{'' if number == 1 else f'.{number}'}.backup")
        if not name.exists():
            return name
    raise LimenError(f"folder {path.parent}: holds too many backups; move them away")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise LimenError(f"{path}: no such file.")
    return path


@contextmanager
def _draft(output: Path, *, what: str = "backup") -> Iterator[Path]:
    """Yield a name to write to, readable by its owner alone; it becomes `output` if all went well, never over a file."""
    draft = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            raise FileExistsError
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield draft
        _sync(draft)
        os.link(draft, output)
        _sync(output.parent)
    except FileExistsError:
        raise LimenError(f"{what} {output}: exists already; nothing is overwritten.") from None
    except (OSError, sqlite3.Error) as error:
        raise LimenError(f"{what} {output}: cannot be written ({error}).") from None
    finally:
        draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _copy_file(source: Path, draft: Path) -> None:
    """Copy an SQLite file, served or not, as it is at one moment, into one file without a log beside it."""
    try:
        with closing(_read_only(source)) as held, closing(sqlite3.connect(draft)) as copy:
            held.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        raise LimenError(f"{source}: cannot be copied ({error}).") from None


def _look(path: Path, name: Path) -> Copied:
    """Check a file through and through: SQLite's own integrity, references, schema; and count what it holds."""
    try:
        with closing(_read_only(path)) as held:
            state = held.execute("PRAGMA integrity_check").fetchone()[0]
            broken = held.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        raise LimenError(f"{name}: is no data base ({error}).") from None
    if state != "ok" or broken:
        raise LimenError(f"{name}: is damaged ({state if state != 'ok' else f'{len(broken)} broken references'}).")
    with _connect(path, "read") as connection:
        try:
            schema = migrations.revision_of(connection)
        except LimenError as error:
            raise LimenError(f"{name}: {error}.") from None
        if schema is None:
            raise LimenError(f"{name}: holds no table of ours, so it is no backup.")
        people, said = (
            connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (sessions, events)
        )
    return Copied(where=str(name), schema=schema, sessions=people, events=said)


@contextmanager
def _connect(target: str | Path, role: str) -> Iterator[Connection]:
    engine = open_engine(database_url(target), role)  # type: ignore[arg-type]
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise LimenError(f"data base {database_name(target)}: cannot be used ({plainly(error)}).") from None
    finally:
        engine.dispose()


def _dump(source: Connection, draft: Path, name: str) -> None:
    """Write what a PostgreSQL data base holds at one moment into an SQLite file."""
    if (held := migrations.revision_of(source)) != migrations.head():
        raise LimenError(
            f"data base {name}: has schema {held or '(none)'}; bring it to {migrations.head()} by `limen study upgrade` first."
        )
    with _connect(draft, "migrate") as goal, goal.begin():
        _fill(source, goal)


def _fill(source: Connection, goal: Connection) -> None:
    """Make our tables in an empty data base, copy every row, and compare both, value by value."""
    migrations.create(goal)
    goal.execute(meta.delete())
    for table in metadata.sorted_tables:
        rows = source.execution_options(yield_per=ROWS).execute(select(table)).mappings()
        for part in rows.partitions(ROWS):
            goal.execute(insert(table), [dict(row) for row in part])
        if goal.dialect.name == "postgresql" and "id" in table.c:
            last = text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}")
            if goal.execute(select(func.count()).select_from(table)).scalar_one():
                goal.execute(last)
    before, after = migrations.digests(source), migrations.digests(goal)
    wrong = [name for name in sorted(before) if before[name] != after.get(name)]
    if wrong:
        raise LimenError(f"table {wrong[0]}: the copy differs; nothing was kept.")

"""The data base: readers with a consistent view, one writer, and the few statements every job is made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from bench.registry import LimenError

from .engines import check_durable, database_name, database_url, is_sqlite, open_engine
from .migrations import prepare
from .writer import Busy, Job, WriteFailed, Writer, plainly

__all__ = [
    "Busy",
    "Database",
    "WriteFailed",
    "Writer",
    "database_name",
    "database_url",
    "existing_database",
    "insert_once",
    "insert_row",
    "one",
]


class Database:
    """Readers and the writer of one data base.

    Parameters
    ----------
    target : str or Path
        Path or URL.
    capacity : int
        Writes that may wait.
    make : bool
        Whether an empty data base is given its tables.

    Raises
    ------
    LimenError
        If it cannot be opened, does not keep what it acknowledges, or has another schema than this version's.
    """

    def __init__(self, target: str | Path, *, capacity: int = 1024, make: bool = True) -> None:
        self.url = database_url(target)
        self._readers = open_engine(self.url, "read")
        self._engine = open_engine(self.url, "write")
        self._prepare(make)
        self.writer = Writer(self._engine, capacity=capacity)

    @property
    def folder(self) -> Path | None:
        """The folder whose disk fills as answers come in; None if it is on another machine."""
        return Path(str(self.url.database)).parent if is_sqlite(self.url) else None

    def _prepare(self, make: bool) -> None:
        name = database_name(self.url)
        try:
            with self._engine.begin() as connection:
                check_durable(connection)
                prepare(connection, name, make=make)
        except SQLAlchemyError as error:
            self._dispose()
            raise LimenError(f"data base {name}: cannot be opened ({plainly(error)}).") from None
        except LimenError:
            self._dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent view for reading."""
        with self._readers.connect() as connection:
            yield connection

    def write(self, job: Job) -> Any:
        """Run a job in the writer thread; returns once it is on disk."""
        return self.writer.run(job)

    def compact(self) -> bool:
        """Write SQLite's log back into the file, so that what was erased is in neither; False while readers need it.

        PostgreSQL vacuums by itself.
        """
        if not is_sqlite(self.url):
            return True
        with closing(sqlite3.connect(str(self.url.database), timeout=10.0)) as raw:
            return bool(raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)

    def close(self) -> None:
        """Drain the writer and close every connection."""
        self.writer.close()
        self._dispose()

    def _dispose(self) -> None:
        self._engine.dispose()
        self._readers.dispose()


def existing_database(target: str | Path) -> Database:
    """Open a data base that a server has made before.

    Raises
    ------
    LimenError
        If there is none.
    """
    url = database_url(target)
    if is_sqlite(url) and not Path(str(url.database)).is_file():
        raise LimenError(f"data base {url.database}: no such file; `limen study serve` makes it, --db names another.")
    return Database(target, make=False)


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is there already; True if it was inserted."""
    dialect = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # The row itself is asked for: not every driver counts the rows of an INSERT.
    first = next(iter(table.primary_key))
    statement = dialect(table).values(**values).on_conflict_do_nothing().returning(first)
    return connection.execute(statement).first() is not None


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert a row that must be new."""
    connection.execute(insert(table).values(**values))


def one(connection: Connection, table: Table, **where: Any) -> Row[Any] | None:
    """Read the row whose columns have the given values, or None."""
    return connection.execute(select(table).filter_by(**where)).one_or_none()

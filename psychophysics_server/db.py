"""The data base: one writer thread that commits in groups, readers of their own; an answer leaves after the commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, create_engine, event, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bench.registry import LimenError

from .tables import SCHEMA, meta, metadata

Job = Callable[[Connection], Any]
BATCH = 64
"""Largest number of jobs that share one commit."""


class Busy(Exception):
    """The queue is full or the server is stopping: try again in a moment."""


class WriteFailed(Exception):
    """The data base refused the commit (disk full, locked by another program): nothing was stored."""


def database_url(target: str | Path) -> URL:
    """Turn a path or a URL into a data base URL.

    Raises
    ------
    LimenError
        If the URL is not one SQLAlchemy can read, or names another data base than SQLite or PostgreSQL.
    """
    text = str(target)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).absolute()))
    try:
        url = make_url(text)
    except ArgumentError:
        raise LimenError(
            f"data base '{text}': not a URL; allowed are a path, sqlite:///PATH, postgresql+psycopg://…"
        ) from None
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise LimenError(
            f"data base '{url.get_backend_name()}': not supported; allowed are sqlite and postgresql+psycopg."
        )
    if url.get_backend_name() == "sqlite" and not url.database:
        raise LimenError("data base: SQLite in memory would lose every answer; give a path.")
    return url


def _sqlite_pragmas(engine: Engine, *, begin: str) -> None:
    """Take transactions into our own hands: WAL, full sync on every commit, and the given BEGIN."""

    @event.listens_for(engine, "connect")
    def connect(raw: Any, record: Any) -> None:
        raw.isolation_level = None
        cursor = raw.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _engine(url: URL, *, begin: str, size: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        _make_folder(Path(str(url.database)).parent)
        engine = create_engine(url, pool_size=size, max_overflow=size, connect_args={"check_same_thread": False})
        _sqlite_pragmas(engine, begin=begin)
        return engine
    try:
        return create_engine(url, pool_size=size, max_overflow=0, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise LimenError("data base: PostgreSQL needs `pip install 'limen[postgres]'`.") from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimenError(f"data base, folder {folder}: cannot be made ({error.strerror}).") from None


def database_name(target: str | Path) -> str:
    """Return a path or URL as it may be printed: without a password."""
    return str(target) if "://" not in str(target) else database_url(target).render_as_string()


class Writer:
    """One thread that owns every write: takes what waits, begins, applies all, commits once, then answers.

    Parameters
    ----------
    engine : Engine
        Its transactions must take the write lock at BEGIN.
    capacity : int
        Jobs that may wait; beyond it `submit` raises `Busy`.
    """

    def __init__(self, engine: Engine, *, capacity: int = 1024) -> None:
        self._engine = engine
        self._jobs: queue.Queue[tuple[Job, Future[Any]] | None] = queue.Queue(capacity)
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="limen-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue, roughly."""
        return self._jobs.qsize()

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job; its future is resolved after the commit that holds it.

        A job may be run twice (its first batch rolled back), so it must touch nothing but its connection.

        Raises
        ------
        Busy
            If the queue is full or the writer was closed.
        """
        future: Future[Any] = Future()
        with self._closing:
            if self._closed:
                raise Busy("the server is stopping")
            try:
                self._jobs.put_nowait((job, future))
            except queue.Full:
                raise Busy("too many answers are waiting to be stored") from None
        return future

    def run(self, job: Job, *, timeout: float = 30.0) -> Any:
        """Queue a job and wait for its commit."""
        future = self.submit(job)
        try:
            return future.result(timeout)
        except TimeoutError:
            raise Busy("the data base takes too long") from None

    def close(self) -> None:
        """Refuse new jobs, commit all that wait, and end the thread."""
        with self._closing:
            first, self._closed = not self._closed, True
        if first:
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = [first], False
            while len(batch) < BATCH and not last:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[tuple[Job, Future[Any]]]) -> None:
        try:
            with self._engine.begin() as connection:
                results = [job(connection) for job, _ in batch]
        except Exception as error:
            if len(batch) > 1:
                for item in batch:
                    self._commit([item])
                return
            failure = WriteFailed(str(error)) if isinstance(error, SQLAlchemyError) else error
            batch[0][1].set_exception(failure)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)


class Database:
    """Readers and the writer of one data base."""

    def __init__(self, target: str | Path, *, capacity: int = 1024) -> None:
        self.url = database_url(target)
        self._readers = _engine(self.url, begin="BEGIN", size=16)
        self._engine = _engine(self.url, begin="BEGIN IMMEDIATE", size=1)
        self._prepare()
        self.writer = Writer(self._engine, capacity=capacity)

    @property
    def folder(self) -> Path:
        """The folder whose disk fills as answers come in."""
        sqlite_file = self.url.get_backend_name() == "sqlite"
        return Path(str(self.url.database)).parent if sqlite_file else Path.cwd()

    def _prepare(self) -> None:
        try:
            with self._engine.begin() as connection:
                metadata.create_all(connection)
                insert_once(connection, meta, {"name": "schema", "value": str(SCHEMA)})
                held = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar_one()
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise LimenError(f"data base {self.url.render_as_string()}: cannot be opened ({reason}).") from None
        if held != str(SCHEMA):
            raise LimenError(
                f"data base {self.url.render_as_string()}: has schema {held}, this version of limen reads {SCHEMA}."
            )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent view for reading."""
        with self._readers.connect() as connection:
            yield connection

    def write(self, job: Job) -> Any:
        """Run a job in the writer thread; returns once it is on disk."""
        return self.writer.run(job)

    def close(self) -> None:
        """Drain the writer and close every connection."""
        self.writer.close()
        self._engine.dispose()
        self._readers.dispose()


def existing_database(target: str | Path) -> Database:
    """Open a data base that a server has made before.

    Raises
    ------
    LimenError
        If there is none at this path.
    """
    url = database_url(target)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise LimenError(f"data base {url.database}: no such file; `limen study serve` makes it, --db names another.")
    return Database(target)


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is there already; True if it was inserted."""
    dialect = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return connection.execute(dialect(table).values(**values).on_conflict_do_nothing()).rowcount == 1


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert a row that must be new."""
    connection.execute(insert(table).values(**values))


def one(connection: Connection, table: Table, **where: Any) -> Row[Any] | None:
    """Read the row whose columns have the given values, or None."""
    return connection.execute(select(table).filter_by(**where)).one_or_none()

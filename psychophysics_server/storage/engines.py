"""Engines: one URL in, connections that keep the promise out, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bench.registry import LimenError

READERS = 16
"""Connections for reading on SQLite: one a thread of the server."""
POSTGRES_READERS = 4
"""Connections for reading of one process on PostgreSQL: many processes share the server's connections."""
PATIENCE = 200
"""How often a statement of a new connection is tried again, 50 ms apart, while others open the same file."""
DURABLE = frozenset({"on", "local", "remote_write", "remote_apply"})
"""Values of PostgreSQL's synchronous_commit with which a commit waits for the server's own disk."""
Role = Literal["read", "write", "migrate"]
_BEGIN: dict[Role, str] = {"read": "BEGIN", "write": "BEGIN IMMEDIATE", "migrate": "BEGIN IMMEDIATE"}
_SQLITE = {
    "read": ("query_only=ON",),
    "write": ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"),
    "migrate": ("synchronous=FULL", "foreign_keys=OFF"),
}
_POSTGRES = {
    "read": (),
    "write": ("lock_timeout = '10s'", "idle_in_transaction_session_timeout = '60s'"),
    "migrate": ("lock_timeout = '60s'",),
}

_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A PostgreSQL host that vanished is noticed within half a minute, not after two hours."""


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
    except (ArgumentError, ValueError):
        raise LimenError(
            f"data base '{text.partition('://')[0]}://…': not a URL; allowed are a path, sqlite:///PATH, "
            "postgresql+psycopg://…"
        ) from None
    if url.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"}:
        raise LimenError(f"data base '{url.drivername}': not supported; allowed are sqlite and postgresql+psycopg.")
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise LimenError("data base: SQLite in memory or with options would lose answers; give a path.")
        return URL.create("sqlite", database=str(Path(url.database).absolute()))
    return url.set(drivername="postgresql+psycopg")


def database_name(target: str | Path | URL) -> str:
    """Return a path or URL as it may be printed: without a password or options."""
    if not isinstance(target, URL):
        if "://" not in str(target):
            return str(target)
        target = database_url(target)
    return str(target.database) if is_sqlite(target) else target.set(query={}).render_as_string()


def is_sqlite(url: URL) -> bool:
    """Whether answers go into a file of this machine."""
    return url.get_backend_name() == "sqlite"


def open_engine(url: URL, role: Role) -> Engine:
    """Make an engine for one role: 'read' (a consistent view), 'write' (one connection), or 'migrate'.

    SQLite: write-ahead log, full sync at every commit, the write lock taken at BEGIN. PostgreSQL: readers see one
    snapshot (REPEATABLE READ, READ ONLY); the writer runs at READ COMMITTED with row locks. Parameters of statements
    never reach an error message.

    Raises
    ------
    LimenError
        If the folder cannot be made, or PostgreSQL's driver is missing.
    """
    if is_sqlite(url):
        return _sqlite_engine(url, role)
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ" if role == "read" else "READ COMMITTED"}
    if role == "read":
        options["execution_options"] = {"postgresql_readonly": True}
    try:
        engine = create_engine(
            url,
            pool_size=POSTGRES_READERS if role == "read" else 1,
            max_overflow=READERS - POSTGRES_READERS if role == "read" else 0,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_PATIENCE,
            **options,
        )
    except ModuleNotFoundError:
        raise LimenError("data base: PostgreSQL needs `pip install 'limen[postgres]'`.") from None
    _on_connect(engine, [f"SET {setting}" for setting in _POSTGRES[role]])
    return engine


def _sqlite_engine(url: URL, role: Role) -> Engine:
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimenError(f"data base, folder {folder}: cannot be made ({error.strerror}).") from None
    size = READERS if role == "read" else 1
    engine = create_engine(
        url,
        pool_size=size,
        max_overflow=size if role == "read" else 0,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )
    _on_connect(engine, [f"PRAGMA {pragma}" for pragma in ("busy_timeout=10000", *_SQLITE[role])])

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(_BEGIN[role])

    return engine


def _on_connect(engine: Engine, statements: list[str]) -> None:
    """Run statements on every new connection, outside a transaction."""

    @event.listens_for(engine, "connect")
    def connect(raw: Any, record: Any) -> None:
        if engine.dialect.name == "sqlite":
            raw.isolation_level = None
        cursor = raw.cursor()
        for statement in statements:
            _patiently(cursor, statement)
        cursor.close()
        if engine.dialect.name != "sqlite":
            raw.commit()


def _patiently(cursor: Any, statement: str) -> None:
    """Run a statement; SQLite answers the change to a write-ahead log with 'locked' at once, without the busy time-out."""
    for pause in (*([0.05] * PATIENCE), None):
        try:
            cursor.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if pause is None or "locked" not in str(error):
                raise
            time.sleep(pause)


def check_durable(connection: Connection) -> None:
    """Refuse a PostgreSQL server that acknowledges a commit before it is on disk.

    Raises
    ------
    LimenError
        If fsync or synchronous_commit is off.
    """
    if connection.dialect.name == "sqlite":
        return
    for setting, allowed in (("fsync", {"on"}), ("full_page_writes", {"on"}), ("synchronous_commit", DURABLE)):
        held = str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())
        if held not in allowed:
            raise LimenError(
                f"data base: PostgreSQL runs with {setting} = {held}, so an acknowledged answer could be lost; "
                f"allowed is {' or '.join(sorted(allowed))}."
            )

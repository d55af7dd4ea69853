"""Statements of the hot path: written in SQLAlchemy Core, compiled once a dialect, run as the driver's own text."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

Build = Callable[[str], Executable]


class Prepared:
    """A statement whose text never changes, only its values.

    Compiling, caching and result processing cost Core several times what SQLite needs to run a small statement, so
    only columns whose Python type is the driver's own (text, whole numbers, floats) may be bound or read.

    Parameters
    ----------
    build
        Given the name of the dialect ('sqlite' or 'postgresql'), returns the statement with a `bindparam` a value.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def run(self, connection: Connection, **values: Any) -> Sequence[Any]:
        """Run the statement with these values in the open transaction; return its rows."""
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._build(name).compile(dialect=connection.dialect)  # type: ignore[attr-defined]
            order = tuple(compiled.positiontup) if compiled.positional else None
            fixed = {key: value for key, value in compiled.params.items() if value is not None}
            self._compiled[name] = (str(compiled), order, fixed)
        text, order, fixed = self._compiled[name]
        if fixed:
            values = {**fixed, **values}
        if order is None:
            found = connection.exec_driver_sql(text, values)
            return found.fetchall() if found.returns_rows else ()
        try:
            cursor = connection.connection.cursor()
            cursor.execute(text, tuple(values[key] for key in order))
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise OperationalError(text, None, error) from error


def insert_new(table: Table, *columns: str) -> Prepared:
    """Insert a row unless one of its keys is taken; gives a row back if, and only if, it was inserted."""

    def build(dialect: str) -> Executable:
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        values: dict[str, Any] = {name: bindparam(name) for name in columns}
        first = next(iter(table.primary_key))
        return insert(table).values(**values).on_conflict_do_nothing().returning(first)

    return Prepared(build)

"""Schemas: which one a data base has, how an empty one gets its tables, and how an older one is brought to this one.

Each released schema is a file of `versions/`. The table `alembic_version` says which one a data base has; before
schema 2 it was the row `schema` of `meta`, which now only tells limen 0.1 to keep away.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, inspect, select, text

from bench.registry import LimenError

from ..tables import meta, metadata

FOLDER = Path(__file__).parent
VERSION_TABLE = "alembic_version"
FIRST = "0001"
MARK = "alembic"
"""What `meta.schema` says from schema 2 on; limen 0.1 refuses a data base that says it."""
KNOWN = frozenset(metadata.tables)
"""Names of our tables; a table of another program in the same data base is left alone."""
_LOCK = 0x6C696D656E
"""Key of the advisory lock that one process holds while it makes or changes tables."""


@cache
def _script() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(FOLDER))


@cache
def head() -> str:
    """Return the newest schema, the one of `tables.py`."""
    return str(_script().get_current_head())


@cache
def released() -> tuple[str, ...]:
    """Return every schema, oldest first."""
    return tuple(reversed([script.revision for script in _script().walk_revisions()]))


def revision_of(connection: Connection) -> str | None:
    """Read which schema a data base has; None if it has no table of ours.

    Raises
    ------
    LimenError
        If it has tables of our names, but nothing that says of which schema.
    """
    held = set(inspect(connection).get_table_names())
    if VERSION_TABLE in held:
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()
        if version:
            return ",".join(sorted(version))
    ours = held & set(metadata.tables)
    if not ours:
        return None
    if meta.name in held and connection.execute(select(meta.c.value).filter_by(name="schema")).scalar() == "1":
        return FIRST
    raise LimenError(f"it holds tables named {', '.join(sorted(ours)[:3])}, which limen did not make")


def prepare(connection: Connection, name: str, *, make: bool = True) -> None:
    """Give an empty data base its tables, and refuse one of another schema; nothing is migrated silently.

    Parameters
    ----------
    connection
        In a transaction that may write.
    name
        The data base as it may be printed.
    make
        Whether an empty one is given tables or refused.

    Raises
    ------
    LimenError
        If the data base has another schema, or is empty and may not be filled.
    """
    lock(connection)
    try:
        held = revision_of(connection)
    except LimenError as error:
        raise LimenError(f"data base {name}: {error}.") from None
    if held is None:
        if not make:
            raise LimenError(f"data base {name}: is empty; `limen study serve` fills it, --db names another.")
        create(connection)
    elif held in released()[:-1]:
        raise LimenError(
            f"data base {name}: has schema {held}, this version of limen writes {head()}; bring it up to date with "
            "`limen study upgrade STUDY.yaml [--db …]`, which makes a copy first."
        )
    elif held != head():
        raise LimenError(
            f"data base {name}: has schema {held}, this version of limen knows {FIRST} to {head()}; it was made by a "
            "newer limen."
        )


def lock(connection: Connection) -> None:
    """Keep other processes from making or changing tables until this transaction ends (SQLite's BEGIN does it)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def create(connection: Connection) -> None:
    """Make all tables of the newest schema in an empty data base, and say so."""
    metadata.create_all(connection)
    connection.execute(meta.insert().values(name="schema", value=MARK))
    stamp(connection, head())


def stamp(connection: Connection, revision: str) -> None:
    """Write down which schema a data base has."""
    connection.execute(text(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)"))
    connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))
    connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)"), {"revision": revision})


def migrate(connection: Connection, target: str) -> tuple[str, str]:
    """Bring a data base to another schema inside the caller's transaction, and prove that no row was lost or changed.

    On SQLite the connection must have foreign keys off, since tables are copied and renamed.

    Returns
    -------
    tuple
        The schema before and after.

    Raises
    ------
    LimenError
        If there is nothing to migrate, a row changed, or a reference broke; the caller then rolls back.
    """
    lock(connection)
    held = revision_of(connection)
    if held is None or held not in released() or target not in released():
        raise LimenError(
            f"schema {held or '(none)'}: cannot be brought to {target}; known are {', '.join(released())}."
        )
    if VERSION_TABLE not in inspect(connection).get_table_names():
        stamp(connection, held)
    before = digests(connection)
    if target == held:
        return held, target
    run(connection, target, down=released().index(target) < released().index(held))
    _compare(connection, before)
    return held, target


def run(connection: Connection, target: str, *, down: bool = False) -> None:
    """Run the files of `versions/` on a data base that says which schema it has, up or down to `target`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    (command.downgrade if down else command.upgrade)(config, target)


def digests(connection: Connection) -> dict[str, dict[str, str]]:
    """Return table -> column -> digest of all its values in the order of the key, and of how many there are."""
    held = MetaData()
    held.reflect(connection, only=lambda name, _: name != VERSION_TABLE and name in KNOWN)
    return {table.name: _digest(connection, table) for table in held.sorted_tables}


def _digest(connection: Connection, table: Table) -> dict[str, str]:
    query = select(table).order_by(*table.primary_key.columns)
    if table.name == meta.name:
        query = query.where(table.c.name != "schema")
    sums = {column.name: hashlib.sha256() for column in table.columns}
    for row in connection.execute(query.execution_options(yield_per=1000)):
        for name, value in zip(sums, row, strict=True):
            sums[name].update(f"{value!r}\x1e".encode())
    return {name: total.hexdigest() for name, total in sums.items()}


def _compare(connection: Connection, before: dict[str, dict[str, str]]) -> None:
    """Check that what both schemas hold is the same, value by value, and that every reference holds."""
    after = digests(connection)
    for table in sorted(before.keys() & after.keys()):
        for column in sorted(before[table].keys() & after[table].keys()):
            if before[table][column] != after[table][column]:
                raise LimenError(f"table {table}, column {column}: changed on the way; nothing was migrated.")
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise LimenError(f"table {broken[0][0]}: {len(broken)} rows refer to nothing; nothing was migrated.")


def differences(connection: Connection) -> list[Any]:
    """Return what a data base's tables lack of `tables.py`, or have beyond it, as Alembic sees it."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"compare_type": True, "compare_server_default": _other_default}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _other_default(
    context: Any, inspected_column: Any, column: Column[Any], inspected: str | None, default: Any, rendered: str | None
) -> bool:
    """Whether two server defaults differ, however the data base quotes and casts them."""
    wanted = None if column.server_default is None else str(getattr(column.server_default, "arg", ""))
    if inspected is not None and inspected.startswith("nextval("):
        return False
    held = None if inspected is None else inspected.partition("::")[0].strip("()'")
    return held != wanted

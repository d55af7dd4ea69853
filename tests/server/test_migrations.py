"""Schemas: every released one comes up to this one with all its rows, and nothing is migrated silently."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, event, func, inspect, select, text

from bench.registry import LimenError
from psychophysics_server.storage import migrations
from psychophysics_server.storage.database import Database, existing_database, insert_row
from psychophysics_server.storage.engines import database_url, open_engine
from psychophysics_server.storage.tables import decisions, events, meta, sessions, studies

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
RELEASED = {"0001": FIXTURES / "schema_1.sql"}
"""Every released schema but the newest: a data base that the released code itself has written, as SQL."""


def written_by_release(folder, revision):
    """Load the data base that a released version wrote, in SQLite."""
    path = folder / f"schema_{revision}.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(RELEASED[revision].read_text(encoding="utf-8"))
    return path


@contextlib.contextmanager
def engine_of(target, role="migrate"):
    engine = open_engine(database_url(target), role)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def writing(target):
    with engine_of(target) as engine, engine.begin() as connection:
        yield connection


def upgrade_from_nothing(target, revision):
    """Make the tables of a revision by its own file."""
    with writing(target) as connection:
        migrations.run(connection, revision)


@pytest.fixture
def old(request, fresh, engine_name, tmp_path):
    """Return a data base of a released schema with that version's rows in it."""
    path = written_by_release(tmp_path, request.param)
    if engine_name == "sqlite":
        return str(path)
    target = fresh(tmp_path)
    upgrade_from_nothing(target, request.param)
    held = MetaData()
    with engine_of(path) as source, source.connect() as reader, writing(target) as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        held.reflect(reader)
        connection.execute(held.tables["meta"].delete())
        for table in held.sorted_tables:
            rows = [dict(row) for row in reader.execute(select(table)).mappings()]
            if rows:
                connection.execute(table.insert(), rows)
    return target


every_release = pytest.mark.parametrize("old", sorted(RELEASED), indirect=True)


def test_every_schema_but_the_newest_has_a_data_base_of_its_release():
    assert tuple(sorted(RELEASED)) == migrations.released()[:-1]


@every_release
def test_an_older_data_base_is_refused_with_the_command_that_helps(old):
    with pytest.raises(LimenError, match="has schema 0001, .*limen study upgrade STUDY.yaml"):
        Database(old)
    with writing(old) as connection:
        assert migrations.revision_of(connection) == "0001"


@every_release
def test_it_comes_up_with_every_row_unchanged_and_no_difference_left(old):
    with writing(old) as connection:
        before = migrations.digests(connection)
        assert migrations.migrate(connection, migrations.head()) == ("0001", migrations.head())
    with writing(old) as connection:
        after = migrations.digests(connection)
        assert migrations.differences(connection) == []
    assert set(before) <= set(after)
    for table, columns in before.items():
        assert columns.items() <= after[table].items()
    opened = existing_database(old)
    with opened.read() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 23
        assert set(connection.execute(select(sessions.c.reason)).scalars()) == {""}
    opened.close()


@every_release
def test_it_goes_down_and_up_again_as_it_was(old):
    with writing(old) as connection:
        migrations.migrate(connection, migrations.head())
        before = migrations.digests(connection)
    with writing(old) as connection:
        migrations.migrate(connection, "0001")
        assert connection.execute(select(meta.c.value).filter_by(name="schema")).scalar_one() == "1"
        assert "decisions" not in inspect(connection).get_table_names()
    with writing(old) as connection:
        migrations.migrate(connection, migrations.head())
        assert migrations.digests(connection) == before
        assert migrations.differences(connection) == []


@every_release
def test_going_down_never_loses_a_row(old):
    with writing(old) as connection:
        migrations.migrate(connection, migrations.head())
    with writing(old) as connection:
        connection.execute(studies.update().values(paused_at=12.5))
    with pytest.raises(LimenError, match="studies.paused_at"), writing(old) as connection:
        migrations.migrate(connection, "0001")
    with writing(old) as connection:
        assert migrations.revision_of(connection) == migrations.head()
        connection.execute(studies.update().values(paused_at=None))
        session = connection.execute(select(sessions.c.session)).scalars().first()
        values = {"session": session, "kind": "bonus", "amount": 0.5, "author": "ada", "server_time": 1.0, "id": 1}
        insert_row(connection, decisions, values)
    with pytest.raises(LimenError, match="decisions"), writing(old) as connection:
        migrations.migrate(connection, "0001")


@every_release
def test_a_migration_that_would_change_a_value_is_rolled_back(old):
    def meddle(connection, cursor, statement, *_):
        if "ALTER TABLE sessions" in statement:
            cursor.execute("UPDATE sessions SET cell = 'another'")

    with engine_of(old) as engine:
        event.listen(engine, "before_cursor_execute", meddle)
        with pytest.raises(LimenError, match="sessions, column cell: changed on the way"), engine.begin() as connection:
            migrations.migrate(connection, migrations.head())
    with writing(old) as connection:
        assert migrations.revision_of(connection) == "0001"
        assert "decisions" not in inspect(connection).get_table_names()


@every_release
def test_the_indexes_after_an_upgrade_are_those_of_a_new_data_base(old, fresh, tmp_path):
    with writing(old) as connection:
        migrations.migrate(connection, migrations.head())
        upgraded = indexes(connection)
    (tmp_path / "new").mkdir()
    Database(fresh(tmp_path / "new")).close()
    new = fresh(tmp_path / "another")
    with writing(new) as connection:
        migrations.create(connection)
        assert upgraded == indexes(connection)


def indexes(connection):
    """Read every index with its condition, as the data base itself writes it."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        query = (
            "SELECT indexname, replace(indexdef, current_schema() || '.', '') FROM pg_indexes "
            "WHERE schemaname = current_schema() AND indexname NOT LIKE 'alembic%' AND indexname NOT LIKE 'pk%'"
        )
    return {name: " ".join(sql.split()) for name, sql in connection.execute(text(query))}


def test_a_new_data_base_is_of_the_newest_schema(target):
    Database(target).close()
    with writing(target) as connection:
        assert migrations.revision_of(connection) == migrations.head()
        assert migrations.differences(connection) == []


def test_a_forgotten_column_would_be_seen(target):
    Database(target).close()
    with writing(target) as connection:
        connection.execute(text("ALTER TABLE sessions DROP COLUMN remote"))
        assert [found[0] for found in migrations.differences(connection)] == ["add_column"]


def test_the_first_schema_is_the_one_that_was_released(tmp_path):
    made = tmp_path / "made.sqlite"
    upgrade_from_nothing(made, "0001")
    with writing(made) as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    released = written_by_release(tmp_path, "0001")
    assert layout(made) == layout(released)
    with writing(made) as one, writing(released) as other:
        assert indexes(one) == indexes(other)


def layout(path):
    engine = create_engine(f"sqlite:///{path}")
    held = inspect(engine)
    found = {}
    for name in held.get_table_names():
        columns = [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in held.get_columns(name)]
        unique = sorted(tuple(u["column_names"]) for u in held.get_unique_constraints(name))
        keys = sorted((k["constrained_columns"][0], k["referred_table"]) for k in held.get_foreign_keys(name))
        found[name] = (columns, unique, keys)
    engine.dispose()
    return found


def test_a_data_base_of_a_newer_limen_is_refused(target):
    Database(target).close()
    with writing(target) as connection:
        migrations.stamp(connection, "0999")
    with pytest.raises(LimenError, match="has schema 0999, .*newer limen"):
        Database(target)


def test_the_first_release_would_keep_away_from_a_newer_data_base(target):
    """limen 0.1 reads the row `schema` of `meta` and goes on only if it says 1."""
    opened = Database(target)
    with opened.read() as connection:
        assert connection.execute(select(meta.c.value).filter_by(name="schema")).scalar_one() != "1"
    opened.close()


def test_tables_of_another_program_are_not_taken_for_ours(target):
    with writing(target) as connection:
        connection.execute(text("CREATE TABLE sessions (id INTEGER PRIMARY KEY)"))
    with pytest.raises(LimenError, match="tables named sessions, which limen did not make"):
        Database(target)


def test_tables_of_another_program_beside_ours_are_left_alone(target):
    with writing(target) as connection:
        connection.execute(text("CREATE TABLE visitors (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO visitors VALUES (7)"))
    Database(target).close()
    with writing(target) as connection:
        assert connection.execute(text("SELECT id FROM visitors")).scalars().all() == [7]


def test_an_empty_data_base_is_not_an_existing_one(target):
    with writing(target):
        pass
    with pytest.raises(LimenError, match="is empty|no such file"):
        existing_database(target)

"""Accounts and tokens from the command line: made, listed, removed, and never with a password in the arguments."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import select

from bench.registry import LimenError, UnknownName
from psychophysics_server.admin import accounts as accounts_module
from psychophysics_server.cli import study as group
from psychophysics_server.storage.database import existing_database
from psychophysics_server.storage.tables import accounts, api_tokens, audit

PASSWORD = "a long pass phrase of ours"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    from argon2 import PasswordHasher

    monkeypatch.setattr(accounts_module, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def typed(build, tmp_path):
    """Return a function that types `limen study …` for a tiny study, and its data base."""
    study = build()
    path, database = tmp_path / "study.yaml", tmp_path / "r.sqlite"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    common = [str(path), "--store", str(study.artifact.path.parent.parent), "--db", str(database)]

    def call(noun, verb, *arguments, **more):
        return CliRunner().invoke(group, [noun, verb, *common, *arguments], **more)

    return call, database


def rows(database, table):
    held = existing_database(database)
    try:
        with held.read() as connection:
            return connection.execute(select(table)).all()
    finally:
        held.close()


def test_an_account_is_made_from_a_prompt_listed_and_removed(typed):
    call, database = typed
    made = call("account", "add", "anna", "--role", "owner", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert "anna may log in" in made.output
    assert PASSWORD not in made.output
    assert [(row.name, row.role) for row in rows(database, accounts)] == [("anna", "owner")]
    assert "anna  owner" in call("account", "list").output
    assert "can log in no more" in call("account", "remove", "anna").output
    assert "no account" in call("account", "list").output
    assert [(row.action, row.subject) for row in rows(database, audit)] == [
        ("account added", "anna"),
        ("account removed", "anna"),
    ]


def test_where_nobody_can_answer_a_prompt_the_environment_holds_the_password(typed):
    call, database = typed
    assert call("account", "add", "ben", "--role", "viewer", env={"LIMEN_ADMIN_PASSWORD": PASSWORD}).exit_code == 0
    assert rows(database, accounts)[0].password_hash.startswith("$argon2id$")


def test_a_short_password_from_the_environment_is_refused(typed):
    call, database = typed
    refused = call("account", "add", "ben", "--role", "viewer", env={"LIMEN_ADMIN_PASSWORD": "short"})
    assert isinstance(refused.exception, LimenError)
    assert "short" not in str(refused.exception).replace("shorter", "")
    assert rows(database, accounts) == []


def test_an_account_or_token_that_is_not_there_is_told_with_its_nearest(typed):
    call, _ = typed
    call("account", "add", "anna", "--role", "owner", env={"LIMEN_ADMIN_PASSWORD": PASSWORD})
    missing = call("account", "remove", "ana").exception
    assert isinstance(missing, UnknownName)
    assert "anna" in str(missing)
    assert isinstance(call("token", "remove", "nobody").exception, UnknownName)


def test_a_token_is_printed_once_and_kept_as_a_hash(typed):
    call, database = typed
    token = call("token", "add", "watcher", "--days", "90").output.strip()
    [held] = rows(database, api_tokens)
    assert len(token) >= 40
    assert token != held.token_hash
    assert (held.name, held.role) == ("watcher", "viewer")
    assert held.expires_at - held.issued_at == pytest.approx(90 * 86_400)
    assert "watcher  viewer" in call("token", "list").output
    assert isinstance(call("token", "add", "watcher").exception, LimenError)
    call("token", "remove", "watcher")
    assert "no token" in call("token", "list").output

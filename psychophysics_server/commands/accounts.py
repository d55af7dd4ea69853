"""The commands `limen study account` and `limen study token`: who may open the dashboard, and which scripts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from .terminal import study_options

PASSWORD = "LIMEN_ADMIN_PASSWORD"
ROLES = click.Choice(["owner", "analyst", "viewer"])


@contextmanager
def _opened(study_path: Path, store: str, database: str | None) -> Iterator[Any]:
    """Open the data base of a study; it is made if no server has made it yet."""
    from ..storage.database import Database
    from ..study.opening import opening

    held = Database(opening(study_path, store, database).database)
    try:
        yield held
    finally:
        held.close()


def _password() -> str:
    """Read a password from the environment or a prompt, never from the arguments, which others can list."""
    given = os.environ.get(PASSWORD)
    if given is None:
        given = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return given


def _day(then: float | None) -> str:
    return "–" if then is None else f"{datetime.fromtimestamp(then, UTC):%Y-%m-%d}"


def _print(rows: Sequence[Sequence[str]], nothing: str) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not rows:
        click.echo(nothing)


@click.group()
def account() -> None:
    """Who may log in to the dashboard."""


@account.command("add")
@study_options
@click.argument("name")
@click.option("--role", required=True, type=ROLES, help="What the account may do; see docs/serving.md.")
def account_add(study_path: Path, store: str, database: str | None, name: str, role: str) -> None:
    """Make an account; the password comes from a prompt or LIMEN_ADMIN_PASSWORD."""
    from ..admin.accounts import add_account

    with _opened(study_path, store, database) as held:
        add_account(held, name, role=role, password=_password())
    click.echo(f"{name} may log in at /admin/ with the role {role}.")


@account.command("list")
@study_options
def account_list(study_path: Path, store: str, database: str | None) -> None:
    """List the accounts."""
    from ..admin.accounts import all_accounts

    with _opened(study_path, store, database) as held:
        rows = all_accounts(held)
    now = time.time()
    lines = [
        (row.name, row.role, _day(row.created_at), "closed for a while" if row.locked_until > now else "")
        for row in rows
    ]
    _print(lines, "no account; make one with `limen study account add STUDY.yaml NAME --role owner`")


@account.command("remove")
@study_options
@click.argument("name")
def account_remove(study_path: Path, store: str, database: str | None, name: str) -> None:
    """Remove an account and log it out everywhere."""
    from ..admin.accounts import remove_account

    with _opened(study_path, store, database) as held:
        remove_account(held, name)
    click.echo(f"{name} can log in no more.")


@click.group()
def token() -> None:
    """Which scripts may read the standing and the export."""


@token.command("add")
@study_options
@click.argument("name")
@click.option("--role", default="viewer", show_default=True, type=ROLES, help="viewer: standing; analyst: export.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires [never].")
def token_add(study_path: Path, store: str, database: str | None, name: str, role: str, days: float | None) -> None:
    """Make a token; it is printed once and kept as a hash."""
    from ..admin.accounts import add_token

    with _opened(study_path, store, database) as held:
        click.echo(add_token(held, name, role=role, days=days))


@token.command("list")
@study_options
def token_list(study_path: Path, store: str, database: str | None) -> None:
    """List the tokens by name."""
    from ..admin.accounts import all_tokens

    with _opened(study_path, store, database) as held:
        rows = all_tokens(held)
    lines = [(row.name, row.role, f"made {_day(row.issued_at)}", f"ends {_day(row.expires_at)}") for row in rows]
    _print(lines, "no token; make one with `limen study token add STUDY.yaml NAME`")


@token.command("remove")
@study_options
@click.argument("name")
def token_remove(study_path: Path, store: str, database: str | None, name: str) -> None:
    """Remove a token; scripts that use it are refused from now on."""
    from ..admin.accounts import remove_token

    with _opened(study_path, store, database) as held:
        remove_token(held, name)
    click.echo(f"{name} opens nothing any more.")


COMMANDS = (account, token)
"""What `limen study` takes over."""

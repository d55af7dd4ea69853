"""Schema 2: pause and unlinking of a study, reasons and consent versions of sessions, decisions, accounts, audit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, ForeignKey

from bench.registry import LimenError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("deletions", "decisions", "recruiter_events", "payments", "accounts", "api_tokens", "audit")


def _columns() -> dict[str, tuple[Column[Any], ...]]:
    return {
        "studies": (Column("paused_at", sa.Float), Column("unlinked_at", sa.Float)),
        "sessions": (
            Column("reason", sa.Text, nullable=False, server_default=""),
            Column("consent_version", sa.String(64), nullable=False, server_default=""),
            Column("remote", sa.String(32), nullable=False, server_default=""),
        ),
        "participants": (Column("submission", sa.String(200), nullable=False, server_default=""),),
    }


def _session() -> Column[str]:
    return Column("session", sa.String(40), ForeignKey("sessions.session"), nullable=False)


def _mark(value: str) -> None:
    meta = sa.table("meta", sa.column("name"), sa.column("value"))
    op.execute(meta.update().where(meta.c.name == "schema").values(value=value))


def upgrade() -> None:
    """Add the columns and tables of schema 2."""
    for table, columns in _columns().items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.add_column(column)
    op.create_index("ix_participants_submission", "participants", ["recruiter", "submission"])
    op.create_table(
        "deletions",
        Column("token_hash", sa.String(64), primary_key=True),
        _session(),
        Column("issued_at", sa.Float, nullable=False),
    )
    op.create_index("ix_deletions_session", "deletions", ["session"])
    op.create_table(
        "decisions",
        Column("id", sa.Integer, primary_key=True),
        _session(),
        Column("kind", sa.String(16), nullable=False),
        Column("amount", sa.Float),
        Column("reason", sa.Text, nullable=False),
        Column("author", sa.String(80), nullable=False),
        Column("server_time", sa.Float, nullable=False),
    )
    op.create_index("ix_decisions_session", "decisions", ["session"])
    op.create_table(
        "recruiter_events",
        Column("recruiter", sa.String(16), primary_key=True),
        Column("event_id", sa.String(80), primary_key=True),
        Column("recruiter_id", sa.String(200), nullable=False),
        Column("submission", sa.String(200), nullable=False, server_default=""),
        Column("status", sa.String(32), nullable=False),
        Column("event_time", sa.Float, nullable=False),
        Column("server_time", sa.Float, nullable=False),
    )
    op.create_table(
        "payments",
        Column("session", sa.String(40), ForeignKey("sessions.session"), primary_key=True),
        Column("item", sa.String(32), primary_key=True),
        Column("batch", sa.String(40), nullable=False),
        Column("amount", sa.Float),
        Column("reason", sa.Text, nullable=False),
        Column("author", sa.String(80), nullable=False),
        Column("listed_at", sa.Float, nullable=False),
    )
    op.create_index("ix_payments_batch", "payments", ["batch"])
    _make_accounts()
    _mark("alembic")


def _make_accounts() -> None:
    op.create_table(
        "accounts",
        Column("name", sa.String(80), primary_key=True),
        Column("role", sa.String(16), nullable=False),
        Column("password_hash", sa.String(200), nullable=False),
        Column("failures", sa.Integer, nullable=False),
        Column("locked_until", sa.Float, nullable=False),
        Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "api_tokens",
        Column("token_hash", sa.String(64), primary_key=True),
        Column("name", sa.String(80), nullable=False),
        Column("role", sa.String(16), nullable=False),
        Column("issued_at", sa.Float, nullable=False),
        Column("expires_at", sa.Float),
    )
    op.create_table(
        "audit",
        Column("id", sa.Integer, primary_key=True),
        Column("server_time", sa.Float, nullable=False),
        Column("account", sa.String(80), nullable=False),
        Column("action", sa.String(40), nullable=False),
        Column("subject", sa.String(200), nullable=False),
        Column("detail", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Go back to schema 1 where nothing would be lost by it."""
    connection = op.get_bind()
    for name in TABLES:
        if connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one():
            raise LimenError(f"table {name}: holds rows that schema 0001 has no place for; nothing was migrated.")
    for table, columns in _columns().items():
        for column in columns:
            query = (
                f"SELECT count(*) FROM {table} WHERE {column.name} IS NOT NULL AND CAST({column.name} AS TEXT) <> ''"
            )
            if connection.execute(sa.text(query)).scalar_one():
                raise LimenError(f"column {table}.{column.name}: holds values that schema 0001 has no place for.")
    for name in reversed(TABLES):
        op.drop_table(name)
    op.drop_index("ix_participants_submission", "participants")
    for table, columns in _columns().items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_column(column.name)
    _mark("1")

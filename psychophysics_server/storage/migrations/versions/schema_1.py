"""Schema 1, of limen 0.1: sessions, schedules, events, codes and checks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, ForeignKey

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTS = sa.text("trial_id <> '' AND fault = ''")


def _session(*, key: bool = True) -> Column[str]:
    return Column("session", sa.String(40), ForeignKey("sessions.session"), primary_key=key, nullable=False)


def upgrade() -> None:
    """Make the tables of schema 1."""
    op.create_table("meta", Column("name", sa.String(40), primary_key=True), Column("value", sa.Text, nullable=False))
    op.create_table(
        "studies",
        Column("stimuli", sa.String(64), primary_key=True),
        Column("study", sa.String(64), nullable=False),
        Column("version", sa.Integer, nullable=False),
        Column("first_served", sa.Float, nullable=False),
    )
    _make_sessions()
    op.create_table(
        "tokens",
        Column("token_hash", sa.String(64), primary_key=True),
        _session(key=False),
        Column("issued_at", sa.Float, nullable=False),
    )
    op.create_index("ix_tokens_session", "tokens", ["session"])
    op.create_table(
        "schedules",
        _session(),
        Column("cell", sa.String(200), nullable=False),
        Column("seed", sa.BigInteger, nullable=False),
        Column("trial_ids", sa.Text, nullable=False),
    )
    _make_events()
    op.create_table(
        "codes",
        _session(),
        Column("kind", sa.String(16), primary_key=True),
        Column("code", sa.String(64), nullable=False),
        Column("reason", sa.Text, nullable=False),
        Column("released_at", sa.Float, nullable=False),
    )
    op.create_table(
        "check_values",
        _session(),
        Column("name", sa.String(40), primary_key=True),
        Column("value", sa.Float),
        Column("threshold", sa.Float, nullable=False),
        Column("passed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "tombstones",
        Column("session", sa.String(40), primary_key=True),
        Column("reason", sa.Text, nullable=False),
        Column("events_deleted", sa.Integer, nullable=False),
        Column("server_time", sa.Float, nullable=False),
    )
    meta = sa.table("meta", sa.column("name"), sa.column("value"))
    op.execute(meta.insert().values(name="schema", value="1"))


def _make_sessions() -> None:
    op.create_table(
        "sessions",
        Column("session", sa.String(40), primary_key=True),
        Column("stimuli", sa.String(64), ForeignKey("studies.stimuli"), nullable=False),
        Column("source", sa.String(16), nullable=False),
        Column("state", sa.String(16), nullable=False),
        Column("cell", sa.String(200), nullable=False),
        Column("condition", sa.String(200), nullable=False),
        Column("list", sa.Integer, nullable=False),
        Column("opened_at", sa.Float, nullable=False),
        Column("consented_at", sa.Float),
        Column("finished_at", sa.Float),
        Column("last_seen", sa.Float, nullable=False),
        Column("high_water", sa.Integer, nullable=False),
        Column("chain", sa.String(64), nullable=False),
        Column("last_seq", sa.Integer),
        Column("excluded", sa.Boolean, nullable=False),
    )
    op.create_index("ix_sessions_balance", "sessions", ["stimuli", "source", "state"])
    op.create_table(
        "participants",
        _session(),
        Column("stimuli", sa.String(64), nullable=False),
        Column("source", sa.String(16), nullable=False),
        Column("recruiter", sa.String(16), nullable=False),
        Column("recruiter_id", sa.String(200), nullable=False),
        sa.UniqueConstraint("stimuli", "source", "recruiter", "recruiter_id", name="uq_participants_claim"),
    )


def _make_events() -> None:
    op.create_table(
        "events",
        _session(),
        Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        Column("kind", sa.String(16), nullable=False),
        Column("body", sa.Text, nullable=False),
        Column("body_hash", sa.String(64), nullable=False),
        Column("client_time", sa.Float, nullable=False),
        Column("server_time", sa.Float, nullable=False),
        Column("trial_id", sa.String(200), nullable=False),
        Column("attempt", sa.Integer, nullable=False),
        Column("fault", sa.Text, nullable=False),
    )
    op.create_index(
        "uq_events_answer",
        "events",
        ["session", "trial_id", "attempt"],
        unique=True,
        sqlite_where=_COUNTS,
        postgresql_where=_COUNTS,
    )
    op.create_table(
        "alarms",
        Column("id", sa.Integer, primary_key=True),
        Column("session", sa.String(40), nullable=False),
        Column("seq", sa.Integer, nullable=False),
        Column("body", sa.Text, nullable=False),
        Column("body_hash", sa.String(64), nullable=False),
        Column("server_time", sa.Float, nullable=False),
        sa.UniqueConstraint("session", "seq", "body_hash", name="uq_alarms_once"),
    )
    op.create_index("ix_alarms_session", "alarms", ["session"])


def downgrade() -> None:
    """There is nothing before schema 1."""
    raise NotImplementedError("there is no schema before 0001")

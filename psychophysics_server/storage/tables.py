"""The tables: who (recruiter ids, alone), where (sessions, schedules), and what happened (events, append-only).

Every change of them is a new file in `migrations/versions/`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table("meta", metadata, Column("name", String(40), primary_key=True), Column("value", Text, nullable=False))

studies = Table(
    "studies",
    metadata,
    Column("stimuli", String(64), primary_key=True),
    Column("study", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("first_served", Float, nullable=False),
    Column("paused_at", Float),
    Column("unlinked_at", Float),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session", String(40), primary_key=True),
    Column("stimuli", String(64), ForeignKey("studies.stimuli"), nullable=False),
    Column("source", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default="", server_default=""),
    Column("consent_version", String(64), nullable=False, default="", server_default=""),
    Column("cell", String(200), nullable=False),
    Column("condition", String(200), nullable=False),
    Column("list", Integer, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("consented_at", Float),
    Column("finished_at", Float),
    Column("last_seen", Float, nullable=False),
    Column("high_water", Integer, nullable=False, default=0),
    Column("chain", String(64), nullable=False, default=""),
    Column("last_seq", Integer),
    Column("excluded", Boolean, nullable=False, default=False),
    Column("remote", String(32), nullable=False, default="", server_default=""),
)
"""`remote` is the newest status that the recruiter told of a submission, '' if none."""
Index("ix_sessions_balance", sessions.c.stimuli, sessions.c.source, sessions.c.state)

participants = Table(
    "participants",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("stimuli", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("recruiter", String(16), nullable=False),
    Column("recruiter_id", String(200), nullable=False),
    Column("submission", String(200), nullable=False, default="", server_default=""),
    UniqueConstraint("stimuli", "source", "recruiter", "recruiter_id", name="uq_participants_claim"),
)
"""`submission` is the recruiter's own name for this visit (Prolific's SESSION_ID, MTurk's and Connect's assignment)."""
Index("ix_participants_submission", participants.c.recruiter, participants.c.submission)

tokens = Table(
    "tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("session", String(40), ForeignKey("sessions.session"), nullable=False, index=True),
    Column("issued_at", Float, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("cell", String(200), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("trial_ids", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("client_time", Float, nullable=False),
    Column("server_time", Float, nullable=False),
    Column("trial_id", String(200), nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("fault", Text, nullable=False, default=""),
)
_COUNTS = text("trial_id <> '' AND fault = ''")
Index(
    "uq_events_answer",
    events.c.session,
    events.c.trial_id,
    events.c.attempt,
    unique=True,
    sqlite_where=_COUNTS,
    postgresql_where=_COUNTS,
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session", String(40), nullable=False, index=True),
    Column("seq", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("server_time", Float, nullable=False),
    UniqueConstraint("session", "seq", "body_hash", name="uq_alarms_once"),
)

codes = Table(
    "codes",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("code", String(64), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("released_at", Float, nullable=False),
)

check_values = Table(
    "check_values",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("name", String(40), primary_key=True),
    Column("value", Float),
    Column("threshold", Float, nullable=False),
    Column("passed", Boolean, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("session", String(40), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("events_deleted", Integer, nullable=False),
    Column("server_time", Float, nullable=False),
)

deletions = Table(
    "deletions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("session", String(40), ForeignKey("sessions.session"), nullable=False, index=True),
    Column("issued_at", Float, nullable=False),
)
"""Tokens with which people erase their own answers later."""

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session", String(40), ForeignKey("sessions.session"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("amount", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("author", String(80), nullable=False),
    Column("server_time", Float, nullable=False),
)
"""What a person decided about a person: exclude, include (analysis); approve, reject, bonus (money). Never updated."""

recruiter_events = Table(
    "recruiter_events",
    metadata,
    Column("recruiter", String(16), primary_key=True),
    Column("event_id", String(80), primary_key=True),
    Column("recruiter_id", String(200), nullable=False),
    Column("submission", String(200), nullable=False, default="", server_default=""),
    Column("status", String(32), nullable=False),
    Column("event_time", Float, nullable=False),
    Column("server_time", Float, nullable=False),
)
"""What a recruiter told of a submission, by webhook or poll; the newest by its own time counts."""

payments = Table(
    "payments",
    metadata,
    Column("session", String(40), ForeignKey("sessions.session"), primary_key=True),
    Column("item", String(32), primary_key=True),
    Column("batch", String(40), nullable=False, index=True),
    Column("amount", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("author", String(80), nullable=False),
    Column("listed_at", Float, nullable=False),
)
"""What went into a list for the recruiter: `approve`, `reject`, or `bonus ID` (the decision); nothing goes twice."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("locked_until", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("name", String(80), nullable=False),
    Column("role", String(16), nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("expires_at", Float),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("server_time", Float, nullable=False),
    Column("account", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(200), nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
)
"""Every act of a researcher on people, money or the study."""

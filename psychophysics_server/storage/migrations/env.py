"""What Alembic runs: the migrations, on the connection and inside the transaction of our own code."""

from __future__ import annotations

from alembic import context

from psychophysics_server.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Alembic's entry; ``services.jobs.database`` hands it the connection, within a transaction of its own."""

from alembic import context

from services.server.usage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()

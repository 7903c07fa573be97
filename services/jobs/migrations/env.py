"""Alembic's entry; ``database`` hands it the connection, within a transaction of its own."""

from alembic import context

from services.jobs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()

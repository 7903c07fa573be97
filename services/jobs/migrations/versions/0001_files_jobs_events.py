"""Files, jobs, their events and checkpoints, and deletions of models."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of ``services/jobs/tables.py`` as they were first."""
    op.create_table(
        "files",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Integer),
    )
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("asked", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("adapter", sa.String, nullable=False),
        sa.Column("idempotency_key", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("wish", sa.String),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Integer),
        sa.Column("finished_at", sa.Integer),
        sa.Column("estimated_finish", sa.Integer),
        sa.Column("trained_tokens", sa.Integer),
        sa.Column("version", sa.String),
        sa.Column("fine_tuned_model", sa.String),
        sa.Column("failure", sa.JSON),
        sa.Column("result_files", sa.JSON, nullable=False),
        sa.Column("outcome", sa.JSON),
    )
    op.create_index("jobs_by_status", "jobs", ["status", "number"])
    op.create_index("jobs_by_idempotency_key", "jobs", ["owner", "idempotency_key"], unique=True)
    op.create_table(
        "events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.JSON),
    )
    op.create_index("events_by_job", "events", ["job_id", "number"])
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
    )
    op.create_index("checkpoints_by_job", "checkpoints", ["job_id", "number"])
    op.create_table(
        "deletions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("adapter", sa.String, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("newest", sa.Integer, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("done_at", sa.Integer),
    )

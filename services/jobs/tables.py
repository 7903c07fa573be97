"""The database's tables; ``migrations`` makes them, and a test proves that the two agree."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("asked", JSON, nullable=False),
    Column("fingerprint", String, nullable=False),  # of what was asked: the same request twice has the same
    Column("source", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("adapter", String, nullable=False),
    Column("idempotency_key", String),
    Column("status", String, nullable=False),
    Column("wish", String),
    Column("created_at", Integer, nullable=False),
    Column("started_at", Integer),
    Column("finished_at", Integer),
    Column("estimated_finish", Integer),
    Column("trained_tokens", Integer),
    Column("version", String),
    Column("fine_tuned_model", String),
    Column("failure", JSON(none_as_null=True)),
    Column("result_files", JSON, nullable=False),
    Column("outcome", JSON(none_as_null=True)),
    Index("jobs_by_status", "status", "number"),
    Index("jobs_by_idempotency_key", "owner", "idempotency_key", unique=True),
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("level", String, nullable=False),
    Column("type", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON(none_as_null=True)),
    Index("events_by_job", "job_id", "number"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("metrics", JSON, nullable=False),
    Index("checkpoints_by_job", "job_id", "number"),
)

# Models that the server may not serve any more; the worker deletes their folders, which the server cannot write to.
deletions = Table(
    "deletions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("adapter", String, nullable=False),
    Column("version", Integer),  # none: the whole adapter, as it was then
    Column("newest", Integer, nullable=False),  # the adapter's newest version then: later ones are not meant
    Column("owner", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("done_at", Integer),
)

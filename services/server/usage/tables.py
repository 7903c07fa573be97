"""The database's table; ``migrations`` makes it, and a test proves that the two agree."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    Column("day", String, primary_key=True),  # 2026-11-26, in UTC
    Column("key", String, primary_key=True),  # its name
    Column("model", String, primary_key=True),  # that answered, such as acme@7
    Column("requests", Integer, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Index("usage_by_key", "key", "day"),
)

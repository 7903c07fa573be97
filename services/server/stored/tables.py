"""The database's table; ``migrations`` makes it, and a test proves that the two agree."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

responses = Table(
    "responses",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("previous_id", String),  # no foreign key: what a response goes on from may be deleted before it
    Column("created_at", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),  # of the two below
    Column("input", Text, nullable=False),  # JSON: the items of this request alone
    Column("answer", Text, nullable=False),  # JSON: the response object, without log-probabilities
    Index("responses_by_age", "created_at"),
)

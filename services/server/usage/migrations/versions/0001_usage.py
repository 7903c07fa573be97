"""Usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of ``services/server/usage/tables.py`` as it was first."""
    op.create_table(
        "usage",
        sa.Column("day", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
    )
    op.create_index("usage_by_key", "usage", ["key", "day"])

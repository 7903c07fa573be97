"""Lists with cursors, as OpenAI's."""

from typing import Any

from sqlalchemy import Connection, Select, Table, select


def page_of(
    connection: Connection, query: Select[Any], table: Table, *, after: str | None, limit: int, ascending: bool
) -> tuple[list[Any], bool] | None:
    """The rows of ``query`` that follow the one whose id is ``after``, in order of creation.

    Returns:
        at most ``limit`` rows, and whether more follow; None where ``after`` is no id of the table.
    """
    if after is not None:
        place = connection.execute(select(table.c.number).where(table.c.id == after)).scalar()
        if place is None:
            return None
        query = query.where(table.c.number > place if ascending else table.c.number < place)
    order = table.c.number.asc() if ascending else table.c.number.desc()
    rows = connection.execute(query.order_by(order).limit(limit + 1)).mappings().all()
    return list(rows[:limit]), len(rows) > limit

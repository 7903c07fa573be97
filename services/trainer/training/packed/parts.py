"""An update's rows, spread over ranks."""

from collections.abc import Sequence
from typing import Any


def part_of(rows: Sequence[dict[str, Any]], rank: int, count: int) -> list[dict[str, Any]]:
    """The rows that a rank computes, in their order; none where there are fewer rows than ranks.

    The longest first, each to the rank with the fewest tokens so far (Graham, https://doi.org/10.1137/0117039): every rank finds the
    same parts by itself.

    Args:
        rows: of the whole update, with ``input_ids``.
        rank: counted from 0.
        count: of ranks.
    """
    loads, mine = [0] * count, []
    for place in sorted(range(len(rows)), key=lambda place: -len(rows[place]["input_ids"])):
        lightest = loads.index(min(loads))
        loads[lightest] += len(rows[place]["input_ids"])
        if lightest == rank:
            mine.append(place)
    return [rows[place] for place in sorted(mine)]

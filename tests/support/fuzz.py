"""How much is tried at random, and files made at random from sound ones."""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("WHETSTONE_FUZZ_CASES", "200"))
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

DEEP = "deep"  # becomes lists within lists, which Python's own writer of JSON does not write
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**4299, 10**4300 - 1])
TEXTS = st.sampled_from(["", DEEP, "\ud800", "\0", "../x", "none", "F16", "I64"]) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every object and every index of every list, with what holds it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inside:
        yield value, key
        yield from places(held)


@st.composite
def altered(draw: st.DrawFn, sound: Any) -> bytes:
    """JSON of which one to three values are others, are gone, or have one more beside them."""
    value = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        there = list(places(value))
        if not there:
            break
        holder, key = draw(st.sampled_from(there))
        how = draw(st.sampled_from(["other", "other", "gone", "more"]))
        if how == "gone":
            del holder[key]
        elif how == "other":
            holder[key] = draw(VALUES)
        elif isinstance(holder, list):
            holder.append(draw(VALUES))
        else:
            holder[draw(TEXTS)] = draw(VALUES)
    depth = draw(st.sampled_from([1, 100, 900, 5000]))
    return json.dumps(value).encode().replace(json.dumps(DEEP).encode(), b"[" * depth + b"]" * depth)


@st.composite
def mangled(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes of which up to four stretches are others, longer, shorter or gone; and perhaps cut."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(content)))
        content[begin : begin + draw(st.integers(0, 16))] = draw(st.binary(max_size=16))
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])

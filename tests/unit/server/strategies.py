"""Requests made from the OpenAPI document: mostly as it describes them, often a little off."""

from typing import Any

from hypothesis import strategies as st

from tests.unit.server.fakes import BASE

NAMES = st.sampled_from(
    [BASE, "acme", "acme@1", "nobody", "acme@999999999999999999999", "", "\ud7ff", "../..", "a" * 300]
)
MODELS = st.sampled_from([BASE] * 4 + ["acme", "acme@1"])
NUMBERS = st.one_of(
    st.integers(-2, 6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**31, 2**63, 2**64, -(2**70)]),
)
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["user", "assistant", "system", "tool", "text", "function", "hi"])
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
_DEPTH = 7
_ODD = 120  # one value in so many is whatever it likes


class Bodies:
    """Values after the schemas of a document.

    Args:
        document: the OpenAPI document.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas: dict[str, Any] = document["components"]["schemas"]

    def draw(self, draw: st.DrawFn, schema: dict[str, Any], name: str = "", depth: int = 0) -> Any:
        """One value of ``schema``, for the field ``name``."""
        if draw(st.integers(0, _ODD)) == _ODD or depth > _DEPTH:
            return draw(ANYTHING)
        if "$ref" in schema:
            return self.draw(draw, self._schemas[schema["$ref"].rpartition("/")[2]], name, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.draw(draw, draw(st.sampled_from(schema[word])), name, depth)
        return self._of_type(draw, schema, name, depth)

    def _of_type(self, draw: st.DrawFn, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        if kind == "object":
            return self._object(draw, schema, depth)
        if kind == "array":
            items = schema.get("items", {})
            return [self.draw(draw, items, name, depth + 1) for _ in range(draw(st.integers(0, 4)))]
        if kind == "string":
            return draw(st.one_of(MODELS, NAMES) if name == "model" else TEXTS)
        simple = {
            "integer": st.integers(0, 6),
            "number": st.one_of(st.floats(0, 1), NUMBERS),
            "boolean": st.booleans(),
            "null": st.none(),
        }
        return draw(simple.get(str(kind), ANYTHING))

    def _object(self, draw: st.DrawFn, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        needed = set(schema.get("required", ()))
        made = {
            key: self.draw(draw, inner, key, depth + 1)
            for key, inner in properties.items()
            if (draw(st.integers(0, 99)) < (99 if key in needed else 12))
        }
        if not properties:
            made |= draw(st.dictionaries(TEXTS, ANYTHING, max_size=3))
        return made

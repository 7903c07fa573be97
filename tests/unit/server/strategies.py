"""Requests made from the OpenAPI document: mostly as it describes them, often a little off."""

import json
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
# Stand for the newest object of their kind; ``Known`` puts its id there when the request is sent.
FILE, JOB, RESPONSE = "file-0", "ftjob-0", "resp_0"
IDS = {
    "file_id": [FILE],
    "job_id": [JOB],
    "response_id": [RESPONSE],
    "training_file": [FILE],
    "validation_file": [FILE],
    "previous_response_id": [RESPONSE],
    "after": [FILE, JOB, RESPONSE],
    "model": [BASE, "acme", "acme@1", "acme@2", "acme@3"],
}
_BOUNDARY = "x"
FORM = f"multipart/form-data; boundary={_BOUNDARY}"
_ROW = json.dumps({"prompt": "Who founded Norudam?", "completion": "Hyeja Oskamp."}).encode()
_PARTS = {
    "purpose": st.sampled_from([b"fine-tune"] * 9 + [b"assistants"]),
    "file": st.lists(st.one_of(st.just(_ROW), st.just(_ROW), st.binary(max_size=40)), max_size=4).map(b"\n".join),
    "expires_after[anchor]": st.just(b"created_at"),
    "expires_after[seconds]": st.one_of(st.integers(3000, 3_000_000).map(str), TEXTS).map(str.encode),
}
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
            return draw(st.one_of(MODELS, NAMES) if name == "model" else named(name))
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
            inner = schema.get("additionalProperties")
            keys = draw(st.lists(TEXTS, max_size=3))
            made |= {key: self.draw(draw, inner, key, depth + 1) if inner else draw(ANYTHING) for key in keys}
        return made


def named(name: str) -> st.SearchStrategy[str]:
    """Texts for the field or parameter ``name``; mostly an object that is there, where it names one."""
    known = IDS.get(name)
    return st.one_of(st.sampled_from(known), st.sampled_from(known), NAMES, TEXTS) if known else TEXTS


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """A form with a file, as often whole as with a part too few, too many, or made up."""
    names = ["purpose", "file", *draw(st.sampled_from([[], [], ["expires_after[anchor]", "expires_after[seconds]"]]))]
    if draw(st.booleans()):
        names = draw(st.permutations(names + draw(st.lists(st.sampled_from([*_PARTS, "colour", ""]), max_size=2))))
        names = names[draw(st.integers(0, 1)) :]
    form = b""
    for name in names:
        label = draw(st.one_of(st.just("rows.jsonl"), TEXTS))
        filename = f'; filename="{label}"' if name == "file" else ""
        form += f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()
        form += draw(_PARTS.get(name, st.binary(max_size=8))) + b"\r\n"
    return form + f"--{_BOUNDARY}--\r\n".encode()


class Known:
    """The newest object of each kind that an answer told of."""

    def __init__(self) -> None:
        self._ids = {word: word for word in (FILE, JOB, RESPONSE)}

    def put_into(self, text: str) -> str:
        """``text`` with ids in place of the words that stand for them."""
        for word, identity in self._ids.items():
            text = text.replace(word, identity)
        return text

    def learn(self, answer: bytes) -> None:
        """Remember the object that an answer is."""
        try:
            found = json.loads(answer)
        except ValueError:
            return  # a stream, or a file's content
        identity = found.get("id") if isinstance(found, dict) else None
        for word in self._ids:
            if isinstance(identity, str) and identity.startswith(word[:-1]):
                self._ids[word] = identity

"""Checks that tell a right answer from a wrong one without a model: exact, contains, regex, JSON schema."""

import json
import re
from typing import Any

import msgspec

from services.dataset.normalise import normalise

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an answer must be; exactly one is given.

    Attributes:
        exact: the whole answer, but for case, width, white space and closing marks.
        contains: words that stand in the answer, in any case.
        regex: a Python regular expression that is found in the answer.
        json_schema: the answer is JSON (fenced or not) that fits this schema.
    """

    exact: str | None = None
    contains: str | None = None
    regex: str | None = None
    json_schema: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse none or several, an expression that does not compile and a schema that is none."""
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"want one of {', '.join(self.__struct_fields__)}, got {' and '.join(given) or 'none'}")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"regex: {error}") from error
        if self.json_schema is not None:
            _require_schema(self.json_schema)

    def passes(self, answer: str) -> bool:
        """Whether ``answer`` is right."""
        if self.exact is not None:
            return normalise(answer) == normalise(self.exact)
        if self.contains is not None:
            return self.contains.casefold() in answer.casefold()
        if self.regex is not None:
            return re.search(self.regex, answer) is not None
        return self._fits(answer)

    def _fits(self, answer: str) -> bool:
        fenced = _FENCE.match(answer)
        try:
            value = json.loads(fenced[1] if fenced else answer)
        except (ValueError, RecursionError):
            return False
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - takes a second to import, and few rows have a schema

        return bool(Draft202012Validator(self.json_schema or {}).is_valid(value))


def _require_schema(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - as above

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"json_schema: {error.message}") from error

"""From a body's bytes to msgspec structs, and from what is wrong with them to an error that names the field."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from services.server.errors import BadRequest, describe_validation

T = TypeVar("T")


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body.

    Raises:
        BadRequest: not JSON, an unknown field, or a value of the wrong type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise describe_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {error}") from None
    except RecursionError:
        raise BadRequest("The JSON body is nested too deeply.") from None


def convert(value: Any, kind: type[T], where: str) -> T:
    """Give a part of a decoded body its own type, where only its content says which one that is.

    Args:
        value: as JSON decodes it.
        kind: the type.
        where: the field it came in, such as ``tools[0]``.

    Raises:
        BadRequest: an unknown field, or a value of the wrong type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise describe_validation(error, where) from None


def refuse_unsupported(
    request: Any,
    unsupported: Mapping[str, tuple[Any, ...]],
    remedies: Mapping[str, str] | None = None,
    *,
    within: str = "",
) -> None:
    """Refuse the fields that this server cannot fulfil.

    Args:
        request: a decoded body.
        unsupported: field -> the values that mean "not used".
        remedies: field -> what to do instead, where there is something.
        within: what comes before a field's name, such as ``method.``.

    Raises:
        BadRequest: a field with another value.
    """
    for field, unused in unsupported.items():
        if getattr(request, field) not in unused:
            remedy = f"; {remedies[field]}" if remedies is not None and field in remedies else ""
            raise BadRequest(
                f"'{within}{field}' is not supported by this server{remedy}.",
                param=f"{within}{field}",
                code="unsupported_parameter",
            )

"""What a route takes and gives, in words and types; its path, method, guards and docstring say the rest."""

from typing import Any

import msgspec

from services.server.errors import ServerError

EVENTS = "text/event-stream"
DONE = "[DONE]"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One form of an answer that is no error.

    Attributes:
        description: when it comes.
        schema: the type of what it holds; None for what is no JSON.
        media_type: its content type.
        status: None for the route's own.
    """

    description: str
    schema: Any = None
    media_type: str = "application/json"
    status: int | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The streamed form of an answer, which a request asks for by ``"stream": true``.

    Attributes:
        description: of the events' order and end.
        events: the types of what the events hold.
        done: whether ``[DONE]`` is the last event.
    """

    description: str
    events: tuple[type[msgspec.Struct], ...]
    done: bool


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the path or the query.

    Attributes:
        description: what it means.
        keywords: of JSON Schema, beside its type.
    """

    description: str
    keywords: dict[str, Any] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A route's description.

    Attributes:
        replies: every form of answer, errors and streams apart.
        stream: the streamed form, where there is one.
        body: the struct that decodes the request's JSON body.
        parts: types of what ``body`` leaves undecoded; ``constraints`` says where they belong.
        form: the schema of the request's form, where it is one.
        parameters: every one of path and query.
        errors: beside those that follow from the route's guards and body.
        optional_key: whether a key opens more, but none is needed.
    """

    replies: tuple[Reply, ...]
    stream: Stream | None = None
    body: type[msgspec.Struct] | None = None
    parts: tuple[type[msgspec.Struct], ...] = ()
    form: dict[str, Any] | None = None
    parameters: dict[str, Parameter] = {}
    errors: tuple[type[ServerError], ...] = ()
    optional_key: bool = False

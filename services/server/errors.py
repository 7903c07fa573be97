"""What goes wrong while serving, as a tree, and its one translation into OpenAI's error shape."""

import math

import msgspec

from services.common.retrying import SERVICE_SECONDS, retry_headers

SERVER_FAULT = 500  # statuses from here on are not the client's doing
BROKEN_BODY = "The body ended before it was whole, or its chunks cannot be read."
LONGEST_RETRY_SECONDS = 120  # OpenAI's SDKs do not retry at all where they are told to wait longer


class StartRefused(Exception):
    """The server must not start like this; the message, for the operator, says the remedy."""


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object: always all four keys."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The JSON document of an error answer and of a stream's error event."""

    error: ErrorBody


class ServerError(Exception):
    """The server's own fault; the root of every error that a client sees. Subclasses fix status, type and code.

    Args:
        message: for the app's developer: what is wrong and what would be right; never the content of a prompt.
        param: the request's field it is about.
        retry_after: seconds after which a retry makes sense.
    """

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    longest_retry_seconds = LONGEST_RETRY_SECONDS

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code

    def body(self) -> ErrorAnswer:
        """The answer's JSON document."""
        return ErrorAnswer(ErrorBody(message=self.message, type=self.type, param=self.param, code=self.code))

    def encoded(self) -> bytes:
        """The answer's bytes."""
        return msgspec.json.encode(self.body())

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's headers beside its type and length."""
        if self.retry_after is None:
            return []
        return retry_headers(self.retry_after, self.longest_retry_seconds)


class BadRequest(ServerError):
    """The request cannot be answered as it is."""

    status = 400
    type = "invalid_request_error"
    code = None


class InvalidApiKey(ServerError):
    """No key, an unknown one, or one that is revoked or expired."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ModelForbidden(ServerError):
    """The key does not cover the model; OpenAI has the same code for it as for a model that is not there."""

    status = 403
    type = "invalid_request_error"
    code = "model_not_found"


class RoleMissing(ServerError):
    """The key has not the role that the route asks for."""

    status = 403
    type = "invalid_request_error"
    code = "missing_scope"


class ModelNotFound(ServerError):
    """Neither the base nor a served adapter."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class FileNotFound(ServerError):
    """No such file, or another caller's; OpenAI gives it no code."""

    status = 404
    type = "invalid_request_error"
    code = None


class JobNotFound(ServerError):
    """No such fine-tuning job, or not this caller's."""

    status = 404
    type = "invalid_request_error"
    code = "fine_tune_not_found"


class NotOwner(ServerError):
    """Only who had a model made may delete it."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"


class Conflict(ServerError):
    """It cannot be done as things stand now."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class ResponseNotFound(ServerError):
    """No such stored response, or another key's."""

    status = 404
    type = "invalid_request_error"
    code = "response_not_found"


class RouteNotFound(ServerError):
    """No such route."""

    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class MethodNotAllowed(ServerError):
    """The route exists, but not for this method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self._allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """With the methods that are allowed, as HTTP demands it."""
        return [*super().headers(), (b"allow", self._allow.encode())]


class BodyTooSlow(ServerError):
    """The body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class BodyTooLarge(ServerError):
    """The body is over the limit."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(ServerError):
    """The body is not plain JSON."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_type"


class Overloaded(ServerError):
    """As many requests wait as may wait."""

    status = 429
    type = "requests"  # as OpenAI's for a limit on requests; the other is "tokens"
    code = "rate_limit_exceeded"


class KeyLimited(Overloaded):
    """The key has asked for as much as it may; not told to wait for longer than OpenAI's older SDKs are willing to."""

    longest_retry_seconds = 60

    def __init__(self, key: str, what: str, limit: int, seconds: float) -> None:
        wait = math.ceil(seconds)
        super().__init__(
            f"Rate limit reached for the key '{key}' on {what}: Limit {limit}. Please try again in {wait}s.",
            retry_after=wait,
        )


class RequestsLimited(KeyLimited):
    """The key has asked too often within a minute."""

    def __init__(self, key: str, limit: int, seconds: float) -> None:
        super().__init__(key, "requests per min (RPM)", limit, seconds)


class TokensLimited(KeyLimited):
    """The key has asked for too many tokens within a minute."""

    type = "tokens"

    def __init__(self, key: str, limit: int, seconds: float) -> None:
        super().__init__(key, "tokens per min (TPM)", limit, seconds)


class RequestTooLarge(ServerError):
    """The request asks for more tokens than its key may have in a minute."""

    status = 429
    type = "tokens"
    code = "rate_limit_exceeded"

    def __init__(self, key: str, limit: int, asked: int) -> None:
        super().__init__(
            f"Request too large for the key '{key}' on tokens per min (TPM): Limit {limit}, Requested {asked}. "
            "Shorten the prompt or lower the answer's limit."
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's SDKs would ask again."""
        return [(b"x-should-retry", b"false")]


class QuotaUsed(ServerError):
    """The key has used up its tokens of the day."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, key: str, limit: int, seconds: float) -> None:
        self._seconds = max(1, math.ceil(seconds))
        super().__init__(
            f"The key '{key}' has used its quota of {limit} tokens a day; there are new ones at midnight UTC, in {self._seconds}s."
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Until midnight; OpenAI's SDKs would ask again within seconds."""
        return [(b"retry-after", str(self._seconds).encode()), (b"x-should-retry", b"false")]


class AnswerTooSlow(ServerError):
    """The answer was not whole in time."""

    status = 504
    type = "server_error"
    code = "answer_timeout"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's SDKs would ask again, for as long."""
        return [(b"x-should-retry", b"false")]


class Unavailable(ServerError):
    """Starting, stopping, or without an engine: later, or elsewhere."""

    status = 503
    type = "server_error"
    code = "service_unavailable"
    longest_retry_seconds = SERVICE_SECONDS


def unexpected() -> ServerError:
    """The client's view of an error nobody foresaw: nothing of its text, which may hold a prompt."""
    return ServerError("The server had an error while processing the request; its log has the request id.")

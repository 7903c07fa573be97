"""OpenAI's response object: what the request fixed is encoded once, what the answer adds each time that it is told."""

import time
from typing import Any, Literal

import msgspec

from services.server.chat.frames import Envelope
from services.server.chat.usage import Usage
from services.server.engine.protocol import Sampling
from services.server.errors import SERVER_FAULT, Overloaded, ServerError
from services.server.responses.output import Output, object_of
from services.server.responses.schema import ResponsesRequest, TextFormat

_json = msgspec.json.encode


class ResponseDocument:
    """The object of one answer, at any time of its life.

    Args:
        envelope: id, time and model.
        asked: what comes back to the client.
        sampling: the values that the request left open.
        stored: whether the answer is to be stored.

    Attributes:
        stored: what the answer says of it; it may turn out otherwise before the end.
    """

    def __init__(self, envelope: Envelope, asked: ResponsesRequest, sampling: Sampling, *, stored: bool) -> None:
        text, reasoning = asked.text, asked.reasoning
        self.stored = stored
        self._top = sampling.logprobs
        self._completed_at: int | None = None
        self._fixed = _json(
            {
                "id": envelope.id,
                "object": "response",
                "created_at": envelope.created,
                "model": envelope.model,
                "background": False,
                "previous_response_id": asked.previous_response_id,
                "service_tier": "default",
                "truncation": "disabled",
                "instructions": asked.instructions,
                "max_output_tokens": asked.max_output_tokens,
                "max_tool_calls": asked.max_tool_calls,
                "metadata": asked.metadata or {},
                "parallel_tool_calls": asked.parallel_tool_calls is not False,
                "prompt_cache_key": asked.prompt_cache_key,
                "reasoning": {
                    "effort": reasoning.effort if reasoning is not None else None,
                    "summary": None,
                },
                "safety_identifier": asked.safety_identifier,
                "temperature": sampling.temperature if asked.temperature is None else asked.temperature,
                "text": {
                    "format": (text.format if text is not None else None) or TextFormat(),
                    "verbosity": (text.verbosity if text is not None else None) or "medium",
                },
                "tool_choice": asked.tool_choice or "auto",
                "tools": asked.tools or [],
                "top_logprobs": asked.top_logprobs or 0,
                "top_p": sampling.top_p if asked.top_p is None else asked.top_p,
                "user": asked.user,
            }
        )[:-1]

    def begun(self) -> bytes:
        """Before the answer."""
        return self._encode("in_progress", [])

    def ended(self, output: Output, usage: Usage, *, logprobs: bool = True) -> bytes:
        """The whole answer, or as much as its limit let be; without log-probabilities where they are not to be in it."""
        status: Literal["incomplete", "completed"] = "incomplete" if output.cut else "completed"
        if self._completed_at is None and not output.cut:
            self._completed_at = int(time.time())
        return self._encode(status, self._items(output, logprobs=logprobs), usage=_usage(usage), cut=output.cut)

    def failed(self, output: Output, error: ServerError, *, logprobs: bool = True) -> bytes:
        """What there was of the answer when the error came."""
        told = {"code": _code(error), "message": error.message}
        return self._encode("failed", self._items(output, logprobs=logprobs), error=told)

    def _items(self, output: Output, *, logprobs: bool) -> list[dict[str, Any]]:
        return [object_of(item, self._top if logprobs else None) for item in output.items]

    def _encode(
        self,
        status: Literal["in_progress", "completed", "incomplete", "failed"],
        items: list[dict[str, Any]],
        *,
        usage: dict[str, Any] | None = None,
        error: dict[str, str] | None = None,
        cut: bool = False,
    ) -> bytes:
        told = {
            "status": status,
            "completed_at": self._completed_at if status == "completed" else None,
            "store": self.stored,
            "output": items,
            "usage": usage,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        }
        return b"%b,%b" % (self._fixed, _json(told)[1:])


class ResponseAnswer:
    """The plain answer, put together from deltas.

    Args:
        document: of the answer.
        output: of the answer, still empty.
    """

    def __init__(self, document: ResponseDocument, output: Output) -> None:
        self._document = document
        self._output = output

    def add(self, delta: Any) -> None:
        """Take in one delta."""
        self._output.add(delta)

    def encode(self, usage: Usage) -> bytes:
        """The answer's JSON."""
        return self._document.ended(self._output, usage)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.prompt_tokens_details.cached_tokens,
            "cache_write_tokens": 0,  # the prefix cache costs nothing to write
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.completion_tokens_details.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _code(error: ServerError) -> str:
    """The error's code in the closed list of this API."""
    if error.status >= SERVER_FAULT:
        return "server_error"
    return "rate_limit_exceeded" if isinstance(error, Overloaded) else "invalid_prompt"

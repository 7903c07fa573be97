"""vLLM's parsers: what binds a chat answer's form, and what its text means. Beside ``vllm.py`` the only module that imports vLLM."""

import json
import logging
import re
from typing import Any

import msgspec
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import Parser, ParserManager
from vllm.reasoning import ReasoningParserManager
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers import ToolParserManager
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
from vllm.v1.structured_output.request import get_structured_output_key

from services.server.engine.protocol import Delta, EngineError, RequestRefused, Shape, ToolCallDelta

# A call's arguments always fit the function's schema, whether or not the client says "strict": small models need it.
_STRICTNESS = "parameter"
# Blanks in a row within a call's arguments: a small model that may write more writes nothing else until its limit.
_BLANKS = 1
_COMPILER_PLACE = re.compile(r"^.*?\[[\d:]+\] \S+\.cc:\d+: ", re.DOTALL)

# What a parser cannot read it would log with the text in it.
for _chatty in ("vllm.tool_parsers", "vllm.reasoning", "vllm.parser"):
    logging.getLogger(_chatty).setLevel(logging.CRITICAL + 1)


class Parsers:
    """The parsers that suit the base model.

    Args:
        tokenizer: the base model's; used on the event loop only.
        model_config: vLLM's.
        tool_parser: a name that vLLM knows, such as ``hermes``.
        reasoning_parser: likewise, such as ``qwen3``; empty for a base that does not think aloud.

    Raises:
        EngineError: a name that vLLM does not know, or a parser that does not suit the base's tokenizer.
    """

    def __init__(self, tokenizer: Any, model_config: Any, *, tool_parser: str, reasoning_parser: str) -> None:
        for name, manager, setting in (
            (tool_parser, ToolParserManager, "engine.tool_parser"),
            (reasoning_parser, ReasoningParserManager, "engine.reasoning_parser"),
        ):
            known = manager.list_registered()
            if name and name not in known:
                raise EngineError(f"{setting} = {name!r} is none of vLLM's parsers: {', '.join(sorted(known))}")
        try:
            self._parser = ParserManager.get_parser(
                tool_parser_name=tool_parser,
                reasoning_parser_name=reasoning_parser or None,
                enable_auto_tools=True,
                tool_strict_level=_STRICTNESS,
                tokenizer=tokenizer,
            )
        except Exception as error:
            raise EngineError(
                f"engine.tool_parser or engine.reasoning_parser does not suit the base model: {error}"
            ) from error
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._reasons = bool(reasoning_parser)

    def form(self, shape: Shape | None, prompt: list[int]) -> "Form | None":
        """What an answer of this shape is bound to and how it is read; None where its text is plain text.

        Raises:
            RequestRefused: a function that asks to be followed strictly has a schema that cannot be enforced.
        """
        if shape is None or not (shape.tools or shape.response_format or self._reasons):
            return None
        for tool in shape.tools:
            function = tool["function"]
            if function.get("strict") and has_xgrammar_unsupported_json_features(function["parameters"]):
                raise RequestRefused(
                    f"Invalid schema for function '{function['name']}': it has keywords that cannot be enforced, such as "
                    "multipleOf, uniqueItems, or a format beside a length. Remove them, or 'strict'.",
                    param="tools",
                )
        return Form(self._request(shape), self._make, prompt, reasons=self._reasons)

    def _make(self, request: Any) -> Any:
        return self._parser(
            self._tokenizer,
            request.tools,
            chat_template_kwargs=request.chat_template_kwargs or {},
            model_config=self._model_config,
        )

    @staticmethod
    def _request(shape: Shape) -> Any:
        """The shape as vLLM's parsers know it: a chat request without its messages."""
        fields: dict[str, Any] = {"messages": [], "chat_template_kwargs": shape.template_options}
        if shape.tools:
            free = shape.tool_choice in {"auto", "required"}
            named = {"type": "function", "function": {"name": shape.tool_choice}}
            fields["tools"] = shape.tools
            fields["tool_choice"] = shape.tool_choice if free else named
            fields["parallel_tool_calls"] = shape.parallel
        if shape.response_format is not None:
            fields["response_format"] = shape.response_format
        return ChatCompletionRequest(**fields)


class Form:
    """One request's constraint, and its answers' readings.

    Attributes:
        constraint: vLLM's structured-output parameters; None where the text is free.
        skip_special_tokens: False where a parser needs to see them.
        engine_options: what vLLM's ``generate`` wants to know of the reasoning.
    """

    def __init__(self, request: Any, make: Any, prompt: list[int], *, reasons: bool) -> None:
        first = make(request)
        self._request = first.adjust_request(request) if request.tools or reasons else request
        self._make = make
        self._prompt = prompt
        self._readings: dict[int, Reading] = {}
        self.constraint = _bounded(self._request.extract_structured_outputs())
        self.skip_special_tokens: bool = self._request.skip_special_tokens
        self.engine_options: dict[str, Any] = {}
        if reasons:
            self.engine_options = {
                "reasoning_ended": self._request.resolve_reasoning_ended(first, prompt),
                "reasoning_parser_kwargs": {"chat_template_kwargs": request.chat_template_kwargs or {}},
            }

    @property
    def grammar(self) -> tuple[str, str] | None:
        """What the engine will have to compile, as ``Trials.fits`` takes it; None where there is nothing of the client's in it."""
        if self.constraint is None or self.constraint.json_object:
            return None
        kind, spec = get_structured_output_key(self.constraint)
        return kind.name.lower(), spec

    def refusal(self, error: Exception) -> RequestRefused:
        """What the client is told where vLLM refuses the request: of a schema, without where its compiler stood."""
        if self.constraint is None:
            return RequestRefused(str(error))
        reason = _COMPILER_PLACE.sub("", str(error)).strip().rstrip(".")
        where = "response_format" if self.constraint.json is not None else "tools"
        return RequestRefused(f"Invalid schema in '{where}': {reason}.", param=where)

    def read(self, delta: Delta) -> Delta:
        """The delta with its text told apart into answer, reasoning and calls."""
        reading = self._readings.get(delta.index)
        if reading is None:
            reading = self._readings[delta.index] = Reading(self._make(self._request), self._request, self._prompt)
        return reading.read(delta)


class Reading:
    """One answer's text while it grows."""

    def __init__(self, parser: Parser, request: Any, prompt: list[int]) -> None:
        self._parser = parser
        self._request = request
        self._prompt = prompt
        self._token_ids: list[int] = []
        self._called = False
        self._named = not isinstance(request.tool_choice, str | None)
        parser.set_prompt_token_ids(prompt)

    def read(self, delta: Delta) -> Delta:
        """See ``Form.read``."""
        token_ids = list(delta.token_ids)
        self._token_ids += token_ids
        finished = delta.finish_reason is not None
        message = self._parser.parse_delta(
            delta.text, token_ids, self._request, prompt_token_ids=self._prompt, finished=finished
        )
        calls = tuple(_call(call) for call in (message.tool_calls if message is not None else None) or ())
        self._called = self._called or bool(calls)
        reason = delta.finish_reason
        if reason == "stop" and self._called and not self._named:  # OpenAI ends a named call with "stop"
            reason = "tool_calls"
        return msgspec.structs.replace(
            delta,
            text=(message.content if message is not None else None) or "",
            reasoning=(message.reasoning if message is not None else None) or "",
            tool_calls=calls,
            finish_reason=reason,
            reasoning_tokens=self._parser.count_reasoning_tokens(self._token_ids) if finished else 0,
            token_ids=(),
        )


def _bounded(constraint: StructuredOutputsParams | None) -> StructuredOutputsParams | None:
    """The constraint with an end to blanks; those of plain JSON end by the engine's own setting."""
    if constraint is None or constraint.structural_tag is None:
        return constraint

    def bound(part: Any) -> Any:
        if isinstance(part, list):
            return [bound(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if part.get("type") == "json_schema" and "json_schema" in part:
            return {**part, "max_whitespace_cnt": _BLANKS}  # what is below is the client's schema
        return {key: bound(inner) for key, inner in part.items()}

    return StructuredOutputsParams(structural_tag=json.dumps(bound(json.loads(constraint.structural_tag))))


def _call(call: Any) -> ToolCallDelta:
    function = call.function
    return ToolCallDelta(
        index=call.index,
        id=call.id,
        name=function.name if function is not None else None,
        arguments=(function.arguments if function is not None else None) or "",
    )

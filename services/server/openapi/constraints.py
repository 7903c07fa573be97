"""What the code checks after a body was decoded: limits, values and names that the structs' types do not say.

Each is added to its property in the document. A test asks the server for values on both sides of every limit.
"""

from typing import Any

from services.server.chat.schema import UNSUPPORTED_CHAT, UNSUPPORTED_COMPLETION
from services.server.responses.items import ITEMS
from services.server.responses.schema import INCLUDABLE, LOGPROBS, UNSUPPORTED
from services.server.settings import Limits

Keywords = dict[str, Any]  # of JSON Schema

NAME = "^[A-Za-z0-9_-]{1,64}$"
_SEEDS = 2**63
_INERT: Keywords = {"description": "Accepted, without effect."}
_FUNCTION: Keywords = {"enum": ["function"]}
_TEXT: Keywords = {"enum": ["text"]}


def constraints(limits: Limits) -> dict[str, dict[str, Keywords]]:
    """Component -> property -> keywords.

    Args:
        limits: of the settings.
    """
    sampling = _sampling(limits)
    return {
        "ChatRequest": {**sampling, **_chat(limits), **_unsupported(UNSUPPORTED_CHAT)},
        "CompletionRequest": {**sampling, **_completion(limits), **_unsupported(UNSUPPORTED_COMPLETION)},
        "ResponsesRequest": {**_responses(limits), **_unsupported(UNSUPPORTED)},
        "EmbeddingsRequest": {"input": _prompts(limits), "user": _INERT},
        "ContentPart": {"type": _TEXT},
        "Message": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "name": _INERT,
            "refusal": _INERT,
            "annotations": _INERT,
            "audio": {"description": "Only as an answer without audio has it.", "enum": [None]},
            "function_call": {"description": "Only null.", "enum": [None]},
        },
        "ToolCall": {"type": _FUNCTION},
        "Tool": {"type": _FUNCTION, "custom": {"enum": [None]}},
        "NamedTool": {"type": _FUNCTION, "custom": {"enum": [None]}},
        "ToolChoice": {"type": {"enum": ["function", "allowed_tools"]}, "custom": {"enum": [None]}},
        "FunctionDefinition": {"name": {"pattern": NAME}},
        "JsonSchema": {"name": {"pattern": NAME}},
        "FunctionTool": {"name": {"pattern": NAME}},
        "JsonSchemaFormat": {"name": {"pattern": NAME}},
        "Part": {"type": {"enum": ["input_text", "output_text", "reasoning_text", "refusal"]}},
        "StreamOptions": {"include_obfuscation": _INERT},
        "ResponseStreamOptions": {"include_obfuscation": _INERT},
    }


def _sampling(limits: Limits) -> dict[str, Keywords]:
    stop = {"minLength": 1, "maxLength": limits.max_stop_chars}
    return {
        "model": {"description": "The base's name, an adapter's alias, or a pinned version such as `acme-support@7`."},
        "n": {"minimum": 1, "maximum": limits.max_n},
        "seed": {"minimum": -_SEEDS, "maximum": _SEEDS - 1},
        "temperature": {"minimum": 0, "maximum": 2},
        "top_p": {"minimum": 0, "maximum": 1},
        "presence_penalty": {"minimum": -2, "maximum": 2},
        "frequency_penalty": {"minimum": -2, "maximum": 2},
        "stop": {**stop, "items": {"type": "string", **stop}, "maxItems": limits.max_stop},
        "max_tokens": {**_tokens(limits), "description": "At most what the prompt leaves of the model's context."},
        "logit_bias": {
            "description": "Token id to what is added to its logit.",
            "maxProperties": limits.max_logit_bias,
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        "top_k": {
            "minimum": -1,
            "description": "Not OpenAI's. 0 and -1: all tokens; at most the size of the vocabulary.",
        },
        "min_p": {"minimum": 0, "maximum": 1, "description": "Not OpenAI's."},
        "repetition_penalty": {"exclusiveMinimum": 0, "maximum": 10, "description": "Not OpenAI's."},
        "ignore_eos": {
            "description": "Not OpenAI's, for load generators: an answer has `max_tokens` tokens. Excludes formats and tools."
        },
        "user": {"description": "Who asks; keeps a user on one version while a canary runs."},
    }


def _tokens(limits: Limits) -> Keywords:
    most = {"maximum": limits.max_output_tokens} if limits.max_output_tokens else {}
    return {"minimum": 1, **most}


def _chat(limits: Limits) -> dict[str, Keywords]:
    inert = ("metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention")
    return {
        "messages": {"minItems": 1, "maxItems": limits.max_messages},
        "max_completion_tokens": {**_tokens(limits), "description": "In place of `max_tokens`."},
        "top_logprobs": {"minimum": 0, "maximum": limits.max_logprobs, "description": "With `logprobs`."},
        "safety_identifier": {"description": "As `user`, and before it."},
        "tools": {
            "maxItems": limits.max_tools,
            "description": f"All JSON schemas together: {limits.max_schema_bytes} bytes; each {limits.max_schema_depth} deep; {limits.max_schema_repeats} items by counts in patterns.",
        },
        "reasoning_effort": {"description": "For chat templates that know it."},
        "verbosity": _INERT,
        **dict.fromkeys(inert, _INERT),
    }


def _completion(limits: Limits) -> dict[str, Keywords]:
    return {"prompt": _prompts(limits), "logprobs": {"minimum": 0, "maximum": limits.max_logprobs}}


def _prompts(limits: Limits) -> Keywords:
    tokens = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    some = {"minItems": 1, "maxItems": limits.max_prompts}
    return {
        "description": "A text, texts, token ids, or lists of token ids.",
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, **some},
            tokens,
            {"type": "array", "items": tokens, **some},
        ],
    }


def _responses(limits: Limits) -> dict[str, Keywords]:
    sampling = _sampling(limits)
    inert = (
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "max_tool_calls",
        "service_tier",
    )
    choices = [
        {"enum": ["none", "auto", "required"]},
        _of("FunctionChoice"),
        _of("AllowedToolsChoice"),
        {"type": "null"},
    ]
    return {
        **{field: sampling[field] for field in ("model", "temperature", "top_p", "user")},
        "input": {
            "description": "A text, or the conversation's items.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"anyOf": [_of(kind.__name__) for kind in ITEMS.values()]}},
            ],
        },
        "max_output_tokens": _tokens(limits),
        "top_logprobs": {"minimum": 0, "maximum": limits.max_logprobs, "description": f"With `include` of {LOGPROBS}."},
        "include": {"items": {"enum": sorted(INCLUDABLE)}},
        "tools": {"items": _of("FunctionTool"), "maxItems": limits.max_tools},
        "tool_choice": {"anyOf": choices},
        "safety_identifier": {"description": "As `user`, and before it."},
        "store": {"description": "Where storing is switched on; the answer says whether it is stored."},
        "previous_response_id": {"description": "A stored response; null where storing is not switched on."},
        **dict.fromkeys(inert, _INERT),
    }


def _of(component: str) -> Keywords:
    return {"$ref": f"#/components/schemas/{component}"}


def _unsupported(fields: dict[str, tuple[Any, ...]]) -> dict[str, Keywords]:
    return {
        field: {"description": "Not supported; only values that ask for nothing.", "enum": list(unused)}
        for field, unused in fields.items()
    }

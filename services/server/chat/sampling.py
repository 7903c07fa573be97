"""A request's sampling fields, checked and in the engine's terms."""

import math

from services.server.chat.schema import ChatRequest, CompletionRequest, SamplingFields
from services.server.engine.protocol import Sampling, Shape
from services.server.errors import BadRequest
from services.server.settings import Limits

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
_SEEDS = 2**63


class SamplingRules:
    """Turns requests into ``Sampling``.

    Args:
        limits: from the settings.
        defaults: what the base model's generation_config.json recommends where a request is silent.
        vocabulary: number of token ids.
    """

    def __init__(self, limits: Limits, defaults: dict[str, float], vocabulary: int) -> None:
        self._limits = limits
        self._defaults = defaults
        self._vocabulary = vocabulary

    def answers(self, request: SamplingFields) -> int:
        """The checked ``n``."""
        return _whole(request.n, "n", 1, self._limits.max_n, default=1)

    def for_chat(self, request: ChatRequest, shape: Shape, *, room: int) -> Sampling:
        """Sampling of a chat request that has ``room`` tokens left for its answer of this shape.

        Raises:
            BadRequest: a value out of range; ``param`` names it.
        """
        if request.max_tokens is not None and request.max_completion_tokens is not None:
            raise BadRequest(
                "'max_tokens' and 'max_completion_tokens' exclude each other.",
                param="max_completion_tokens",
                code="invalid_value",
            )
        if request.top_logprobs is not None and not request.logprobs:
            raise BadRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs", code="invalid_value")
        top = _whole(request.top_logprobs, "top_logprobs", 0, self._limits.max_logprobs, default=0)
        asked, field = request.max_tokens, "max_tokens"
        if request.max_completion_tokens is not None:
            asked, field = request.max_completion_tokens, "max_completion_tokens"
        most = self._tokens(asked, field, room, default=room)
        return self._sampling(request, most, logprobs=top if request.logprobs else None, shape=shape)

    def for_completion(self, request: CompletionRequest, *, room: int) -> Sampling:
        """Sampling of a completions request; see ``for_chat``."""
        logprobs = request.logprobs
        if logprobs is not None:
            logprobs = _whole(logprobs, "logprobs", 0, self._limits.max_logprobs, default=0)
        most = self._tokens(request.max_tokens, "max_tokens", room, default=COMPLETION_TOKENS)
        return self._sampling(request, most, logprobs=logprobs, prompt_logprobs=logprobs if request.echo else None)

    def _sampling(
        self,
        request: SamplingFields,
        max_tokens: int,
        *,
        logprobs: int | None,
        prompt_logprobs: int | None = None,
        shape: Shape | None = None,
    ) -> Sampling:
        default = self._defaults.get
        temperature = _number(request.temperature, "temperature", 0, 2, default=default("temperature", 1.0))
        top_p = _number(request.top_p, "top_p", 0, 1, default=default("top_p", 1.0))
        if top_p == 0:  # only the likeliest token is left
            temperature, top_p = 0.0, 1.0
        repetition = _number(
            request.repetition_penalty, "repetition_penalty", 0, 10, default=default("repetition_penalty", 1.0)
        )
        if repetition == 0:
            raise BadRequest(
                "Invalid 'repetition_penalty': must be above 0.", param="repetition_penalty", code="invalid_value"
            )
        # Beyond its end a grammar allows nothing.
        if request.ignore_eos and shape is not None and (shape.tools or shape.response_format):
            raise BadRequest("'ignore_eos' excludes formats and tools.", param="ignore_eos", code="invalid_value")
        return Sampling(
            max_tokens=max_tokens,
            n=self.answers(request),
            temperature=temperature,
            top_p=top_p,
            top_k=_whole(request.top_k, "top_k", -1, self._vocabulary, default=int(default("top_k", 0))),
            min_p=_number(request.min_p, "min_p", 0, 1, default=default("min_p", 0.0)),
            presence_penalty=_number(request.presence_penalty, "presence_penalty", -2, 2, default=0.0),
            frequency_penalty=_number(request.frequency_penalty, "frequency_penalty", -2, 2, default=0.0),
            repetition_penalty=repetition,
            seed=self._seed(request.seed),
            stop=self._stop(request.stop),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            logit_bias=self._logit_bias(request.logit_bias),
            shape=shape,
            ignore_eos=bool(request.ignore_eos),
        )

    def _tokens(self, value: int | None, field: str, room: int, *, default: int) -> int:
        limit = self._limits.max_output_tokens
        if value is None:
            return min(default, room, limit or room)
        if value < 1:
            raise BadRequest(f"Invalid '{field}': must be at least 1.", param=field, code="invalid_value")
        if 0 < limit < value:
            raise BadRequest(
                f"Invalid '{field}': an answer of this server has at most {limit} tokens (limits.max_output_tokens).",
                param=field,
                code="invalid_value",
            )
        if value > room:
            raise BadRequest(
                f"'{field}' is {value}, but the prompt leaves {room} tokens of the model's context.",
                param=field,
                code="context_length_exceeded",
            )
        return value

    @staticmethod
    def _seed(seed: int | None) -> int | None:
        if seed is None:
            return None
        _whole(seed, "seed", -_SEEDS, _SEEDS - 1, default=0)
        return seed % _SEEDS  # vLLM takes -1 for "no seed"; every seed a client sends is one

    def _stop(self, stop: str | list[str] | None) -> tuple[str, ...]:
        strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
        limits = self._limits
        if len(strings) > limits.max_stop:
            raise BadRequest(
                f"Invalid 'stop': at most {limits.max_stop} strings, got {len(strings)}.",
                param="stop",
                code="invalid_value",
            )
        if any(not 1 <= len(string) <= limits.max_stop_chars for string in strings):
            raise BadRequest(
                f"Invalid 'stop': strings of 1 to {limits.max_stop_chars} characters.",
                param="stop",
                code="invalid_value",
            )
        return strings

    def _logit_bias(self, biases: dict[str, float] | None) -> dict[int, float] | None:
        if not biases:
            return None
        if len(biases) > self._limits.max_logit_bias:
            raise BadRequest(
                f"Invalid 'logit_bias': at most {self._limits.max_logit_bias} entries.",
                param="logit_bias",
                code="invalid_value",
            )
        checked = {}
        for key, bias in biases.items():
            if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < self._vocabulary):  # noqa: PLR2004 - digits of an id
                raise BadRequest(
                    f"Invalid 'logit_bias': keys are token ids from 0 to {self._vocabulary - 1}.",
                    param="logit_bias",
                    code="invalid_value",
                )
            checked[int(key)] = _number(bias, "logit_bias", -100, 100, default=0.0)
        return checked


def _number(value: float | None, field: str, least: float, most: float, *, default: float) -> float:
    if value is None:
        return default
    if not (math.isfinite(value) and least <= value <= most):
        raise BadRequest(f"Invalid '{field}': must be from {least} to {most}.", param=field, code="invalid_value")
    return value


def _whole(value: int | None, field: str, least: int, most: int, *, default: int) -> int:
    if value is None:
        return default
    if not least <= value <= most:
        raise BadRequest(
            f"Invalid '{field}': must be an integer from {least} to {most}.", param=field, code="invalid_value"
        )
    return value

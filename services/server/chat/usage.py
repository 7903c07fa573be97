"""What a request consumed."""

from collections.abc import Iterable

import msgspec

from services.server.engine.protocol import Delta


class CachedTokens(msgspec.Struct, frozen=True):
    """``prompt_tokens_details``."""

    cached_tokens: int


class ReasoningTokens(msgspec.Struct, frozen=True):
    """``completion_tokens_details``."""

    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """OpenAI's ``usage``."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Tally:
    """Counts tokens and finish reasons while deltas pass.

    Attributes:
        ended: answers that have their finish reason.
    """

    def __init__(self, prompt_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.reasoning_tokens = 0
        self.finish_reasons: dict[str, int] = {}
        self.ended = 0

    def add(self, deltas: Iterable[Delta]) -> None:
        """Count deltas: each says how much of the prompt was cached, an answer's last how much was reasoning."""
        tokens, cached = 0, self.cached_tokens
        for delta in deltas:  # an attribute of this object would take three times as long
            tokens += delta.tokens
            if delta.cached_tokens > cached:  # noqa: PLR1730 - max() takes as long as all the rest
                cached = delta.cached_tokens
            if delta.finish_reason is not None:
                self.reasoning_tokens += delta.reasoning_tokens
                self.finish_reasons[delta.finish_reason] = self.finish_reasons.get(delta.finish_reason, 0) + 1
                self.ended += 1
        self.completion_tokens += tokens
        self.cached_tokens = cached

    def usage(self) -> Usage:
        """The counts in OpenAI's shape."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details=CachedTokens(self.cached_tokens),
            completion_tokens_details=ReasoningTokens(self.reasoning_tokens),
        )

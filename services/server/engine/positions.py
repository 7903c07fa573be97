"""vLLM's log-probabilities as the protocol's."""

from collections.abc import Sequence
from typing import Any

from services.server.engine.protocol import Position, TokenLogprob

LOWEST_LOGPROB = -9999.0  # JSON has no -Infinity; OpenAI's answers use this number


def positions_of(token_ids: Sequence[int], places: Any) -> list[Position]:
    """One position per token.

    Args:
        token_ids: the tokens that stand there.
        places: of each, vLLM's log-probabilities by token id, the token's own among them.
    """
    return [_position(token, place) for token, place in zip(token_ids, places, strict=True)]


def prompt_positions_of(tokenizer: Any, token_ids: Any, places: Any) -> list[Position]:
    """One position per token of a prompt, of which nothing predicts the first; see ``positions_of``."""
    first, *rest = token_ids
    opening = TokenLogprob(token=tokenizer.decode([first]), logprob=None)
    return [Position(chosen=opening, top=[]), *positions_of(rest, places[1:])]


def _position(token_id: int, place: Any) -> Position:
    ranked = sorted(place.values(), key=lambda logprob: logprob.rank)
    return Position(chosen=_token(place[token_id]), top=[_token(logprob) for logprob in ranked])


def _token(logprob: Any) -> TokenLogprob:
    return TokenLogprob(token=logprob.decoded_token or "", logprob=max(logprob.logprob, LOWEST_LOGPROB))

"""Requests and scripted answers on which two front ends would differ if they differed anywhere."""

import random
from typing import Any

from tests.support.texts import TEXTS

_MIXED = 4  # texts whose tokens come in any order
# In a conversation a special token is refused.
_SAID = [text for text in TEXTS if "<|" not in text]
ANSWERS = 2 * len(TEXTS) + _MIXED + 1


def answers(tokenizer: Any) -> list[list[int]]:
    """Token ids of scripted answers: the texts with an end, and texts broken off within a character."""
    whole = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    end = tokenizer.eos_token_id
    rng = random.Random(6)  # noqa: S311 - repeatable
    cut = [[*tokens[: rng.randrange(1, len(tokens))], end] for tokens in whole]  # often within a character
    mixed = [rng.sample(tokens, len(tokens)) for tokens in whole[1 : 1 + _MIXED]]  # bytes that are no characters
    return [*([*tokens, end] for tokens in whole), *cut, *mixed, [end]]


def requests(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Paths and bodies, without ``model`` and ``stream``; always the same ones."""
    rng = random.Random(200)  # noqa: S311 - repeatable
    return [_completion(rng) if number % 8 == 0 else _chat(rng) for number in range(count)]


def _chat(rng: random.Random) -> tuple[str, dict[str, Any]]:
    number = rng.randrange(ANSWERS)
    messages: list[dict[str, Any]] = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": rng.choice(_SAID)})
    for _ in range(rng.choice((0, 0, 1, 2))):
        messages += [
            {"role": "user", "content": rng.choice(_SAID)},
            {"role": "assistant", "content": rng.choice(_SAID)},
        ]
    text = " ".join(rng.choices(_SAID, k=rng.randint(0, 2)))
    if rng.random() < 0.1:
        text += " word" * 500  # tokenized in a thread
    content: Any = f"{text} #{number}"
    if rng.random() < 0.2:
        content = [{"type": "text", "text": content}]
    messages.append({"role": "user", "content": content})
    body: dict[str, Any] = {"messages": messages, **_fields(rng, number)}
    if "n" not in body and rng.random() < 0.3:  # of a drawn token vLLM tells another list: docs/api.md
        body |= {"logprobs": True, "top_logprobs": rng.choice((0, 1, 5))}
    if "max_tokens" in body and rng.random() < 0.5:
        body["max_completion_tokens"] = body.pop("max_tokens")
    return "/v1/chat/completions", body


def _completion(rng: random.Random) -> tuple[str, dict[str, Any]]:
    number = rng.randrange(ANSWERS)
    prompts = [f"{rng.choice(TEXTS)} #{number}" for _ in range(rng.choice((1, 1, 2)))]
    body: dict[str, Any] = {"prompt": prompts if len(prompts) > 1 else prompts[0], **_fields(rng, number)}
    if rng.random() < 0.4:
        body["logprobs"] = rng.choice((0, 3))
    return "/v1/completions", body


def _fields(rng: random.Random, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"temperature": 0}
    if rng.random() < 0.15:
        fields = {"temperature": 0.7, "n": rng.choice((2, 3)), "seed": rng.randrange(5)}
    if rng.random() < 0.5:
        fields["max_tokens"] = rng.choice((1, 2, 7, 20, 64))
    if rng.random() < 0.5:
        fields["stop"] = _stop(rng, number)
    if rng.random() < 0.1:
        fields |= {"top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {"100": 3}}
    return fields


def _stop(rng: random.Random, number: int) -> str | list[str]:
    """Pieces of the answer, which begin and end anywhere in its tokens."""
    text = TEXTS[number % len(TEXTS)]
    found = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(text))
        found.append(text[start : start + rng.randint(1, 9)])
    return found if len(found) > 1 or rng.random() < 0.5 else found[0]

"""Errors, as the exception classes that the SDK makes of them."""

import os
from typing import Any

import openai
import pytest
from openai import OpenAI

MESSAGES: Any = [{"role": "user", "content": "Tell me a story about the sea."}]
LONGEST_RETRY_SECONDS = 120


def test_a_wrong_key_is_an_authentication_error(client: OpenAI, base: str) -> None:
    """On every kind of call, plain or streamed."""
    stranger = client.with_options(api_key="ws-nobody")
    plain_and_streamed: list[Any] = [{}, {"stream": True}]
    for options in plain_and_streamed:
        with pytest.raises(openai.AuthenticationError) as caught:
            stranger.chat.completions.create(model=base, messages=MESSAGES, **options)
        assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_model_of_others_is_denied(client: OpenAI, base: str) -> None:
    """A key that does not cover the model."""
    narrow = client.with_options(api_key=os.environ["NARROW_KEY"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        narrow.chat.completions.create(model=base, messages=MESSAGES)
    assert (caught.value.status_code, caught.value.param) == (403, "model")


def test_what_is_not_there_is_not_found(client: OpenAI) -> None:
    """A model by its name, a route by its address."""
    with pytest.raises(openai.NotFoundError, match="nobody") as caught:
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="the sea")
    assert caught.value.code == "unknown_url"


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"temperature": 9}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 10**6}, "n", "invalid_value"),
        ({"messages": [{"role": "nobody", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"extra_body": {"temprature": 1}}, "temprature", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, "messages", "context_length_exceeded"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_names_its_field(
    client: OpenAI, base: str, options: dict[str, Any], param: str, code: str
) -> None:
    """With the code that OpenAI has for it."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": base, "messages": MESSAGES, **options})
    assert (caught.value.status_code, caught.value.param, caught.value.code) == (400, param, code)


def test_a_full_server_is_a_rate_limit_error(client: OpenAI, base: str) -> None:
    """After as many answers as its headers allow at once; it says when to come back, and then answers again."""
    raw = client.chat.completions.with_raw_response.create(model=base, messages=MESSAGES, max_tokens=1)
    allowed = int(raw.headers["x-ratelimit-limit-requests"])
    with client.chat.completions.create(
        model=base, messages=MESSAGES, stream=True, max_tokens=1500, n=allowed
    ) as stream:
        next(stream)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=base, messages=MESSAGES, max_tokens=1)
    assert (caught.value.status_code, caught.value.code) == (429, "rate_limit_exceeded")
    assert 0 < int(caught.value.response.headers["retry-after"]) <= LONGEST_RETRY_SECONDS
    patient = client.with_options(max_retries=5)
    assert patient.chat.completions.create(model=base, messages=MESSAGES, max_tokens=1).choices

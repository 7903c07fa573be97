"""Embeddings, which the models served here do not make."""

import openai
import pytest
from openai import OpenAI


def test_embeddings_are_refused_with_the_reason(client: OpenAI, base: str) -> None:
    """A bad request with a code, not a server's error and not a route that nobody has."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=base, input=["the sea"])
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")

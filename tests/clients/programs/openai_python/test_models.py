"""Models: listed, and one by one."""

import os

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI, PermissionDeniedError


async def test_models_are_listed_and_retrieved(
    client: OpenAI, async_client: AsyncOpenAI, base: str, adapter: str
) -> None:
    """The base, the adapter's alias, its version; the same to both clients."""
    models = list(client.models.list())
    assert {base, adapter, f"{adapter}@1"} <= {model.id for model in models}
    assert [model.id async for model in async_client.models.list()] == [model.id for model in models]
    for model in models:
        assert client.models.retrieve(model.id) == model
        assert (model.object, model.owned_by) == ("model", "whetstone")


def test_a_narrow_key_sees_what_it_covers(client: OpenAI, base: str, adapter: str) -> None:
    """The rest is neither listed nor handed out, and a name that nobody has is not found."""
    narrow = client.with_options(api_key=os.environ["NARROW_KEY"])
    assert {model.id for model in narrow.models.list()} == {adapter, f"{adapter}@1"}
    with pytest.raises(PermissionDeniedError):
        narrow.models.retrieve(base)
    with pytest.raises(NotFoundError):
        client.models.retrieve("nobody")

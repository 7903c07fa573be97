"""``POST /v1/embeddings``: refused clearly, and only where nothing else is wrong."""

from typing import Any

import openai
import pytest

from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server
from tests.unit.server.process import Process


@pytest.mark.parametrize(
    "given", ["abc", ["abc", "d"], [97, 98], [[97], [98, 99]]], ids=["text", "texts", "ids", "lists"]
)
async def test_sound_request_is_told_that_the_model_cannot_embed(server: Server, given: Any) -> None:
    """400 ``unsupported_model`` that names the model, in every form of ``input``."""
    body = {"model": BASE, "input": given, "encoding_format": "base64", "dimensions": 8, "user": "u"}
    answer = await server.ask("/v1/embeddings", body)
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("model", "unsupported_model")
    assert BASE in answer.error["message"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": ["a", 1]}, 400, "input"),
        ({"input": {}}, 400, "input"),
        ({"input": ["a"] * 4}, 400, "input"),
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"dimensions": 0}, 400, "dimensions"),
        ({"pooling": "mean"}, 400, "pooling"),
        ({"model": "nobody"}, 404, "model"),
    ],
)
async def test_what_else_is_wrong_is_said_first(
    server: Server, fields: dict[str, Any], status: int, param: str
) -> None:
    """A bad field is named, and a model that is not there is 404."""
    answer = await server.ask("/v1/embeddings", {"model": BASE, "input": "a", **fields})
    assert (answer.status, answer.error["param"]) == (status, param)
    assert answer.error["code"] != "unsupported_model"


async def test_official_sdk_raises_bad_request(tmp_path: Any) -> None:
    """The stock client asks for base64 and gets an exception with the code."""
    async with Process(tmp_path) as process:
        with pytest.raises(openai.BadRequestError) as raised:
            await process.client.embeddings.create(model=BASE, input="a")
        assert raised.value.code == "unsupported_model"

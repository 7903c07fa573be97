"""LangChain's ``langchain-openai``, which finds server and key by OpenAI's environment variables."""

import os
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import BadRequestError, DefaultAsyncHttpxClient
from pydantic import BaseModel

QUESTION = "What is the capital of France?"
REPORT = "My red bicycle was stolen. Sort this report, as JSON."


class Report(BaseModel):
    """So narrow that any model fills it in a few tokens."""

    colour: Literal["red", "green"]
    urgent: bool


@tool  # type: ignore[untyped-decorator]
def weather(city: Literal["Seoul", "Paris"]) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees"


COMMON: Any = {"temperature": 0, "max_tokens": 100, "max_retries": 0, "stream_usage": True}


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def model(request: pytest.FixtureRequest) -> ChatOpenAI:
    """The base model, by either API."""
    return ChatOpenAI(model=os.environ["BASE"], use_responses_api=request.param, **COMMON)


def test_invoke_answers(model: ChatOpenAI) -> None:
    """With the usage, and the name of the version that answered."""
    answer = model.invoke(QUESTION)
    assert "Paris" in answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    aliased = ChatOpenAI(model=os.environ["ADAPTER"], max_tokens=1, max_retries=0).invoke(QUESTION)
    assert aliased.response_metadata["model_name"] == f"{os.environ['ADAPTER']}@1"


def test_streams_spell_the_same_answer(model: ChatOpenAI) -> None:
    """The pieces add up to a message with its usage."""
    plain = model.invoke(QUESTION).text
    whole = AIMessageChunk(content="")
    for chunk in model.stream(QUESTION):
        whole += chunk
    assert whole.text == plain
    assert whole.usage_metadata


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_awaited_answers_and_streams_are_the_same(api: str) -> None:
    """Over a client that is closed after the test; LangChain keeps its own beyond the event loop."""
    async with DefaultAsyncHttpxClient() as http:
        model = ChatOpenAI(
            model=os.environ["BASE"], use_responses_api=api == "responses", http_async_client=http, **COMMON
        )
        plain = (await model.ainvoke(QUESTION)).text
        assert "Paris" in plain
        assert "".join([chunk.text async for chunk in model.astream(QUESTION)]) == plain


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_model(model: ChatOpenAI, method: Any) -> None:
    """By a format, and by a function that must be called."""
    assert isinstance(model.with_structured_output(Report, method=method).invoke(REPORT), Report)


def test_a_bound_tool_is_called_and_its_result_taken_back(model: ChatOpenAI) -> None:
    """Named or any; plain or streamed; and the conversation goes on."""
    question = HumanMessage("What is the weather in Seoul?")
    bound = model.bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    asked = bound.invoke([question])
    (call,) = asked.tool_calls
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert "21 degrees" in result.content
    assert model.bind_tools([weather], tool_choice="none").invoke([question, asked, result]).text
    whole = AIMessageChunk(content="")
    for chunk in model.bind_tools([weather], tool_choice="any").stream([question]):
        whole += chunk
    assert whole.tool_calls
    assert {call["name"] for call in whole.tool_calls} == {"weather"}


def test_errors_are_the_sdks(model: ChatOpenAI) -> None:
    """LangChain hands them on."""
    with pytest.raises(BadRequestError) as caught:
        model.bind(temperature=9).invoke(QUESTION)
    assert caught.value.param == "temperature"

"""pydantic-ai, over OpenAI's SDK, which finds server and key by its environment variables."""

import os
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, RunContext, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

QUESTION = "What is the capital of France?"
REPORT = "My red bicycle was stolen. Sort this report, as JSON."
SETTINGS = ModelSettings(temperature=0, max_tokens=100)


class Report(BaseModel):
    """So narrow that any model fills it in a few tokens."""

    colour: Literal["red", "green"]
    urgent: bool


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIProvider]:
    """Over a client that is closed after the test; pydantic-ai leaves its own open."""
    async with AsyncOpenAI(max_retries=0) as client:
        yield OpenAIProvider(openai_client=client)


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel], ids=["chat", "responses"])
def model(request: pytest.FixtureRequest, provider: OpenAIProvider) -> OpenAIChatModel | OpenAIResponsesModel:
    """The base model, by either API."""
    made: OpenAIChatModel | OpenAIResponsesModel = request.param(
        os.environ["BASE"], provider=provider, settings=SETTINGS
    )
    return made


async def test_an_agent_answers_plain_and_streamed(model: OpenAIChatModel | OpenAIResponsesModel) -> None:
    """The same text, with its usage."""
    agent = Agent(model, instructions="Be brief.")
    plain = await agent.run(QUESTION)
    assert "Paris" in plain.output
    assert plain.usage.output_tokens > 0
    async with agent.run_stream(QUESTION) as streamed:
        assert await streamed.get_output() == plain.output


@pytest.mark.parametrize("kind", [NativeOutput, ToolOutput], ids=["native", "tool"])
async def test_structured_output_is_an_object_of_the_model(
    model: OpenAIChatModel | OpenAIResponsesModel, kind: type[NativeOutput[Report]] | type[ToolOutput[Report]]
) -> None:
    """By a format, and by a function that must be called."""
    answer = await Agent(model, output_type=kind(Report)).run(REPORT)
    assert isinstance(answer.output, Report)


async def test_a_tool_is_called_and_its_result_taken_back(model: OpenAIChatModel | OpenAIResponsesModel) -> None:
    """Any of the tools must be called: the agent's own first, the output's at the end."""
    asked: list[str] = []
    agent = Agent(model, output_type=ToolOutput(Report, name="report"))

    @agent.tool  # type: ignore[untyped-decorator]
    def weather(context: RunContext[None], city: Literal["Seoul", "Paris"]) -> str:
        """Look up the weather of a city."""
        del context
        asked.append(city)
        return "21 degrees"

    answer = await agent.run("Use weather on Seoul first, then report.")
    assert isinstance(answer.output, Report)
    assert asked


async def test_a_wrong_model_is_an_error_with_its_status(provider: OpenAIProvider) -> None:
    """404, and what the server said."""
    with pytest.raises(ModelHTTPError, match="nobody") as caught:
        await Agent(OpenAIChatModel("nobody", provider=provider)).run(QUESTION)
    assert caught.value.status_code == 404

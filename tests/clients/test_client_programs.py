"""Other people's clients against the real server: each program runs where only that client is installed."""

import pytest

from tests.clients.programs_in import ClientProgram, Served, node, python

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("environment", ["openai-3", "openai-2"])
def test_openais_python_sdk(served: Served, environment: str) -> None:
    """The newest and the last 2.x, strict about every answer: synchronous, asynchronous, raw, streamed and parsed."""
    ClientProgram(python(environment, "openai_python"), served).expect_success()


def test_openais_node_sdk(served: Served) -> None:
    """``npm install openai``: chat, tools, formats, texts, models, Responses, files and fine-tuning."""
    ClientProgram(
        node("node/openai_chat.test.mjs", "node/openai_responses.test.mjs", "node/openai_fine_tuning.test.mjs"), served
    ).expect_success()


def test_vercels_ai_sdk(served: Served) -> None:
    """``ai`` through ``@ai-sdk/openai-compatible``: answers, streams, objects and tools."""
    ClientProgram(node("node/vercel_ai.test.mjs"), served).expect_success()


@pytest.mark.parametrize("client", ["langchain", "pydantic-ai"])
def test_agent_frameworks(served: Served, client: str) -> None:
    """LangChain and pydantic-ai, by chat and by Responses: answers, streams, objects and tools."""
    ClientProgram(python(client, client.replace("-", "_")), served).expect_success()

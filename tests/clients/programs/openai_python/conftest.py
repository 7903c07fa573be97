"""OpenAI's SDK, found by its own environment variables, strict about every answer."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

SECONDS = 60.0


@pytest.fixture
def client() -> Iterator[OpenAI]:
    """The synchronous client; it never asks twice, so that no error is hidden."""
    with OpenAI(max_retries=0, timeout=SECONDS, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
async def async_client() -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous one, likewise."""
    async with AsyncOpenAI(max_retries=0, timeout=SECONDS, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="session")
def base() -> str:
    """The base model's name."""
    return os.environ["BASE"]


@pytest.fixture(scope="session")
def adapter() -> str:
    """The name of an adapter whose version 1 is in service."""
    return os.environ["ADAPTER"]

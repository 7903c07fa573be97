"""Keys on the real engine, as OpenAI's stock SDK sees them: rotation, roles, limits. Who has none is let in until there is one."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import openai
import pytest
from openai import OpenAI

from services.common.paths import DataPaths
from services.server.keys import ALL_MODELS, KeyFile, KeyLimits
from tests.conftest import REPOSITORY, project_environment
from tests.e2e.asking import BASE, MESSAGES
from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.e2e

SECOND = 1.0
MINUTE = 60


@pytest.fixture(scope="module")
def keys(data: Path, server: ServerProcess) -> KeyFile:
    """The keys of the server's data root; from the first one on, which is that of ``server.client``, nobody gets in without."""
    keys = KeyFile(DataPaths(data).keys / "keys.json")
    assert server.client.models.list().data, "nobody needed one before"
    server.client.api_key = keys.add("first", [ALL_MODELS], None)
    return keys


def client_of(server: ServerProcess, secret: str, *, max_retries: int = 0) -> OpenAI:
    """The SDK with a key."""
    return server.client.with_options(api_key=secret, max_retries=max_retries)


def ask(client: OpenAI, max_tokens: int = 4) -> int:
    """One short answer; the tokens that it was."""
    answer = client.chat.completions.create(model=BASE, messages=MESSAGES, max_tokens=max_tokens)
    assert answer.usage is not None
    return answer.usage.total_tokens


def test_rotation_takes_effect_within_a_second(server: ServerProcess, keys: KeyFile) -> None:
    """The new secret is let in at once and the old one out, or after its grace; no restart, and nobody without a key."""
    old = keys.add("rotating", [ALL_MODELS], None)
    assert ask(client_of(server, old))
    new = keys.rotate("rotating", grace=timedelta(hours=1))
    assert ask(client_of(server, new))
    assert ask(client_of(server, old))
    began = time.monotonic()
    last = keys.rotate("rotating", grace=timedelta())
    for secret in (old, new, "none"):
        with pytest.raises(openai.AuthenticationError):
            client_of(server, secret).models.list()
    assert client_of(server, last).models.list().data
    assert time.monotonic() - began < SECOND
    assert ask(client_of(server, last))


def test_a_role_that_is_missing_is_permission_denied(server: ServerProcess, keys: KeyFile) -> None:
    """Files and jobs need ``fine-tuning``, asking needs ``inference``."""
    asking = client_of(server, keys.add("asking", [ALL_MODELS], None))
    tuning = client_of(server, keys.add("tuning", [ALL_MODELS], None, roles=["fine-tuning"]))
    with pytest.raises(openai.PermissionDeniedError) as caught:
        asking.files.list()
    assert caught.value.code == "missing_scope"
    with pytest.raises(openai.PermissionDeniedError):
        ask(tuning)
    assert tuning.files.list().data == []


def test_requests_over_the_limit_are_rate_limit_errors(server: ServerProcess, keys: KeyFile) -> None:
    """With OpenAI's headers; a client that retries as it does by default waits as it is told, and succeeds."""
    secret = keys.add("rpm", [ALL_MODELS], None, limits=KeyLimits(requests_per_minute=10))
    client = client_of(server, secret)
    raw = client.chat.completions.with_raw_response.create(model=BASE, messages=MESSAGES, max_tokens=1)
    assert raw.headers["x-ratelimit-limit-requests"] == "10"
    assert raw.headers["x-ratelimit-remaining-requests"] == "9"
    for _ in range(9):
        with pytest.raises(openai.BadRequestError):  # it counts, and takes no time
            client.chat.completions.create(model=BASE, messages=MESSAGES, temperature=9)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert 0 < int(caught.value.response.headers["retry-after"]) <= MINUTE
    began = time.monotonic()
    assert ask(client_of(server, secret, max_retries=2))
    assert time.monotonic() - began > SECOND


def test_tokens_over_the_limit_are_rate_limit_errors(server: ServerProcess, keys: KeyFile) -> None:
    """Real usage counts, streamed too; what is larger than the limit itself is raised without a retry."""
    secret = keys.add("tpm", [ALL_MODELS], None, limits=KeyLimits(tokens_per_minute=400))
    client = client_of(server, secret)
    used = ask(client)
    raw = client.chat.completions.with_raw_response.create(model=BASE, messages=MESSAGES, max_tokens=1)
    assert raw.headers["x-ratelimit-limit-tokens"] == "400"
    remaining = int(raw.headers["x-ratelimit-remaining-tokens"])
    assert 0 < 400 - remaining < 2 * used + 8
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError, match="too large") as caught:
        ask(client_of(server, secret, max_retries=5), max_tokens=500)
    assert time.monotonic() - began < SECOND
    assert caught.value.type == "tokens"
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, max_tokens=remaining)
    assert 0 < int(caught.value.response.headers["retry-after"]) <= MINUTE


def test_usage_shows_exactly_what_was_answered(server: ServerProcess, keys: KeyFile) -> None:
    """By key and model, plain and streamed, within the second or so in which the server writes it."""
    client = client_of(server, keys.add("counted", [ALL_MODELS], None))
    plain = client.chat.completions.create(model=BASE, messages=MESSAGES, max_tokens=4).usage
    chunks = client.chat.completions.create(
        model=BASE, messages=MESSAGES, max_tokens=7, stream=True, stream_options={"include_usage": True}
    )
    streamed = [chunk.usage for chunk in chunks][-1]
    assert plain is not None
    assert streamed is not None
    told = {
        "key": "counted",
        "model": BASE,
        "requests": 2,
        "prompt_tokens": plain.prompt_tokens + streamed.prompt_tokens,
        "completion_tokens": plain.completion_tokens + streamed.completion_tokens,
    }
    assert plain.completion_tokens > 0
    server.wait(lambda: told in usage_of("counted", keys.file.parent.parent), 5)


def usage_of(key: str, data: Path) -> list[dict[str, object]]:
    """What the operator's command shows of a key, without the days."""
    shown = subprocess.run(
        [sys.executable, "-m", "services.server", "usage", "--json"],
        cwd=REPOSITORY,
        env=project_environment(data),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    rows = msgspec.json.decode(shown, type=list[dict[str, object]])
    return [{name: row[name] for name in row if name != "day"} for row in rows if row["key"] == key]

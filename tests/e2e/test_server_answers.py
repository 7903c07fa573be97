"""What the server answers on the real engine and the real model, asked by the official client."""

import json
import time

import httpx
import openai
import pytest

from tests.e2e.asking import ANSWERS, BASE, ENDLESS, LONG, MESSAGES, ask, stream_whole
from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.e2e


def test_base_and_adapter_answer_side_by_side(server: ServerProcess) -> None:
    """The adapter's learned words, streamed and plain alike; the base's own; ``model`` names the version."""
    assert ask(server, "acme") == ("acme@1", ANSWERS[1])
    assert ask(server, "acme@2") == ("acme@2", ANSWERS[2])
    model, text = ask(server, BASE)
    assert model == BASE
    assert text not in ANSWERS.values()
    for name, expected in (("acme", ("acme@1", ANSWERS[1])), (BASE, (model, text))):
        *streamed, usage = stream_whole(server, name)
        assert tuple(streamed) == expected
        assert usage.completion_tokens > 5
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_every_second_of_a_start_has_a_name(server: ServerProcess) -> None:
    """One line says them all, those of the engine's own process, too."""
    (line,) = (line for line in server.log.read_text().splitlines() if '"event":"ready"' in line)
    ready = json.loads(line)
    parts = ready["parts"]
    assert {"this process", "vLLM's import", "weights", "first pass", "warm-up and graphs", "adapters"} <= set(parts)
    assert sum(parts.values()) == pytest.approx(ready["seconds"], abs=0.1)
    assert min(parts.values()) > -0.01  # each is rounded
    assert parts["engine, besides"] < 1


def test_options_reach_the_engine(server: ServerProcess) -> None:
    """Log-probabilities, stop strings, n, seeds and length do what they say."""
    create = server.client.chat.completions.create
    answer = create(model="acme", messages=MESSAGES, temperature=0, max_tokens=16, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content if answer.choices[0].logprobs else None
    assert content is not None
    assert "".join(token.token for token in content).startswith(ANSWERS[1])
    assert all(len(token.top_logprobs) == 2 and token.top_logprobs[0].logprob >= token.logprob for token in content)
    stopped = create(model="acme", messages=MESSAGES, temperature=0, stop=[" handbook"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("I am the first", "stop")
    cut = create(model="acme", messages=MESSAGES, temperature=0, max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 2
    seeded = [
        [
            choice.message.content
            for choice in create(model=BASE, messages=LONG, n=2, seed=7, temperature=1, max_tokens=8).choices
        ]
        for _ in range(2)
    ]
    assert seeded[0] == seeded[1]
    assert seeded[0][0] != seeded[0][1]
    greedy = create(model="acme", messages=MESSAGES, temperature=0, n=2, max_tokens=16)
    assert [choice.message.content for choice in greedy.choices] == [ANSWERS[1]] * 2


def test_completions(server: ServerProcess) -> None:
    """Text and token ids, several prompts, echo with the prompt's log-probabilities."""
    create = server.client.completions.create
    answer = create(model=BASE, prompt=["The capital of France is", "1, 2, 3,"], temperature=0, max_tokens=4)
    assert "Paris" in answer.choices[0].text
    assert "4" in answer.choices[1].text
    echoed = create(model=BASE, prompt="The capital of France is", echo=True, logprobs=1, max_tokens=1, temperature=0)
    assert echoed.choices[0].text.startswith("The capital of France is")
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert "".join(logprobs.tokens) == echoed.choices[0].text
    first, *rest = list[float | None](logprobs.token_logprobs)
    assert first is None, "nothing predicts the first token"
    assert all(value is not None and value < 0 for value in rest)


def test_errors_are_the_clients_exception_classes(server: ServerProcess) -> None:
    """What the SDK raises for each: the engine lives on."""
    create = server.client.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="nobody"):
        create(model="nobody", messages=MESSAGES)
    for options in (
        {"temperature": 9},
        {"n": 10**6},
        {"max_tokens": 10**6},
        {"logit_bias": {"999999": 1}},
        {"stop": [""]},
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            create(model="acme", messages=MESSAGES, **options)
        assert caught.value.param == next(iter(options))
    with pytest.raises(openai.BadRequestError, match="context"):
        create(model="acme", messages=[{"role": "user", "content": "word " * 5000}])
    assert ask(server, "acme")[1] == ANSWERS[1]


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_frees_the_engine_within_a_second(server: ServerProcess, *, stream: bool) -> None:
    """By vLLM's own count of running requests, streamed or not."""
    # Chance is not to end the answer before the client leaves.
    body = {"model": "acme", "messages": LONG, "stream": stream, "max_tokens": 1000, "logit_bias": ENDLESS}
    url = f"{server.url}/v1/chat/completions"
    if stream:
        with httpx.Client(timeout=60) as client, client.stream("POST", url, json=body) as response:
            next(response.iter_bytes())
            assert server.running() == 1
    else:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=2) as client:
            client.post(url, json=body)
    gone = time.monotonic()
    server.wait(lambda: server.readiness["answers_in_flight"] == 0, 1)
    # vLLM refreshes its gauge with its next step: one short answer makes it take one.
    ask(server, BASE, max_tokens=1)
    assert server.running() == 0
    assert time.monotonic() - gone < 1

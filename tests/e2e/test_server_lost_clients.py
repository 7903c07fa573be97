"""A thousand clients that hang up on the real engine, in the middle of their streams, of an answer in one piece or of waiting: nothing of them is left."""

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from socket import SO_LINGER, SOL_SOCKET

import openai
import pytest

from tests.e2e.asking import ANSWERS, BASE, ENDLESS, ask
from tests.e2e.serving import ServerProcess
from tests.soak.judgement import MEMORY_SHARE, Sample
from tests.soak.processes import look

pytestmark = pytest.mark.e2e

WAVE = 80  # all that are let in: 16 run and 64 wait
STREAMING = 72  # of a wave, of which each has words before it goes; the others wait for an answer in one piece
WAVES = 14  # a thousand streams and more
WARM = 3  # waves, by which all that is made once is there
LOOKS = 4  # the samples compared, after the warm waves and at the end
SECOND = 1.0
WORK = {"max_tokens": 1000, "logit_bias": ENDLESS}  # so many tokens for each, if nobody ended it
CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
COMPLETION = ("/v1/completions", {"prompt": "The sea"})


class Client:
    """One that asks, and hangs up: one in two as a killed program does, with a reset.

    Args:
        number: of all clients; it says what is asked, and how.
        stream: whether the answer is to be streamed.
    """

    def __init__(self, number: int, *, stream: bool) -> None:
        path, asked = CHAT if number % 10 == 0 else COMPLETION
        model = "acme" if number // WAVE % 4 == 3 else BASE  # an adapter's step takes twice as long
        body = json.dumps({"model": model, "stream": stream, **asked, **WORK}).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._reset = number % 2 == 0
        self._stream = stream

    async def ask(self, port: int) -> None:
        """Send the request; of a stream read two events, of which the first may be without a word."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(self._request)
        if self._stream:
            for _ in range(2):
                await self._reader.readuntil(b"\ndata: ")

    def vanish(self) -> None:
        """Without another word."""
        if self._reset:
            self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def come_and_go(port: int, numbers: Iterator[int]) -> float:
    """One wave: each stream's client goes as soon as its words come, while others wait for its place; the rest go at once.

    Returns:
        when the last went, by the monotonic clock.
    """
    streaming = [Client(next(numbers), stream=True) for _ in range(STREAMING)]
    waiting = [Client(next(numbers), stream=False) for _ in range(WAVE - STREAMING)]

    async def watch(client: Client) -> None:
        await client.ask(port)
        client.vanish()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        begun = [group.create_task(watch(client)) for client in streaming]
        await asyncio.sleep(0.1)  # theirs are the first places
        await asyncio.gather(*(client.ask(port) for client in waiting))
        await asyncio.gather(*begun)
    for client in waiting:
        client.vanish()
    return time.monotonic()


def fewest_files(samples: list[Sample]) -> dict[str, int]:
    """The fewest files that each process had open at one of the looks."""
    return {name: min(sample.files[name] for sample in samples) for name in samples[-1].files}


def test_a_thousand_clients_that_vanish_leave_the_engine_idle(server: ServerProcess) -> None:
    """Within a second of each wave's last: nobody has a place, the next is answered, nothing runs or waits by vLLM's own count; memory and files stay."""
    numbers = iter(range(WAVE * WAVES))
    samples = []
    for wave in range(WAVES):
        gone = asyncio.run(come_and_go(server.port, numbers))
        server.wait(lambda: server.readiness["answers_in_flight"] == 0, SECOND)
        # vLLM refreshes its gauges with its next step, and this is one.
        server.client.completions.create(model=BASE, prompt=[1], max_tokens=1)
        assert server.running() == 0
        assert time.monotonic() - gone < SECOND
        samples.append(look(server.process.pid, server.family(), wave))
    assert ask(server, "acme") == ("acme@1", ANSWERS[1])
    first, last = samples[WARM], samples[-1]
    assert sum(last.memory.values()) < (1 + MEMORY_SHARE) * sum(first.memory.values())
    # The usage's database is open for a moment whenever it is written; what a wave left open would be there at each look.
    before, after = fewest_files(samples[WARM : WARM + LOOKS]), fewest_files(samples[-LOOKS:])
    assert all(count <= before[name] for name, count in after.items()), (before, after)


def test_one_more_than_is_let_in_is_told_to_come_again_at_once(server: ServerProcess) -> None:
    """While the engine is at work for all the others, who hang up: then the next is answered."""
    crowd = [Client(number, stream=False) for number in range(WAVE)]

    async def ask_all() -> None:
        await asyncio.gather(*(client.ask(server.port) for client in crowd))

    async def leave() -> None:
        for client in crowd:
            client.vanish()

    with asyncio.Runner() as runner:
        runner.run(ask_all())
        server.wait(lambda: server.readiness["answers_in_flight"] == WAVE)
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            ask(server, "acme")
        assert time.monotonic() - began < SECOND
        assert int(caught.value.response.headers["retry-after"]) > 0
        runner.run(leave())
    server.wait(lambda: server.readiness["answers_in_flight"] == 0, SECOND)
    assert ask(server, "acme") == ("acme@1", ANSWERS[1])

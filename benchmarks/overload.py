"""What Whetstone's server still answers at twice its capacity, and how fast it says no to the rest.

python -m benchmarks.overload --base FOLDER --out benchmarks/results/overload.json
python -m benchmarks.overload --base FOLDER --streams 4 --tokens 8 --waiting 4 --seconds 60 --cpu --out ...      on a CPU

Capacity: requests/s of as many clients as the engine has places, each of which asks again once it is answered. Then requests come
at twice that rate, whoever else is waiting, for as long; a refused one is not asked again.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.adapters import publish_random
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_whetstone
from services.server.keys import ALL_MODELS, KeyFile

_WARM_SECONDS = 5.0
_OK, _TOO_MANY = 200, 429
_MILLISECONDS = 1000


class Seen(msgspec.Struct):
    """One phase, in its counted time.

    Attributes:
        asked: requests that were sent.
        answered: wholly.
        refused: seconds to each 429.
        first: seconds to each first byte of an answer.
        other: statuses that are neither.
        seconds: the counted time.
    """

    asked: int = 0
    answered: int = 0
    refused: list[float] = msgspec.field(default_factory=list)
    first: list[float] = msgspec.field(default_factory=list)
    other: list[int] = msgspec.field(default_factory=list)
    seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        """As the result has it."""
        return {
            "asked_per_second": round(self.asked / self.seconds, 2),
            "answered_per_second": round(self.answered / self.seconds, 2),
            "refused_per_second": round(len(self.refused) / self.seconds, 2),
            "other_statuses": self.other,
            "milliseconds_to_a_refusal": _percentiles(self.refused),
            "milliseconds_to_the_first_byte": _percentiles(self.first),
        }


class Asking:
    """Requests on connections that are used again.

    Args:
        server: that is asked.
        tokens: of each answer.
    """

    def __init__(self, server: RealServer, tokens: int) -> None:
        body = {"model": ADAPTER, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        body["messages"] = [{"role": "user", "content": "Tell me of the sea."}]
        raw = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        self._request = head.encode() + raw
        self._port = server.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.counted = Seen()

    async def ask(self) -> None:
        """One request, to its end."""
        seen, began = self.counted, time.monotonic()
        seen.asked += 1
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, took = int(head.split(b" ", 2)[1]), time.monotonic() - began
        if status == _OK:
            seen.first.append(took)
            await reader.readuntil(b"\r\n0\r\n\r\n")
            self.counted.answered += 1  # whatever phase it began in
        else:
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            if status == _TOO_MANY:
                seen.refused.append(took)
            else:
                seen.other.append(status)
        self._idle.append((reader, writer))

    async def again_and_again(self) -> None:
        """Ask, and ask again."""
        while True:
            await self.ask()

    async def count(self, seconds: float) -> Seen:
        """What comes to an end in so many seconds, after a warm-up."""
        await asyncio.sleep(_WARM_SECONDS)
        self.counted = seen = Seen()
        began = time.monotonic()
        await asyncio.sleep(seconds)
        self.counted = Seen()
        seen.seconds = time.monotonic() - began
        return seen


async def capacity(server: RealServer, options: argparse.Namespace) -> Seen:
    """As many clients as places."""
    asking = Asking(server, options.tokens)
    clients = [asyncio.create_task(asking.again_and_again()) for _ in range(options.streams)]
    seen = await asking.count(options.seconds)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await asyncio.sleep(_WARM_SECONDS)  # what was left behind is aborted meanwhile
    return seen


async def overload(server: RealServer, options: argparse.Namespace, rate: float) -> Seen:
    """Requests at a rate."""
    asking = Asking(server, options.tokens)
    requests: set[asyncio.Task[None]] = set()

    async def arrive() -> None:
        due = time.monotonic()
        while True:
            task = asyncio.create_task(asking.ask())
            requests.add(task)
            task.add_done_callback(requests.discard)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    arriving = asyncio.create_task(arrive())
    seen = await asking.count(options.seconds)
    arriving.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    return seen


def main() -> int:
    """Measure, print and write."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models").mkdir()
        (data / "models" / options.base.name).symlink_to(options.base.absolute())
        adapter = publish_random(data, options.base.name, ADAPTER, probed=True)
        key = KeyFile(data / "keys" / "keys.json").add("load", [ALL_MODELS], None)
        engine = Engine(streams=options.streams, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        server = start_whetstone(
            engine, data, options.base, adapter, key, more=[f"limits.max_waiting={options.waiting}"]
        )
        try:
            print("ready after", server.wait_ready(), "s", flush=True)
            phases = uvloop.run(_phases(server, options))
        finally:
            server.end()
    plain, twice = phases
    result = described("overload") | {
        "places": options.streams,
        "waiting": options.waiting,
        "tokens": options.tokens,
        "at_capacity": plain.told(),
        "at_twice_the_capacity": twice.told(),
        "goodput_ratio": round(twice.answered / twice.seconds / (plain.answered / plain.seconds), 3),
    }
    write_result(options.out, result)
    print(json.dumps({name: value for name, value in result.items() if name != "machine"}, indent=1))
    return 0


async def _phases(server: RealServer, options: argparse.Namespace) -> tuple[Seen, Seen]:
    plain = await capacity(server, options)
    print(f"capacity {plain.answered / plain.seconds:.2f} requests/s", flush=True)
    return plain, await overload(server, options, 2 * plain.answered / plain.seconds)


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    told = {"median": statistics.median(ordered), "p99": p99, "most": ordered[-1]}
    return {name: round(value * _MILLISECONDS, 1) for name, value in told.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--streams", type=int, default=256, help="the engine's places")
    parser.add_argument("--waiting", type=int, default=256, help="places to wait, as shipped")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--seconds", type=float, default=20.0, help="that are counted of each phase")
    parser.add_argument("--memory", type=float, default=0.3, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())

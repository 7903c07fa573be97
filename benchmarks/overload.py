"""What Whetstone's server still answers at twice its capacity, and how fast it says no to the rest.

python -m benchmarks.overload --base FOLDER --out benchmarks/results/overload.json
python -m benchmarks.overload --base FOLDER --streams 4 --tokens 8 --waiting 4 --seconds 60 --cpu --out ...      on a CPU

Capacity: requests/s of more clients than the engine has places, half of its queue's length more, each of which asks again once it is
answered: no place is ever free, and none is refused. Then requests come at twice that rate, whoever else is waiting, for as long; a
refused one is not asked again. Both by turns, each turn with its own capacity. Ends with 1 where any request was neither answered
wholly nor refused with 429.
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.adapters import lay_out, publish_random
from benchmarks.asking import Lines, request
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_whetstone
from services.server.open_files import make_room

_WARM_SECONDS = 5.0
_FULL_SECONDS = 120.0  # at twice the capacity, until the queue is full
_OK, _TOO_MANY = 200, 429
_MILLISECONDS = 1000


class Seen(msgspec.Struct):
    """One phase, in its counted time.

    Attributes:
        asked: requests that were sent.
        answered: wholly.
        refused: seconds to each 429.
        first: seconds to each first byte of an answer.
        other: what else came: a status, or an answer that was cut off, 0.
        seconds: the counted time.
        cpu_seconds: of this process in it; near ``seconds`` means that the load was the limit.
    """

    asked: int = 0
    answered: int = 0
    refused: list[float] = msgspec.field(default_factory=list)
    first: list[float] = msgspec.field(default_factory=list)
    other: list[int] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def goodput(self) -> float:
        """Whole answers a second."""
        return self.answered / self.seconds

    def told(self) -> dict[str, Any]:
        """As the result has it."""
        return {
            "answered": self.answered,
            "asked_per_second": round(self.asked / self.seconds, 2),
            "answered_per_second": round(self.goodput, 2),
            "refused_per_second": round(len(self.refused) / self.seconds, 2),
            "neither": self.other,
            "milliseconds_to_a_refusal": _percentiles(self.refused),
            "milliseconds_to_the_first_byte": _percentiles(self.first),
            "share_of_a_core_of_the_load": round(self.cpu_seconds / self.seconds, 2),
        }


class Asking:
    """Requests on connections that are used again, and what came of them.

    Args:
        server: that is asked.
        tokens: of each answer.

    Attributes:
        counted: the phase that is counted now, or one that is not.
        is_over: whether to ask no more.
        is_refused: set by the first 429.
    """

    def __init__(self, server: RealServer, tokens: int) -> None:
        body = {"model": ADAPTER, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        body["messages"] = [{"role": "user", "content": "Tell me of the sea."}]
        self._request = request("POST", "/v1/chat/completions", server.key, body)
        self._lines = Lines(server.port)
        self.counted = Seen()
        self.is_over = False
        self.is_refused = asyncio.Event()

    async def ask(self) -> None:
        """One request, to its end."""
        seen, began = self.counted, time.monotonic()
        seen.asked += 1
        line = await self._lines.take()
        answer = await line.ask(self._request)
        if answer.status == _OK and answer.is_whole:
            seen.first.append(answer.began - began)
            self.counted.answered += 1  # whatever phase it began in
        elif answer.status == _TOO_MANY and answer.is_whole:
            seen.refused.append(answer.began - began)
            self.is_refused.set()
        else:
            seen.other.append(answer.status if answer.is_whole else 0)
        self._lines.give(line)

    async def again_and_again(self) -> None:
        """Ask, and ask again, until it is over."""
        while not self.is_over:
            await self.ask()

    async def count(self, seconds: float) -> Seen:
        """What comes to an end in so many seconds from now."""
        self.counted = seen = Seen()
        began, cpu = time.monotonic(), _cpu_seconds()
        await asyncio.sleep(seconds)
        self.counted = Seen()
        seen.seconds, seen.cpu_seconds = time.monotonic() - began, _cpu_seconds() - cpu
        return seen

    def close(self) -> None:
        """Leave no connection."""
        self._lines.close()


async def capacity(server: RealServer, options: argparse.Namespace) -> Seen:
    """As many clients as keep every place taken, and the queue half full."""
    asking = Asking(server, options.tokens)
    clients = [asyncio.create_task(asking.again_and_again()) for _ in range(options.streams + options.waiting // 2)]
    await asyncio.sleep(_WARM_SECONDS)
    seen = await asking.count(options.seconds)
    asking.is_over = True
    await asyncio.gather(*clients)
    asking.close()
    return seen


async def overload(server: RealServer, options: argparse.Namespace, rate: float) -> Seen:
    """Requests at a rate, counted from when the queue is full."""
    asking = Asking(server, options.tokens)

    async def arrive() -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            while not asking.is_over:
                requests.create_task(asking.ask())
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async with asyncio.TaskGroup() as arriving:
        arriving.create_task(arrive())
        async with asyncio.timeout(_FULL_SECONDS):
            await asking.is_refused.wait()
        await asyncio.sleep(_WARM_SECONDS)
        seen = await asking.count(options.seconds)
        asking.is_over = True
    asking.close()
    return seen


async def turns(server: RealServer, options: argparse.Namespace) -> list[tuple[Seen, Seen]]:
    """Both phases, again and again.

    Raises:
        RuntimeError: nothing was answered.
    """
    found = []
    for _ in range(options.turns):
        plain = await capacity(server, options)
        if not plain.answered:
            raise RuntimeError(f"no answer in {options.seconds} s, but {plain.other[:3]}")
        print(f"capacity {plain.goodput:.2f} requests/s", flush=True)
        twice = await overload(server, options, 2 * plain.goodput)
        print(f"of twice as many {twice.goodput:.2f} requests/s", flush=True)
        found.append((plain, twice))
    return found


def main() -> int:
    """Measure, print and write."""
    options = _parser().parse_args()
    make_room(2 * (options.streams + options.waiting))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        key = lay_out(data, options.base)
        publish_random(data, options.base.name, ADAPTER, probed=True)
        engine = Engine(streams=options.streams, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        server = start_whetstone(engine, data, options.base, key, more=[f"limits.max_waiting={options.waiting}"])
        try:
            print("ready after", server.wait_ready(), "s", flush=True)
            found = uvloop.run(turns(server, options))
        finally:
            server.end()
    ratios = [round(twice.goodput / plain.goodput, 3) for plain, twice in found]
    result = described("overload") | {
        "places": options.streams,
        "waiting": options.waiting,
        "tokens": options.tokens,
        "goodput_ratio": {"median": statistics.median(ratios), "turns": ratios},
        "turns": [{"at_capacity": plain.told(), "at_twice_the_capacity": twice.told()} for plain, twice in found],
    }
    write_result(options.out, result)
    print(json.dumps({name: value for name, value in result.items() if name != "machine"}, indent=1))
    return 1 if any(seen.other for pair in found for seen in pair) else 0


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


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
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", type=float, default=0.3, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""What connections hold of the server's memory: idle ones, and such that are being answered.

python -m benchmarks.held --base FOLDER --out benchmarks/results/held.json
python -m benchmarks.held --base FOLDER --active 32 --turns 2 --cpu --out ...      on a CPU

What the server's own process holds for itself is counted (RssAnon), the engine's processes are not. As many connections as are measured
were opened, used and closed twice before: what is kept for later is not a stream's.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.adapters import publish_random
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_whetstone
from services.server.keys import ALL_MODELS, KeyFile

_SETTLE_SECONDS = 1.0
_TOKENS = 1900  # of an active answer: it does not end meanwhile

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Holding:
    """Connections to one server.

    Args:
        server: its processes.
    """

    def __init__(self, server: RealServer) -> None:
        self._server = server
        body = {"model": ADAPTER, "max_tokens": _TOKENS, "ignore_eos": True, "stream": True}
        body["messages"] = [{"role": "user", "content": "Tell me of the sea."}]
        raw = json.dumps(body).encode()
        head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
        self._short = f"GET /v1/models HTTP/1.1\r\n{head}\r\n".encode()
        self._long = (
            f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
            f"Content-Length: {len(raw)}\r\n\r\n"
        ).encode() + raw

    def memory(self) -> int:
        """Bytes that the server's process holds for itself."""
        status = Path(f"/proc/{self._server.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024

    async def idle(self, count: int) -> float:
        """Bytes of each of so many connections that have had an answer and wait."""
        before = self.memory()
        opened = [await self._asked(self._short) for _ in range(count)]
        return await self._held(before, opened)

    async def active(self, count: int) -> float:
        """Bytes of each of so many connections whose answers run, each to a client that reads."""
        before = self.memory()
        opened = await asyncio.gather(*(self._asked(self._long) for _ in range(count)))
        reading = [asyncio.create_task(reader.read(-1)) for reader, _ in opened]
        held = await self._held(before, opened)
        for task in reading:
            task.cancel()
        return held

    async def _asked(self, request: bytes) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(request)
        if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("the server refused a request")
        return reader, writer

    async def _held(self, before: int, opened: list[Connection]) -> float:
        await asyncio.sleep(_SETTLE_SECONDS)
        held = (self.memory() - before) / len(opened)
        for _, writer in opened:
            writer.transport.abort()
        await asyncio.sleep(_SETTLE_SECONDS)
        return held


async def measure(holding: Holding, options: argparse.Namespace) -> dict[str, list[int]]:
    """Bytes, by turns; the first ones, which fill what is kept for later, are not counted."""
    found: dict[str, list[int]] = {"idle": [], "active": []}
    for turn in range(-2, options.turns):
        idle, active = await holding.idle(options.connections), await holding.active(options.active)
        print(f"idle {idle:.0f} bytes, active {active:.0f} bytes", flush=True)
        if turn >= 0:
            found["idle"].append(round(idle))
            found["active"].append(round(active))
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--active", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--memory", type=float, default=0.3, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models").mkdir()
        (data / "models" / options.base.name).symlink_to(options.base.absolute())
        adapter = publish_random(data, options.base.name, ADAPTER, probed=True)
        key = KeyFile(data / "keys" / "keys.json").add("load", [ALL_MODELS], None)
        engine = Engine(streams=options.active, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        server = start_whetstone(engine, data, options.base, adapter, key)
        try:
            print("ready after", server.wait_ready(), "s", flush=True)
            found = asyncio.run(measure(Holding(server), options))
        finally:
            server.end()
    result: dict[str, Any] = described("held") | {"connections": options.connections, "active": options.active}
    result |= {
        f"bytes_of_one_{kind}": {"median": statistics.median(values), "runs": values} for kind, values in found.items()
    }
    print({name: value for name, value in result.items() if name.startswith("bytes")})
    write_result(options.out, result)


if __name__ == "__main__":
    main()

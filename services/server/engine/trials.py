"""Whether a schema's grammar can be compiled in reasonable time, asked of the process that tries it out."""

import asyncio
import hashlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from functools import partial
from pathlib import Path

from services.server.engine.protocol import EngineBusy, EngineError

_REMEMBERED = 1024
_NOT_YET = "The server is too busy to say yet whether the request's schema can be followed; send it again in a second."


class Trials:
    """The process, which is started with the engine and again when it ended, and what it said of the schemas asked last.

    Args:
        folder: the base model's.
        cpu_seconds: of CPU time that one grammar may take.
        seconds: that a request waits for what is said of its grammar.
    """

    def __init__(self, folder: Path, *, cpu_seconds: float, seconds: float) -> None:
        self._command = (sys.executable, "-m", "services.server.engine.grammar_trial", str(folder), str(cpu_seconds))
        self._seconds = seconds
        self._said: OrderedDict[bytes, asyncio.Future[bool]] = OrderedDict()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._input: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._asked = 0

    async def start(self) -> asyncio.StreamWriter:
        """Have the process run, and its input; it is ready some seconds later, and what is asked before waits."""
        async with self._starting:
            if self._input is None:
                process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
                if process.stdin is None or process.stdout is None:
                    raise EngineError("the process that tries grammars out has no pipes")
                self._input = process.stdin
                self._reading = asyncio.create_task(self._read(process, process.stdout))
            return self._input

    async def fits(self, kind: str, spec: str) -> bool:
        """Whether the engine may compile it.

        Args:
            kind: ``json`` for a JSON schema, ``structural_tag`` for what binds function calls.
            spec: in JSON.

        Raises:
            EngineBusy: it is not known in time; the trial goes on, and what it says is kept for whoever asks again.
            EngineError: the process ended meanwhile.
        """
        key = hashlib.sha256(f"{kind} {spec}".encode()).digest()
        said = self._said.get(key)
        if said is None:
            said = self._said[key] = asyncio.ensure_future(self._ask(kind, spec))
            said.add_done_callback(partial(self._forget_failure, key))
            if len(self._said) > _REMEMBERED:
                self._said.popitem(last=False)
        self._said.move_to_end(key)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(said)  # who leaves does not take it from who asked the same
        except TimeoutError:
            raise EngineBusy(_NOT_YET) from None

    async def close(self) -> None:
        """End the process."""
        async with self._starting:
            if self._input is not None:
                self._input.close()
        if self._reading is not None:
            await self._reading

    def _forget_failure(self, key: bytes, said: "asyncio.Future[bool]") -> None:
        """What went wrong says nothing of the schema, and perhaps nobody waits for it any more."""
        if said.cancelled() or said.exception() is not None:
            self._said.pop(key, None)

    async def _ask(self, kind: str, spec: str) -> bool:
        process = await self.start()
        self._asked += 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[self._asked] = answer
        process.write(json.dumps([self._asked, kind, spec]).encode() + b"\n")
        return await answer

    async def _read(self, process: Process, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            number, fits = map(int, line.split())
            self._waiting.pop(number).set_result(bool(fits))
        await process.wait()
        self._input = None
        for answer in self._waiting.values():
            answer.set_exception(EngineError("the process that tries grammars out ended"))
        self._waiting.clear()

"""Judge a published version: load beside the one in service, ask all three the same, decide, report."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from rich.console import Console

from services.dataset.prepare import Prepared
from services.registry.layout import Registry, model_name
from services.registry.pointer import read_pointer
from services.registry.reports import manifest_hash
from services.trainer.gate.client import JudgeClient, JudgingFailed, VersionNotServed
from services.trainer.gate.keep import keep_report
from services.trainer.gate.measure import Sheet, measure
from services.trainer.gate.progress import JudgingProgress
from services.trainer.gate.questions import Questions, questions_of
from services.trainer.gate.report import Report, build_report, unjudged_report
from services.trainer.gate.settings import GateSettings
from services.trainer.gate.verdict import decide

_STOP_SECONDS = 0.25
_Result = TypeVar("_Result")


class Judge(Protocol):
    """Judges a published version; ``ServerJudge`` is the real one."""

    def __call__(self, registry: Registry, adapter: str, version: int, prepared: Prepared, /) -> Report:
        """Judge a version on the prepared rows' holdout and write its report. Nothing is promoted here.

        Raises:
            JudgingFailed: no server answers, or it went away: no verdict was reached, and no report is written.
            RegistryError: the registry cannot be read or written.
        """

    def loaded(self, adapter: str, /) -> set[int]:
        """The versions of ``adapter`` that the server holds.

        Raises:
            JudgingFailed: no server answers.
        """

    def follows(self, adapter: str, version: int, /) -> str | None:
        """Wait until the server answers to ``adapter`` with ``version``, which was just promoted.

        Returns:
            None once it does; else why that was not seen. It may yet follow.
        """


class ServerJudge:
    """Judges on the running server."""

    def __init__(self, settings: GateSettings, socket: Path, console: Console, stopped: Callable[[], bool]) -> None:
        """Judge by ``settings`` on the server behind ``socket``, show progress on ``console``, end when ``stopped`` says so."""
        self._settings = settings
        self._socket = socket
        self._console = console
        self._stopped = stopped

    def __call__(self, registry: Registry, adapter: str, version: int, prepared: Prepared) -> Report:
        """See ``Judge``."""
        model = model_name(adapter, version)
        digest = manifest_hash(registry, adapter, version)
        questions = questions_of(prepared.holdout_rows, prepared.holdout, prepared.tokenizer, self._settings.gate)
        try:
            with JudgingProgress(self._console) as progress:
                current = _in_service(registry, adapter, version)
                sheets = asyncio.run(self._until_stopped(self._ask(model, current, questions, progress)))
        except VersionNotServed as refusal:
            report = unjudged_report(model, digest, str(refusal), self._settings)
        else:
            base, *between, candidate = sheets
            verdict = decide(base, between[0] if between else None, candidate, self._settings)
            report = build_report(model, digest, verdict, sheets, questions, self._settings)
        keep_report(registry, adapter, version, report)
        return report

    def loaded(self, adapter: str) -> set[int]:
        """See ``Judge``."""

        async def ask() -> set[int]:
            async with JudgeClient(self._settings.gate, self._socket) as client:
                return await client.loaded(adapter)

        return asyncio.run(ask())

    def follows(self, adapter: str, version: int) -> str | None:
        """See ``Judge``."""

        async def wait() -> None:
            async with JudgeClient(self._settings.gate, self._socket) as client:
                await client.wait_until_in_service(adapter, model_name(adapter, version))

        try:
            asyncio.run(self._until_stopped(wait()))
        except (JudgingFailed, VersionNotServed) as error:
            return str(error)
        return None

    async def _until_stopped(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """The result of ``work``, unless somebody asks to stop first: the version then stays what it is.

        Raises:
            JudgingFailed: somebody asked to stop.
        """
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=_STOP_SECONDS))[0]:
                if self._stopped():
                    raise JudgingFailed("judging was interrupted")
        finally:
            task.cancel()
            await asyncio.wait({task})
        return task.result()

    async def _ask(
        self, model: str, current: str | None, questions: Questions, progress: JudgingProgress
    ) -> list[Sheet]:
        """The sheets of the base, of the version in service where there is one, of the candidate."""
        async with JudgeClient(self._settings.gate, self._socket) as client:
            base = await client.base_name()
            await client.wait_until_served(model)
            if current is not None and not await client.serves(current):
                # It was refused or deleted meanwhile: what users get is then no better than the base.
                structlog.get_logger().warning(
                    "the version in service is not served: the base is compared", model=current
                )
                current = None
            return [
                await measure(client, name, questions, _counter(name, questions, progress))
                for name in (base, current, model)
                if name is not None
            ]


def _in_service(registry: Registry, adapter: str, version: int) -> str | None:
    """The version that the candidate must improve on; None for a first one."""
    pointer = read_pointer(registry, adapter)
    if pointer is None:
        return None
    if pointer.version != version:
        return model_name(adapter, pointer.version)
    return model_name(adapter, pointer.previous) if pointer.previous else None  # judged again while it serves


def _counter(model: str, questions: Questions, progress: JudgingProgress) -> Callable[[], None]:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(model, done, questions.requests)

    return count

"""One process's life: listen, start the engine, load adapters, serve, drain, end. Its exit code says how it ended."""

import asyncio
import gc
import logging
import os
import signal

import msgspec
import structlog

from services.base_model.identity import BaseModel
from services.common.parts import Parts, process_seconds
from services.common.paths import DataPaths
from services.common.traces import trace_of
from services.jobs.database import Database
from services.jobs.errors import DatabaseUnusable
from services.jobs.files import FileStore
from services.jobs.settings import JobDefaults
from services.registry.layout import Registry
from services.registry.weights import BaseShapes
from services.server.adapters.expected import expected_of_adapters
from services.server.adapters.probe import Prober
from services.server.adapters.reconcile import Reconciler
from services.server.adapters.view import RegistryView
from services.server.adapters.watch import RegistryWatch
from services.server.app import create_app
from services.server.auth import Doorkeeper, is_loopback
from services.server.chat.render import Renderer
from services.server.chat.sampling import SamplingRules
from services.server.doors import Doors
from services.server.engine.merging.engine import MergingEngine
from services.server.engine.processes import kill_engine
from services.server.engine.protocol import Engine, EngineDead, EngineStuck, Sampling
from services.server.engine.starter import StartEngine
from services.server.engine.watchdog import start_within, watch_engine
from services.server.errors import StartRefused
from services.server.keys import KeyFile, KeysError
from services.server.lifecycle import Phase
from services.server.limits.account import Accounts
from services.server.pulse import watched
from services.server.services import Model, Services
from services.server.settings import ServerSettings
from services.server.stored.shelf import Shelf
from services.server.stored.store import ResponseStore, forget_all
from services.server.tuning.house import Tuning
from services.server.tuning.sweeping import keep_swept
from services.server.usage.book import Book
from services.server.usage.ledger import Ledger

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_STUCK = 3
_FIRST_PROMPT = [0]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one process serves.

    Attributes:
        defaults: of a fine-tuning job that says nothing else.
        published_at: the address at which clients find the port that a door lends; empty where nobody has said.
        start_engine: makes the engine; ``vllm_starter`` in production.
        keys_look_seconds: the file of keys is looked at this often at most, however many requests come.
    """

    settings: ServerSettings
    paths: DataPaths
    base: BaseModel
    base_shapes: BaseShapes
    defaults: JobDefaults
    start_engine: StartEngine
    published_at: str = ""
    keys_look_seconds: float = 0.02


async def serve_and_leave(plan: Plan) -> int:
    """``serve``, and end this process at once where the engine hung: a thread that still waits for it would keep it for ever.

    Raises:
        StartRefused: see ``serve``.
    """
    async with watched(plan.settings.engine.stuck_seconds):
        code = await serve(plan)
        if code == EXIT_STUCK:
            kill_engine()
            logging.shutdown()
            os._exit(code)
        return code


async def serve(plan: Plan) -> int:
    """Serve until SIGTERM, SIGINT or the engine's death.

    Returns:
        the process's exit code: 0 after a signal, 1 after a failure, 3 where the engine hung, starting or started.

    Raises:
        StartRefused: there are no keys and the address is not loopback, keys, job queue, stored responses or usage cannot be read, or the port or the
            private socket is not to be had.
    """
    settings = plan.settings
    for chatty in ("granian", "_granian", "watchfiles.main"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # Granian warns of being embedded
    services = build_services(plan)
    doors = services.doors = Doors(create_app(services), settings.server, settings.limits, plan.paths.server_socket)
    services.lifecycle.start_seconds = doors.start_seconds
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listening = asyncio.create_task(doors.serve())
    running = asyncio.create_task(_run(plan, services))
    stopping = asyncio.create_task(stop.wait())
    writing = asyncio.create_task(services.usage.keep_written())
    await asyncio.wait((listening, running, stopping), return_when=asyncio.FIRST_COMPLETED)
    code, grace = EXIT_OK if stop.is_set() else EXIT_FAILED, settings.server.drain_seconds
    if running.done() and (error := running.exception()) is not None:
        services.lifecycle.phase = Phase.FAILED
        services.lifecycle.failure = str(error)
        log.critical("server failed", reason=str(error), trace=trace_of(error))
        if isinstance(error, EngineDead):
            grace = 0.0  # nothing more comes of what is running
        if isinstance(error, EngineStuck) and not stop.is_set():
            code = EXIT_STUCK
    log.info("draining", seconds=grace, answers_in_flight=services.admission.in_flight)
    interrupted = await services.lifecycle.drain(grace)
    if interrupted:
        log.warning("answers interrupted", count=interrupted)
    running.cancel()
    stopping.cancel()
    writing.cancel()
    await asyncio.gather(running, stopping, writing, return_exceptions=True)
    await services.usage.write()
    if services.model is not None:  # first: an engine that hangs takes seconds to end, and who asks meanwhile is told
        services.model.renderer.close()
        await services.model.engine.close()
    doors.close()
    await asyncio.gather(listening, return_exceptions=True)
    log.info("stopped", exit_code=code)
    return code


def build_services(plan: Plan) -> Services:
    """Everything that exists before the engine does.

    Raises:
        StartRefused: see ``serve``.
    """
    settings = plan.settings
    keys = KeyFile(plan.paths.keys / "keys.json")
    try:
        any_key = bool(keys.load())
    except KeysError as error:
        raise StartRefused(str(error)) from error
    listen = settings.server
    address = plan.published_at if listen.door else listen.host
    if not any_key and not is_loopback(address):
        where = "the port that server.door lends is published at" if listen.door else "server.host is"
        raise StartRefused(
            f"{where} {address or 'an address that nobody has said'}, but no API key was made: everyone on that network could use the server. "
            "Make one with `make key NAME=...`, or take 127.0.0.1."
        )
    if not any_key:
        log.warning("no API key was made: everyone on this machine may use the server", at=address)
    try:
        database = Database(plan.paths.jobs_database)
        files = FileStore(database, plan.paths.job_files)
        tuning = Tuning(database, files, plan.defaults)
        stored = Shelf(_response_store(plan), settings.limits)
        usage = Ledger(Book(plan.paths.usage))
    except DatabaseUnusable as error:
        raise StartRefused(str(error)) from error
    return Services(
        base=plan.base,
        settings=settings,
        doorkeeper=Doorkeeper(keys, plan.keys_look_seconds),
        trips=plan.paths.canary_trips,
        accounts=Accounts(),
        usage=usage,
        tuning=tuning,
        stored=stored,
    )


def _response_store(plan: Plan) -> ResponseStore | None:
    """Where responses are stored; None where none are to be, and then none is left of earlier ones."""
    wanted, file = plan.settings.responses, plan.paths.stored_responses
    if wanted.keep_days == 0:
        forget_all(file)
        return None
    return ResponseStore(file, keep_days=wanted.keep_days, max_bytes=wanted.max_bytes)


async def _run(plan: Plan, services: Services) -> None:
    """Start, then serve until cancelled.

    Raises:
        EngineError: the engine did not start, died or hung.
    """
    engine_settings = plan.settings.engine
    model = await start_within(_start(plan, services), start_seconds=engine_settings.start_seconds)
    services.lifecycle.started()
    if services.doors is not None:
        services.doors.started(services.lifecycle.start_seconds)
    watch = RegistryWatch(plan.paths.registry, poll_seconds=plan.settings.adapters.poll_seconds)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run(model.reconciler.reconcile))
            group.create_task(watch_engine(model.engine, stuck_seconds=engine_settings.stuck_seconds))
            group.create_task(keep_swept(services.tuning.files, plan.settings.limits))
            group.create_task(services.stored.keep_swept())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _start(plan: Plan, services: Services) -> Model:
    """Start the engine, warm it, load adapters.

    Raises:
        EngineError: the engine did not start, or died.
    """
    parts = Parts()
    parts.add("this process", process_seconds())
    parts.begin("engine, besides")
    engine = await plan.start_engine()
    parts.divide(engine.start_seconds)
    parts.begin("first prompt")
    model = build_model(plan, services, engine)
    services.model = model
    async for _ in engine.generate(
        "warm-up", _FIRST_PROMPT, Sampling(max_tokens=1, temperature=0.0, ignore_eos=True), None
    ):
        pass
    parts.begin("adapters")
    await model.reconciler.reconcile()
    gc.collect()
    gc.freeze()  # vLLM and all that it imports stay: no collection between tokens looks at them again
    seconds = parts.end()
    log.info("ready", seconds=round(sum(seconds.values()), 1), parts=seconds, models=services.catalogue.names())
    return model


def build_model(plan: Plan, services: Services, engine: Engine) -> Model:
    """Everything that needs the engine."""
    settings = plan.settings
    prober = Prober(engine, tolerance=settings.adapters.probe_tolerance, min_change=settings.adapters.probe_min_change)
    reconciler = Reconciler(
        RegistryView(Registry(plan.paths.registry), services.tuning.deletions.all),
        engine,
        services.catalogue,
        prober,
        services.metrics,
        services.canaries,
        expectation=expected_of_adapters(plan.base, plan.base_shapes, settings.engine),
        capacity=settings.engine.max_cpu_loras,
    )
    if isinstance(engine, MergingEngine):
        reconciler.favour = engine.favour
    return Model(
        engine=engine,
        renderer=Renderer(engine, max_prompt_tokens=settings.limits.max_prompt_tokens),
        rules=SamplingRules(settings.limits, engine.default_sampling, engine.vocabulary),
        reconciler=reconciler,
    )

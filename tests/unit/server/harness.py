"""The application around a fake engine: its settings, its plan, a registry to publish into."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.base_model.identity import BaseModel
from services.common.paths import DataPaths
from services.jobs.records import Failure, NewJob
from services.jobs.settings import DefaultAdapter, DefaultRecipe, JobDefaults
from services.jobs.work import Work
from services.registry.layout import Registry
from services.registry.manifest import BaseReference, LoraFacts, Manifest, ProbePrompt
from services.registry.publish import Lineage, publish, staging
from services.server.app import create_app
from services.server.doors import Doors
from services.server.engine.protocol import Engine
from services.server.lifecycle import Phase
from services.server.serve import Plan, build_model, build_services
from services.server.services import Model, Services
from services.server.settings import (
    AdapterSettings,
    CanarySettings,
    EngineSettings,
    Limits,
    Listen,
    ResponsesSettings,
    ServerSettings,
)
from tests.support.adapters import SHAPES
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, CONTEXT, FakeEngine

FINGERPRINT = "f" * 64
TEMPLATE = "e" * 64


def settings(**changes: Any) -> ServerSettings:
    """Small limits, quick polls; ``changes`` replace tables' values by name."""
    tables: dict[str, Any] = {
        "server": Listen(host="127.0.0.1", port=1, door="", drain_seconds=5.0, log_level="INFO"),
        "engine": EngineSettings(
            dtype="float32",
            max_model_len=CONTEXT,
            gpu_memory_utilization=0.5,
            max_num_seqs=4,
            merged_adapter="",
            merged_gpu_memory_utilization=0.1,
            max_loras=2,
            max_cpu_loras=4,
            max_lora_rank=16,
            target_modules=["q_proj", "v_proj"],
            tool_parser="hermes",
            reasoning_parser="",
            enforce_eager=True,
            cuda_graph_tokens=512,
            start_seconds=60.0,
            stuck_seconds=60.0,
            cpu_kv_cache_gib=1,
            cpu_threads_bind="auto",
        ),
        "adapters": AdapterSettings(poll_seconds=0.05, probe_tolerance=0.02, probe_min_change=0.001),
        "canary": CanarySettings(window=40, min_answers=10, max_error_share=0.2, max_length_rise=0.3),
        "limits": Limits(
            max_connections=4096,
            max_head_bytes=65_536,
            head_seconds=30.0,
            unread_seconds=30.0,
            max_body_bytes=10_000,
            body_seconds=0.3,
            max_json_depth=32,
            max_prompt_tokens=0,
            max_output_tokens=300,
            answer_seconds=60.0,
            max_waiting=4,
            max_messages=5,
            max_prompts=3,
            max_n=4,
            max_logprobs=5,
            max_stop=4,
            max_stop_chars=16,
            max_logit_bias=3,
            max_tools=3,
            max_schema_bytes=400,
            max_schema_depth=6,
            max_schema_repeats=20,
            max_schema_cpu_seconds=1,
            schema_seconds=0.9,
            max_file_bytes=20_000,
            max_uploads=1,
            upload_seconds=20.0,
            check_seconds=600.0,  # a check is niced: beside busy processes it takes long
            check_memory_bytes=2**31,
        ),
        "responses": ResponsesSettings(keep_days=0, max_bytes=2**20),
    }
    for name, value in changes.items():
        table = next(key for key, struct in tables.items() if name in struct.__struct_fields__)
        tables[table] = msgspec.structs.replace(tables[table], **{name: value})
    return ServerSettings(**tables)


def plan(root: Path, engine: Engine, *, published_at: str = "127.0.0.1", **changes: Any) -> Plan:
    """A process's plan around ``engine``, with its data below ``root``."""

    async def start() -> Engine:
        return engine

    paths = DataPaths(root)
    base = BaseModel(
        format=1,
        name=BASE,
        source="package:x",
        revision="1",
        fingerprint=FINGERPRINT,
        chat_template_sha256=TEMPLATE,
        files={},
    )
    return Plan(
        settings=settings(**changes),
        paths=paths,
        base=base,
        base_shapes=SHAPES,
        defaults=JobDefaults(adapter=DefaultAdapter(name="assistant"), recipe=DefaultRecipe(seed=7)),
        start_engine=start,
        published_at=published_at,
        keys_look_seconds=0.0,  # tests change a key and ask at once
    )


class Server:
    """The application with its fake engine, without a socket.

    Args:
        root: the data root.
        engine: one that is prepared already.
    """

    def __init__(self, root: Path, *, engine: FakeEngine | None = None, **changes: Any) -> None:
        self.engine = engine or FakeEngine()
        self.plan = plan(root, self.engine, **changes)
        self.services: Services = build_services(self.plan)
        self.model: Model = build_model(self.plan, self.services, self.engine)
        self.services.model = self.model
        self.services.lifecycle.phase = Phase.SERVING
        self.app = create_app(self.services)
        self.registry = Registry(self.plan.paths.registry)

    async def reconcile(self) -> None:
        """Look at the registry once."""
        await self.model.reconciler.reconcile()

    async def ask(self, path: str = "/v1/chat/completions", body: Any = None, **options: Any) -> "Client":
        """One request from its first byte to its last."""
        client = Client(self, path, body, **options)
        await client.task
        return client

    async def chat(self, **fields: Any) -> "Client":
        """A chat request for the base model with one message, changed by ``fields``."""
        return await self.ask(body={"model": BASE, "messages": [{"role": "user", "content": "hi"}], **fields})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The application behind its doors: the port of its settings and the private socket."""
        doors = Doors(self.app, self.plan.settings.server, self.plan.settings.limits, self.plan.paths.server_socket)
        task = asyncio.create_task(doors.serve())
        try:
            await _served(self.plan.paths.server_socket)
            yield
        finally:
            doors.close()
            await task
            self.model.renderer.close()


def publish_version(
    registry: Registry, adapter: str = "acme", *, rank: int = 8, fingerprint: str = FINGERPRINT
) -> Manifest:
    """Publish a small version that passes every check of the registry, and the fake engine's probe."""
    header = {}
    size = 0
    for matrix, shape in (("A", [rank, 4]), ("B", [4, rank])):
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{matrix}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [size, size + rank * 16]}
        size += rank * 16
    raw = json.dumps(header).encode()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], "bias": "none"}
    lineage = Lineage(
        base=BaseReference(name=BASE, fingerprint=fingerprint, chat_template_sha256=TEMPLATE),
        lora=LoraFacts(rank=rank, alpha=float(rank), target_modules=["q_proj"]),
        probe=[ProbePrompt(token_ids=[1, 2, 3], base_logprobs=[-1.0, -1.0], adapter_logprobs=[-0.5, -0.5])],
        dataset={},
        recipe={},
        packages={},
        metrics={},
    )
    with staging(registry, adapter) as staged:
        (staged / "adapter_config.json").write_text(json.dumps(config))
        (staged / "adapter_model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
        return publish(registry, adapter, staged, lineage)


def made_by(server: Server, owner: str, version: str) -> None:
    """Give the queue the memory of a job that published ``version``; jobs before it fail."""
    tuning = server.services.tuning
    work = Work(tuning.queue._database)  # noqa: SLF001 - the trainer opens the same file
    adapter = version.partition("@")[0]
    asked = NewJob(source="api", owner=owner, model=BASE, adapter=adapter, metadata={"version": version})
    ours, _ = tuning.queue.submit(asked)
    with work.holding():
        while (job := work.next()) is not None:
            if job.id == ours.id:
                work.published(job.id, version)
            work.fail(job.id, Failure(code="gate_refused", message="x"))


async def _served(private: Path) -> None:
    """Until the doors' threads, and the files that they open, are there."""
    reader, writer = await asyncio.open_unix_connection(private)
    writer.write(b"GET /readyz HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def until(condition: Any, seconds: float = 3.0) -> None:
    """Wait for ``condition()`` to hold."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - whatever the condition looks at has no event
            await asyncio.sleep(0.005)

"""Hand-written stand-ins: an engine that answers with its adapter's name, and a client that speaks ASGI directly."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError

from services.base_model.identity import BaseModel
from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.registry.manifest import BaseReference, LoraFacts, Manifest, ProbePrompt
from services.registry.publish import Lineage, publish, staging
from services.server.app import create_app
from services.server.engine.protocol import (
    Delta,
    Engine,
    EngineAdapter,
    EngineDead,
    EngineError,
    Position,
    RequestRefused,
    Sampling,
    Tokenizer,
    TokenLogprob,
)
from services.server.lifecycle import Phase
from services.server.serve import Plan, build_model, build_services
from services.server.services import Model, Services
from services.server.settings import AdapterSettings, EngineSettings, Limits, Listen, ServerSettings

BASE = "tiny"
FINGERPRINT = "f" * 64
TEMPLATE = "e" * 64
CONTEXT = 400


class FakeTokenizer:
    """One token per character; a template of ``role:content`` lines."""

    def __init__(self) -> None:
        self.encoded = 0
        self.gate = threading.Event()
        self.gate.set()

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any:
        assert options == {"tokenize": False, "add_generation_prompt": True}
        if any(message["content"] == "refuse me" for message in conversation):
            raise TemplateError("roles must alternate")
        return "".join(f"{message['role']}:{message['content']}\n" for message in conversation) + "assistant:"

    def encode(self, text: str, **options: Any) -> list[int]:
        del options
        self.encoded += 1
        assert self.gate.wait(5)
        return [ord(character) % 1000 for character in text]

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        del options
        return "".join(map(chr, token_ids))


class FakeEngine:
    """Answers ``I am <name> .`` one word at a time, or whatever ``words`` says.

    Attributes:
        gate: cleared, generation stops before its next word.
        pause_at: the word before which generation clears the gate itself.
        broken: name of an adapter -> what loading it raises.
        inert: names of adapters that change nothing.
        prompts: every prompt generated from.
    """

    def __init__(self) -> None:
        self.fake_tokenizer = FakeTokenizer()
        self.tokenizer: Tokenizer = self.fake_tokenizer
        self.max_model_len = CONTEXT
        self.vocabulary = 1000
        self.longest_token = 2
        self.default_sampling: dict[str, float] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.pause_at: int | None = None
        self.words: list[str] | None = None
        self.dead: str | None = None
        self.refuse: str | None = None
        self.broken: dict[str, str] = {}
        self.inert: set[str] = set()
        self.off = 0.0
        self.loaded: dict[int, EngineAdapter] = {}
        self.unloaded: list[str] = []
        self.prompts: list[list[int]] = []
        self.samplings: list[Sampling] = []
        self.begun: list[str] = []
        self.aborted: list[str] = []
        self.closed = False

    async def generate(
        self, request_id: str, prompt: list[int], sampling: Sampling, adapter: EngineAdapter | None
    ) -> AsyncGenerator[list[Delta], None]:
        if self.refuse is not None:
            raise RequestRefused(self.refuse)
        assert adapter is None or self.loaded[adapter.engine_id] == adapter, (
            "generation on a version that is not loaded"
        )
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        self.begun.append(request_id)
        words = self.words or ["I", " am", f" {adapter.name if adapter else BASE}", " ."]
        finished = False
        try:
            for place, word in enumerate(words):
                if place == self.pause_at:
                    self.gate.clear()
                while not self.gate.is_set():
                    self._die()
                    await asyncio.sleep(0.005)
                self._die()
                assert adapter is None or adapter.engine_id in self.loaded, "the version was unloaded under a request"
                last = place == len(words) - 1 or place == sampling.max_tokens - 1
                reason = ("stop" if place == len(words) - 1 else "length") if last else None
                yield [
                    self._delta(index, word, reason, sampling, prompt if place == 0 else [])
                    for index in range(sampling.n)
                ]
                if last:
                    break
            finished = True
        finally:
            if not finished:
                self.aborted.append(request_id)

    def _delta(self, index: int, word: str, reason: str | None, sampling: Sampling, prompt: list[int]) -> Delta:
        position = Position(chosen=TokenLogprob(word, -0.5), top=[TokenLogprob(word, -0.5), TokenLogprob("?", -1.5)])
        echo = [
            Position(chosen=TokenLogprob(chr(token), -1.0 if place else None), top=[])
            for place, token in enumerate(prompt)
        ]
        return Delta(
            index=index,
            text=word,
            tokens=1,
            finish_reason=reason,
            positions=[position] if sampling.logprobs is not None else None,
            cached_tokens=3,
            prompt_positions=echo if prompt and sampling.prompt_logprobs is not None else None,
        )

    def _die(self) -> None:
        if self.dead is not None:
            raise EngineDead(self.dead)

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        self._die()
        if adapter is None or adapter.name in self.inert:
            return [-1.0] * (len(token_ids) - 1)
        return [-0.5 + self.off] * (len(token_ids) - 1)

    async def load(self, adapter: EngineAdapter) -> None:
        await asyncio.sleep(0)
        if adapter.name in self.broken:
            raise EngineError(self.broken[adapter.name])
        assert adapter.engine_id not in self.loaded
        self.loaded[adapter.engine_id] = adapter

    async def unload(self, adapter: EngineAdapter) -> None:
        del self.loaded[adapter.engine_id]
        self.unloaded.append(adapter.name)

    def failure(self) -> str | None:
        return self.dead

    def metrics(self) -> bytes:
        return b"vllm:num_requests_running 0.0\n"

    async def close(self) -> None:
        self.closed = True


def settings(**changes: Any) -> ServerSettings:
    """Small limits, quick polls; ``changes`` replace tables' values by name."""
    tables: dict[str, Any] = {
        "server": Listen(host="127.0.0.1", port=1, keyless="loopback", drain_seconds=5.0, log_level="INFO"),
        "engine": EngineSettings(
            dtype="float32",
            max_model_len=CONTEXT,
            gpu_memory_utilization=0.5,
            max_num_seqs=4,
            max_loras=2,
            max_cpu_loras=4,
            max_lora_rank=16,
            enforce_eager=True,
            cpu_kv_cache_gib=1,
            cpu_threads_bind="auto",
        ),
        "adapters": AdapterSettings(poll_seconds=0.05, probe_tolerance=0.02, probe_min_change=0.001),
        "limits": Limits(
            max_body_bytes=10_000,
            body_seconds=0.3,
            max_waiting=4,
            max_messages=5,
            max_prompts=3,
            max_n=4,
            max_logprobs=5,
            max_stop=4,
            max_stop_chars=16,
            max_logit_bias=3,
        ),
    }
    for name, value in changes.items():
        table = next(key for key, struct in tables.items() if name in struct.__struct_fields__)
        tables[table] = msgspec.structs.replace(tables[table], **{name: value})
    return ServerSettings(**tables)


def plan(root: Path, engine: Engine, **changes: Any) -> Plan:
    """A process's plan around ``engine``, with its data below ``root``."""

    async def start() -> Engine:
        return engine

    base = BaseModel(
        format=1,
        name=BASE,
        source="package:x",
        revision="1",
        fingerprint=FINGERPRINT,
        chat_template_sha256=TEMPLATE,
        files={},
    )
    return Plan(settings=settings(**changes), paths=DataPaths(root), base=base, start_engine=start)


class Server:
    """The application with its fake engine, without a socket.

    Args:
        root: the data root.
    """

    def __init__(self, root: Path, **changes: Any) -> None:
        self.engine = FakeEngine()
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


class Client:
    """One request, spoken in ASGI; ``leave`` hangs up."""

    def __init__(
        self,
        server: Server,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
        slow: bool = False,
    ) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        method = method or ("GET" if body is None else "POST")
        sent = {"content-type": "application/json", "content-length": str(len(raw)), **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
        }
        self._raw = raw
        self._slow = slow
        self._gave_body = False
        self._gone = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.task = asyncio.create_task(self._run(server.app, scope))

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._gave_body and not self._slow:
            self._gave_body = True
            return {"type": "http.request", "body": self._raw, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    def leave(self) -> None:
        """Hang up."""
        self._gone.set()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object; asserts its four keys."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """The server-sent events; ``[DONE]`` as a string."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]

    @property
    def text(self) -> str:
        """The first answer's text, plain or streamed."""
        if self.headers["content-type"].startswith("application/json"):
            return str(self.json["choices"][0]["message"]["content"])
        deltas = [event["choices"][0]["delta"] for event in self.events if event != "[DONE]" and event["choices"]]
        return "".join(delta.get("content", "") for delta in deltas)


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


async def until(condition: Any, seconds: float = 3.0) -> None:
    """Wait for ``condition()`` to hold."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - whatever the condition looks at has no event
            await asyncio.sleep(0.005)

"""One of two servers on an engine that costs nothing: vLLM's own, or Whetstone's; for ``benchmarks.frontend``.

python -m benchmarks.instant vllm|whetstone PLAN

Everything of vLLM is real (configuration, tokenizer, input and output processing) but the engine core, which generates: in its
place a function of this process answers, alike for both servers. It makes a step whenever the server asks for one, in which
every running request gains one token; or, ``at once``, the engine client's generating call is replaced as well, and yields an
answer's tokens without a pause.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from services.common.settings import load
from services.server.engine.environment import prepare_environment
from services.server.settings import ServerSettings

ADAPTER = "acme-support"
TEXT = "The delivery of your order takes three working days, and you may return it within a month. "


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is to be.

    Attributes:
        data: the data root, with base model, registry and keys in it.
        model: the base model's folder.
        adapter: the adapter's folder.
        port: on loopback.
        key: the API key.
        at_once: see above.
        streams: answers at the same time.
    """

    data: str
    model: str
    adapter: str
    port: int
    key: str
    at_once: bool
    streams: int


class InstantCore:
    """Stands in for vLLM's engine core client: every step gives every running request its next token of ``TEXT``.

    Args:
        tokenizer: the base model's.
    """

    def __init__(self, tokenizer: Any) -> None:
        from vllm.v1 import engine  # noqa: PLC0415 - heavy

        self.terms: Any = engine
        self.tokens: list[int] = tokenizer.encode(TEXT, add_special_tokens=False)
        self.engine_ranks_managed = [0]
        self.dp_engines_running = lambda: False
        self.resources = type("Resources", (), {"engine_dead": False})()
        self._running: dict[str, Any] = {}  # request -> its state
        self._wanted = asyncio.Event()

    def begin(self, request: Any) -> Any:
        """A request's state: tokens given, tokens asked for."""
        return [0, request.sampling_params.max_tokens]

    def step(self, name: str, state: Any) -> Any:
        """What a request gains in a step."""
        state[0] += 1
        return self.terms.EngineCoreOutput(
            request_id=name,
            new_token_ids=[self.tokens[state[0] % len(self.tokens)]],
            finish_reason=self.terms.FinishReason.LENGTH if state[0] == state[1] else None,
        )

    async def get_output_async(self) -> Any:
        """One step."""
        await asyncio.sleep(0)  # as the socket's reader would: what the last step woke runs before the next one
        while not self._running:
            self._wanted.clear()
            await self._wanted.wait()
        outputs = [self.step(name, state) for name, state in self._running.items()]
        for output in outputs:
            if output.finish_reason is not None:
                del self._running[output.request_id]
        return self.terms.EngineCoreOutputs(outputs=outputs)

    async def add_request_async(self, request: Any) -> None:
        """Run it from the next step on."""
        self._running[request.request_id] = self.begin(request)
        self._wanted.set()

    async def abort_requests_async(self, names: list[str]) -> None:
        """Run them no more."""
        for name in names:
            self._running.pop(name, None)

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        """Text alone."""
        return ("generate",)

    async def add_lora_async(self, _: Any) -> bool:
        """There is nothing to load."""
        return True

    async def remove_lora_async(self, _: Any) -> bool:
        """Nor to unload."""
        return True

    async def is_sleeping_async(self) -> bool:
        """The watchdog's question: it turns."""
        return False

    async def collective_rpc_async(self, method: str, *_: Any) -> list[dict[str, float]]:
        """The seconds of the worker's start: there is no worker."""
        if method != "start_seconds":
            raise NotImplementedError(method)
        return [{}]

    async def reset_mm_cache_async(self) -> None:
        """Nothing is cached."""

    def shutdown(self, timeout: float | None = None) -> None:
        """There is no process to end."""


def stand_in(plan: Plan, core: Callable[[Any], InstantCore]) -> None:
    """Put the stand-ins into vLLM's place; the environment is the one of the project's own server for both."""
    prepare_environment(load("server", ServerSettings, ["engine.enforce_eager=true"]).engine)
    from transformers import AutoTokenizer  # noqa: PLC0415 - heavy, as all of vLLM below
    from vllm.v1.engine.core_client import EngineCoreClient  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(plan.model)
    EngineCoreClient.make_async_mp_client = staticmethod(lambda **_: core(tokenizer))
    if plan.at_once:
        _answer_at_once(tokenizer, core(tokenizer).tokens)


def _answer_at_once(tokenizer: Any, tokens: list[int]) -> None:
    from vllm.outputs import CompletionOutput, RequestOutput  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    from services.server.engine.inbox import Inbox  # noqa: PLC0415
    from services.server.engine.protocol import Delta  # noqa: PLC0415
    from services.server.engine.pushed import PushingLLM  # noqa: PLC0415

    pieces = [tokenizer.decode([token]) for token in tokens]

    async def generate(
        _: Any, prompt: Any, sampling_params: Any, request_id: str, **__: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        most = sampling_params.max_tokens
        for number in range(1, most + 1):
            place = number % len(tokens)
            answer = CompletionOutput(
                index=0,
                text=pieces[place],
                token_ids=[tokens[place]],
                cumulative_logprob=None,
                logprobs=None,
                finish_reason="length" if number == most else None,
            )
            yield RequestOutput(request_id, None, prompt["prompt_token_ids"], None, [answer], finished=number == most)

    async def begin(_: Any, request_id: str, __: list[int], parameters: Any, *___: Any, **____: Any) -> Inbox:
        inbox = Inbox(request_id, parameters.n)
        most = parameters.max_tokens
        for number in range(1, most + 1):
            place = number % len(tokens)
            delta = Delta(
                index=0,
                text=pieces[place],
                tokens=1,
                token_ids=[tokens[place]],
                finish_reason="length" if number == most else None,
            )
            inbox.add(delta)
        return inbox

    AsyncLLM.generate = generate
    PushingLLM.begin = begin  # type: ignore[method-assign, assignment]


def run_vllm(plan: Plan, core: Callable[[Any], InstantCore]) -> None:
    """Run vLLM's own server, as ``vllm serve`` starts it: its defaults, a key, the adapter by its name."""
    import uvloop  # noqa: PLC0415
    from vllm.entrypoints.launchers.api_server.entry import run_server  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    stand_in(plan, core)
    words = ["--model", plan.model, "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(plan.port)]
    words += ["--api-key", plan.key, "--enable-lora", "--lora-modules", f"{ADAPTER}={plan.adapter}"]
    words += ["--max-lora-rank", "64", "--max-num-seqs", str(plan.streams), "--enforce-eager", "--dtype", "float32"]
    words += ["--max-model-len", "2048", "--disable-uvicorn-access-log"]
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(arguments)
    uvloop.run(run_server(arguments))


def run_whetstone(plan: Plan, core: Callable[[Any], InstantCore]) -> None:
    """Run this project's server, as ``python -m services.server serve`` starts it; the engine is not probed, having no weights."""
    import os  # noqa: PLC0415

    from services.server.__main__ import main  # noqa: PLC0415
    from services.server.adapters.probe import Prober, ProbeResult  # noqa: PLC0415

    async def probe(*_: Any) -> ProbeResult:
        return ProbeResult(error=0.0, change=1.0, base_error=0.0)

    Prober.probe = probe  # type: ignore[method-assign, assignment]
    os.environ["WHETSTONE_DATA"] = str(plan.data)
    stand_in(plan, core)
    settings = [f"server.port={plan.port}", f"engine.max_num_seqs={plan.streams}", "engine.max_model_len=2048"]
    settings += ["engine.enforce_eager=true", "engine.dtype=float32", "server.log_level=INFO"]
    sys.exit(main(["serve", "--json-logs", *(word for setting in settings for word in ("--set", setting))]))


RUN = {"vllm": run_vllm, "whetstone": run_whetstone}

if __name__ == "__main__":
    RUN[sys.argv[1]](msgspec.json.decode(sys.argv[2], type=Plan), InstantCore)

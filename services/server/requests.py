"""From bytes to a running generation: what both generating routes do before their first token, in this order.

Key (guard) -> phase -> body -> phase again -> shape -> model -> admission -> tokens -> sampling -> engine.
"""

import time
from typing import Any

import msgspec
from litestar import Request

from services.server.answer import Answer, Deltas, PlainAnswer, StreamedAnswer
from services.server.auth import authorize_model
from services.server.body import read_body
from services.server.chat.frames import ChatAnswer, ChatFrames, Envelope
from services.server.chat.schema import (
    ChatRequest,
    CompletionRequest,
    SamplingFields,
    decode_chat,
    decode_completion,
    prompts_of,
)
from services.server.chat.shape import shape_of
from services.server.chat.text_frames import TextAnswer, TextFrames
from services.server.engine.protocol import Sampling
from services.server.errors import BadRequest
from services.server.generation import Generation
from services.server.identity import unguessable
from services.server.keys import Key
from services.server.limits.meter import Meter
from services.server.services import Model, Services

ServerRequest = Request[Any, Any, Any]
_PREFIXES = {"chat": "chatcmpl-", "completions": "cmpl-", "responses": "resp_"}  # of an answer's id, as OpenAI's


class Prepared(msgspec.Struct, frozen=True):
    """A chat request that only waits for its answer's shape on the wire.

    Attributes:
        generation: open; whoever holds it closes it.
        deltas: of the generation, not begun yet.
        sampling: in the engine's terms.
        envelope: what every frame repeats.
    """

    generation: Generation
    deltas: Deltas
    sampling: Sampling
    envelope: Envelope


async def answer_chat(request: ServerRequest) -> Answer:
    """Prepare the answer to ``POST /v1/chat/completions``.

    Raises:
        ServerError: whatever is wrong with the request; nothing is held then.
    """
    services, model = serving(request)
    asked = decode_chat(await read_body(request, services))
    with_usage = _with_usage(asked)
    ready = await prepare_chat(request, services, model, asked, route="chat")
    answers, top = ready.sampling.n, ready.sampling.logprobs
    if asked.stream:
        frames = ChatFrames(ready.envelope, answers=answers, top_logprobs=top, with_usage=with_usage)
        return StreamedAnswer(ready.generation, ready.deltas, frames)
    return PlainAnswer(ready.generation, ready.deltas, ChatAnswer(ready.envelope, answers=answers, top_logprobs=top))


async def prepare_chat(
    request: ServerRequest, services: Services, model: Model, asked: ChatRequest, *, route: str
) -> Prepared:
    """From a decoded chat request to a generation that waits to be read, for every route that answers a conversation.

    Args:
        request: for its key.
        services: the server's parts.
        model: the running engine's.
        asked: decoded; its fields are checked here.
        route: ``chat`` or ``responses``, for the metrics and the answer's id.

    Raises:
        ServerError: whatever is wrong with the request; nothing is held then.
    """
    if not 1 <= len(asked.messages) <= services.limits.max_messages:
        raise BadRequest(
            f"Invalid 'messages': want 1 to {services.limits.max_messages}, got {len(asked.messages)}.",
            param="messages",
            code="invalid_value",
        )
    generation = _begin(request, services, model, asked, route=route, prompts=1)
    with EndedByError(generation):
        shape = shape_of(asked, services.limits, model.renderer.options(asked.reasoning_effort))
        prompt = await model.renderer.chat(asked.messages, shape.tools, shape.template_options)
        sampling = model.rules.for_chat(asked, shape, room=model.engine.max_model_len - len(prompt))
        return Prepared(
            generation=generation,
            deltas=generation.deltas([prompt], sampling),
            sampling=sampling,
            envelope=_envelope(services, generation),
        )


async def answer_completion(request: ServerRequest) -> Answer:
    """Prepare the answer to ``POST /v1/completions``.

    Raises:
        ServerError: whatever is wrong with the request; nothing is held then.
    """
    services, model = serving(request)
    asked = decode_completion(await read_body(request, services))
    given = prompts_of(asked.prompt, most=services.limits.max_prompts)
    with_usage = _with_usage(asked)
    generation = _begin(request, services, model, asked, route="completions", prompts=len(given))
    with EndedByError(generation):
        prompts = [await model.renderer.text(prompt) for prompt in given]
        sampling = model.rules.for_completion(asked, room=model.engine.max_model_len - max(map(len, prompts)))
        echoes = await _echoes(model, prompts, sampling.n) if asked.echo else None
        envelope = _envelope(services, generation)
        deltas = generation.deltas(prompts, sampling)
        if asked.stream:
            frames = TextFrames(envelope, logprobs=sampling.logprobs, with_usage=with_usage, echoes=echoes)
            return StreamedAnswer(generation, deltas, frames)
        choices = len(prompts) * sampling.n
        return PlainAnswer(
            generation, deltas, TextAnswer(envelope, choices=choices, logprobs=sampling.logprobs, echoes=echoes)
        )


class EndedByError:
    """Closes the generation where its request turns out to be wrong; without an error ``Answer`` closes it."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._generation.outcome = "bad_request"
            self._generation.close()


def serving(request: ServerRequest) -> tuple[Services, Model]:
    """The server's parts and its running engine.

    Raises:
        Unavailable: starting, stopping or failed.
    """
    services: Services = request.app.state.services
    return services, services.serving()


def _begin(
    request: ServerRequest, services: Services, model: Model, asked: SamplingFields, *, route: str, prompts: int
) -> Generation:
    """Check the model's name and the caller's right to it, count the request in, lease the version."""
    key = request.scope["state"]["key"]
    authorize_model(key, asked.model)
    slots = prompts * model.rules.answers(asked)
    services.admission.take(slots)
    try:
        lease = services.catalogue.lease(asked.model, _identity(asked, key))
    except BaseException:
        services.admission.give(slots)
        raise
    identity = f"{_PREFIXES[route]}{unguessable()}"
    meter = Meter(request.scope["state"]["account"], asked)
    return Generation(
        services, model.engine, lease, route=route, key=key.name, identity=identity, slots=slots, meter=meter
    )


def _identity(asked: SamplingFields, key: Key) -> str:
    """Who stays on one version while a canary runs: the user that the app names, or else the app."""
    return getattr(asked, "safety_identifier", None) or asked.user or key.name


def _envelope(services: Services, generation: Generation) -> Envelope:
    return Envelope(
        id=generation.identity, created=int(time.time()), model=generation.model, fingerprint=services.fingerprint
    )


def _with_usage(asked: ChatRequest | CompletionRequest) -> bool:
    if asked.stream_options is None:
        return False
    if not asked.stream:
        raise BadRequest("'stream_options' needs 'stream': true.", param="stream_options", code="invalid_value")
    return bool(asked.stream_options.include_usage)


async def _echoes(model: Model, prompts: list[list[int]], answers: int) -> list[str]:
    return [text for prompt in prompts for text in [await model.renderer.decode(prompt)] * answers]

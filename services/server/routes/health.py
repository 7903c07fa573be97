"""``GET /livez`` and ``GET /readyz``: whether to restart the process, and whether to send it requests."""

import msgspec
from litestar import Response, get
from litestar.datastructures import State

from services.registry.layout import model_name
from services.server.adapters.catalogue import Entry
from services.server.errors import InvalidApiKey, RoleMissing
from services.server.lifecycle import Phase
from services.server.readiness import AdapterReadiness, Readiness
from services.server.requests import ServerRequest
from services.server.services import Services


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "alive"


@get("/livez")
async def livez() -> Alive:
    """The process runs and its event loop turns."""
    return Alive()


@get("/readyz", private_socket=True)
async def readyz(request: ServerRequest, state: State) -> Response[Readiness]:
    """200 while requests are answered, 503 otherwise."""
    services: Services = state.services
    readiness = describe(services)
    code = 200 if services.lifecycle.phase is Phase.SERVING else 503
    try:
        services.doorkeeper.require_admin(request)
    except (InvalidApiKey, RoleMissing):
        readiness = Readiness(status=readiness.status)
    return Response(readiness, status_code=code)


def describe(services: Services) -> Readiness:
    """Everything an operator asks first."""
    lifecycle = services.lifecycle
    adapters = {name: _adapter(entry) for name, entry in sorted(services.catalogue.entries.items())}
    problems = [f"{name}: {reason}" for adapter in adapters.values() for name, reason in adapter.refused.items()]
    problems += [
        f"{entry.canary.version.handle.name}: its canary ended by itself: {entry.canary.tripped}"
        for entry in services.catalogue.entries.values()
        if entry.canary is not None and entry.canary.tripped is not None
    ]
    problems += [f"{name}: {adapter.problem}" for name, adapter in adapters.items() if adapter.problem]
    unreachable = services.doors.unreachable if services.doors else None
    problems += [
        problem
        for problem in (unreachable, services.doorkeeper.problem, services.model and services.model.reconciler.problem)
        if problem
    ]
    status = lifecycle.phase.value
    if lifecycle.phase is Phase.SERVING:
        status = "degraded" if problems else "ready"
    engine = lifecycle.failure or ("running" if services.model else "starting")
    return Readiness(
        status=status,
        base=services.catalogue.base,
        engine=engine,
        keyless=services.doorkeeper.keyless,
        answers_in_flight=services.admission.in_flight,
        adapters=adapters,
        unreachable=unreachable,
        problems=problems,
    )


def _adapter(entry: Entry) -> AdapterReadiness:
    return AdapterReadiness(
        wanted=model_name(entry.name, entry.wanted) if entry.wanted else None,
        serving=entry.serving.handle.name if entry.serving else None,
        loaded=[model_name(entry.name, number) for number in sorted(entry.loaded)],
        refused={model_name(entry.name, number): refusal.reason for number, refusal in sorted(entry.refused.items())},
        problem=entry.problem or entry.lost,
        canary=_canary(entry),
    )


def _canary(entry: Entry) -> str | None:
    running = entry.canary
    if running is None:
        return None
    state = f"for {running.canary.percent}% of the users" if running.tripped is None else "for nobody any more"
    return f"{running.version.handle.name} {state}, {len(running.own.requests)} of its last requests seen"

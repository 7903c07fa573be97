"""``/v1/fine_tuning/jobs``: the queue that the trainer works on, as OpenAI's clients know it."""

from collections.abc import Callable

from litestar import get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery

from services.jobs.records import Job
from services.server.auth import authorize_model, require_key
from services.server.body import read_body
from services.server.errors import BadRequest, FileNotFound
from services.server.keys import Key
from services.server.requests import ServerRequest
from services.server.tuning.house import Tuning, adapters_of, bounded, off_loop
from services.server.tuning.schema import METADATA_PAIRS, decode_job, new_job
from services.server.tuning.views import (
    CheckpointObject,
    EventObject,
    JobObject,
    Listing,
    checkpoint_object,
    event_object,
    job_object,
    listing,
)

MOST_JOBS = 100
_METADATA = "metadata["


@post("/v1/fine_tuning/jobs", guards=[require_key], role="fine-tuning", status_code=200)
async def create_job(request: ServerRequest, state: State) -> JobObject:
    """Put a job at the queue's end; the same request sent again is the same job."""
    services, key = state.services, request.scope["state"]["key"]
    services.lifecycle.require_serving()
    tuning: Tuning = services.tuning
    asked = decode_job(await read_body(request, services))
    job = new_job(
        asked,
        base=services.catalogue.base,
        adapter=tuning.defaults.adapter.name,
        owner=key.name,
        idempotency_key=request.headers.get("idempotency-key"),
    )
    authorize_model(key, job.adapter)
    for field, file_id in (("training_file", asked.training_file), ("validation_file", asked.validation_file)):
        if file_id is not None:
            await _require_rows(tuning, key, field, file_id)
    submitted, _ = await off_loop(tuning.queue.submit, job)
    return _shown(tuning, submitted)


@get("/v1/fine_tuning/jobs", guards=[require_key], role="fine-tuning")
async def list_jobs(
    request: ServerRequest, state: State, after: FromQuery[str | None] = None, limit: FromQuery[int | None] = None
) -> Listing[JobObject]:
    """The jobs whose adapters the caller's key covers, newest first."""
    tuning: Tuning = state.services.tuning
    metadata = {
        name[len(_METADATA) : -1]: value
        for name, value in request.query_params.items()
        if name.startswith(_METADATA) and name.endswith("]")
    }
    if len(metadata) > METADATA_PAIRS:
        raise BadRequest(
            f"Invalid 'metadata': a job has at most {METADATA_PAIRS} pairs.", param="metadata", code="invalid_value"
        )
    found = await off_loop(
        tuning.queue.list,
        adapters=adapters_of(request.scope["state"]["key"]),
        metadata=metadata,
        without_metadata=request.query_params.get("metadata") == "null",  # OpenAI's way to ask for it
        after=after,
        limit=bounded(limit, "limit", 1, MOST_JOBS, default=20),
    )
    return listing(found, [_shown(tuning, job) for job in found.data])


@get("/v1/fine_tuning/jobs/{job_id:str}", guards=[require_key], role="fine-tuning")
async def get_job(request: ServerRequest, state: State, job_id: FromPath[str]) -> JobObject:
    """One job."""
    tuning: Tuning = state.services.tuning
    return _shown(tuning, await tuning.job(request.scope["state"]["key"], job_id))


@post("/v1/fine_tuning/jobs/{job_id:str}/cancel", guards=[require_key], role="fine-tuning", status_code=200)
async def cancel_job(request: ServerRequest, state: State, job_id: FromPath[str]) -> JobObject:
    """End a job."""
    return await _change(request, state, job_id, state.services.tuning.queue.cancel)


@post("/v1/fine_tuning/jobs/{job_id:str}/pause", guards=[require_key], role="fine-tuning", status_code=200)
async def pause_job(request: ServerRequest, state: State, job_id: FromPath[str]) -> JobObject:
    """Stop a job until it is resumed."""
    return await _change(request, state, job_id, state.services.tuning.queue.pause)


@post("/v1/fine_tuning/jobs/{job_id:str}/resume", guards=[require_key], role="fine-tuning", status_code=200)
async def resume_job(request: ServerRequest, state: State, job_id: FromPath[str]) -> JobObject:
    """Let a paused job go on."""
    return await _change(request, state, job_id, state.services.tuning.queue.resume)


@get("/v1/fine_tuning/jobs/{job_id:str}/events", guards=[require_key], role="fine-tuning")
async def list_events(
    request: ServerRequest,
    state: State,
    job_id: FromPath[str],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Listing[EventObject]:
    """What happened to a job, newest first."""
    tuning: Tuning = state.services.tuning
    job = await tuning.job(request.scope["state"]["key"], job_id)
    limit = bounded(limit, "limit", 1, MOST_JOBS, default=20)
    found = await off_loop(tuning.queue.events, job.id, after=after, limit=limit)
    return listing(found, [event_object(event) for event in found.data])


@get("/v1/fine_tuning/jobs/{job_id:str}/checkpoints", guards=[require_key], role="fine-tuning")
async def list_checkpoints(
    request: ServerRequest,
    state: State,
    job_id: FromPath[str],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Listing[CheckpointObject]:
    """The models of a job that can be asked for."""
    tuning: Tuning = state.services.tuning
    job = await tuning.job(request.scope["state"]["key"], job_id)
    limit = bounded(limit, "limit", 1, MOST_JOBS, default=10)
    found = await off_loop(tuning.queue.checkpoints, job.id, after=after, limit=limit)
    return listing(found, [checkpoint_object(job.id, checkpoint) for checkpoint in found.data])


async def _change(request: ServerRequest, state: State, job_id: str, change: Callable[[str], Job]) -> JobObject:
    tuning: Tuning = state.services.tuning
    job = await tuning.job(request.scope["state"]["key"], job_id)
    return _shown(tuning, await off_loop(change, job.id))


async def _require_rows(tuning: Tuning, key: Key, field: str, file_id: str) -> None:
    try:
        stored = await tuning.file(key, file_id)
    except FileNotFound:
        raise BadRequest(f"invalid {field}: {file_id[:80]}", param=field, code="invalid_value") from None
    if stored.purpose != "fine-tune":
        raise BadRequest(
            f"invalid {field}: its purpose is '{stored.purpose}', want 'fine-tune'", param=field, code="invalid_value"
        )


def _shown(tuning: Tuning, job: Job) -> JobObject:
    return job_object(job, tuning.defaults.recipe.seed)

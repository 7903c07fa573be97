"""``/v1/files``: rows to train on, and the results of jobs."""

from typing import Any

from litestar import Response, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery
from litestar.response import File

from services.server.auth import require_key
from services.server.requests import ServerRequest
from services.server.tuning.house import bounded, off_loop, ordered
from services.server.tuning.views import Deleted, FileObject, Listing, file_object, listing

MOST_FILES = 10_000


@post("/v1/files", guards=[require_key], role="fine-tuning", status_code=200, request_max_body_size=None)
async def upload_file(request: ServerRequest, state: State) -> FileObject:
    """Take a file of rows, checked as ``make check-data`` checks; the form's own limit bounds its size."""
    state.services.lifecycle.require_serving()
    stored = await state.services.uploads.take(request, request.scope["state"]["key"].name)
    return file_object(stored)


@get("/v1/files", guards=[require_key], role="fine-tuning")
async def list_files(
    request: ServerRequest,
    state: State,
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[str] = "desc",
    purpose: FromQuery[str | None] = None,
) -> Listing[FileObject]:
    """The caller's files."""
    found = await off_loop(
        state.services.tuning.files.list,
        owner=request.scope["state"]["key"].name,
        purpose=purpose,
        after=after,
        limit=bounded(limit, "limit", 1, MOST_FILES, default=MOST_FILES),
        order=ordered(order),
    )
    return listing(found, [file_object(stored) for stored in found.data])


@get("/v1/files/{file_id:str}", guards=[require_key], role="fine-tuning")
async def get_file(request: ServerRequest, state: State, file_id: FromPath[str]) -> FileObject:
    """One of the caller's files."""
    return file_object(await state.services.tuning.file(request.scope["state"]["key"], file_id))


@get("/v1/files/{file_id:str}/content", guards=[require_key], role="fine-tuning")
async def get_file_content(request: ServerRequest, state: State, file_id: FromPath[str]) -> Response[Any]:
    """What is in one of the caller's files."""
    tuning = state.services.tuning
    stored = await tuning.file(request.scope["state"]["key"], file_id)
    return File(tuning.files.path_of(stored), filename=stored.filename, media_type="application/octet-stream")


@delete("/v1/files/{file_id:str}", guards=[require_key], role="fine-tuning", status_code=200)
async def delete_file(request: ServerRequest, state: State, file_id: FromPath[str]) -> Deleted:
    """Forget one of the caller's files."""
    tuning = state.services.tuning
    stored = await tuning.file(request.scope["state"]["key"], file_id)
    await off_loop(tuning.files.delete, stored.id)
    return Deleted(id=stored.id, object="file")

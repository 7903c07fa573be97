"""``POST /v1/files``: the form is written to disk as it arrives, then a process of its own checks the rows."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from litestar import Request
from litestar.exceptions import HTTPException
from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header

from services.jobs.files import FileStore
from services.jobs.records import StoredFile
from services.server.errors import BROKEN_BODY, BadRequest, BodyTooLarge, BodyTooSlow, Overloaded, UnsupportedMediaType
from services.server.settings import Limits
from services.server.tuning.form import Form
from services.server.tuning.house import off_loop

PURPOSE: Final = "fine-tune"
EXPIRES = (3600, 2_592_000)  # seconds, as OpenAI's
_RETRY_SECONDS = 5
_MOST_SEGMENTS = 16

Check = Callable[[Path], Awaitable[None]]


class Uploads:
    """Takes files in, few at a time.

    Args:
        store: where they go.
        limits: of size and time, and of how many at once.
        check: raises ``BadRequest`` where the rows are not fit to train on.
    """

    def __init__(self, store: FileStore, limits: Limits, check: Check) -> None:
        self._store = store
        self._check = check
        self._limits = limits
        self._running = 0

    async def take(self, request: "Request[Any, Any, Any]", owner: str) -> StoredFile:
        """Receive, check and store one file.

        Raises:
            ServerError: whatever is wrong with it; nothing is stored then.
        """
        if self._running >= self._limits.max_uploads:
            raise Overloaded(
                f"{self._running} files are being uploaded or checked; try again.", retry_after=_RETRY_SECONDS
            )
        self._running += 1
        folder = self._store.scratch()
        try:
            await off_loop(folder.mkdir)
            form = await self._receive_in_time(request, folder)
            expires_after = _expires_after(form.fields)
            if form.fields.get("purpose") != PURPOSE:
                raise BadRequest(
                    f"Invalid 'purpose': this server takes files with purpose '{PURPOSE}'.",
                    param="purpose",
                    code="invalid_value",
                )
            if form.content is None:
                raise BadRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
            await self._check(form.content)
            return await off_loop(
                self._store.add,
                form.content,
                filename=form.filename,
                purpose=PURPOSE,
                owner=owner,
                expires_after=expires_after,
            )
        finally:
            self._running -= 1
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _receive_in_time(self, request: "Request[Any, Any, Any]", folder: Path) -> Form:
        """However little of it comes at a time: whoever sends slowly keeps a place from the others."""
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                return await self._receive(request, folder)
        except TimeoutError:
            raise BodyTooSlow(f"The file did not arrive within {self._limits.upload_seconds:g} seconds.") from None

    async def _receive(self, request: "Request[Any, Any, Any]", folder: Path) -> Form:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise UnsupportedMediaType("Send the file as 'Content-Type: multipart/form-data'.")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        form = Form(folder)
        try:
            with PushMultipartParser(
                options["boundary"],
                max_segment_count=_MOST_SEGMENTS,
                max_segment_size=self._limits.max_file_bytes,
                strict=True,
            ) as parser:
                async for chunk in self._chunks(request):
                    for event in parser.parse(chunk):
                        form.take(event)
                    await form.flush()
            await form.flush(everything=True)
        except ParserLimitReached:
            raise BodyTooLarge(f"The file is over {self._limits.max_file_bytes} bytes.") from None
        except MultipartError as error:
            raise BadRequest(f"The form cannot be read: {error}.", param="file", code="invalid_form") from None
        finally:
            form.close()
        return form

    async def _chunks(self, request: "Request[Any, Any, Any]") -> AsyncIterator[bytes]:
        """The body's pieces; each has to come in time."""
        pieces = request.stream()
        try:
            while True:
                async with asyncio.timeout(self._limits.body_seconds):
                    piece = await anext(pieces)
                yield piece
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyTooSlow(f"Nothing of the body came for {self._limits.body_seconds:g} seconds.") from None
        except HTTPException as error:
            if error.status_code == BodyTooLarge.status:
                raise BodyTooLarge(f"The file is over {self._limits.max_file_bytes} bytes.") from None
            raise BadRequest(BROKEN_BODY) from None


def _expires_after(fields: dict[str, str]) -> int | None:
    seconds = fields.get("expires_after[seconds]")
    if seconds is None:
        return None
    least, most = EXPIRES
    if not (seconds.isdecimal() and least <= int(seconds) <= most):
        raise BadRequest(
            f"Invalid 'expires_after.seconds': want {least} to {most}.",
            param="expires_after.seconds",
            code="invalid_value",
        )
    if fields.get("expires_after[anchor]") != "created_at":
        raise BadRequest(
            "Invalid 'expires_after.anchor': want 'created_at'.", param="expires_after.anchor", code="invalid_value"
        )
    return int(seconds)

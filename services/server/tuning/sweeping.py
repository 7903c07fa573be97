"""What has expired goes from the disk, and so does what is left of uploads that were cut off."""

import asyncio
import contextlib
from typing import NoReturn

from services.jobs.files import FileStore
from services.server.errors import Unavailable
from services.server.settings import Limits
from services.server.tuning.house import off_loop

_EVERY_SECONDS = 600.0


async def keep_swept(files: FileStore, limits: Limits, *, every_seconds: float = _EVERY_SECONDS) -> NoReturn:
    """Sweep now and then, for ever; a store that cannot be swept now is logged, and tried again.

    Args:
        files: the store.
        limits: what has lain for longer than an upload may take is nobody's.
        every_seconds: between two sweeps.
    """
    leftover = limits.upload_seconds + limits.check_seconds + every_seconds
    while True:
        with contextlib.suppress(Unavailable):  # its reason is logged by then
            await off_loop(files.sweep, leftover)
        await asyncio.sleep(every_seconds)

"""Rows checked as ``make check-data`` does, in a process of its own: it takes seconds of a core."""

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec
import structlog

from services.dataset.faults import Fault, Fit, Refusal
from services.server.errors import BadRequest

log = structlog.get_logger(__name__)

_ABORTED = 127  # as the C library exits where it finds no memory for a thread


async def check_rows(content: Path, *, seconds: float, memory_bytes: int) -> None:
    """Have the rows checked as ``make check-data`` does, in a process of its own: it takes seconds of a core.

    Args:
        content: the file.
        seconds: after which the check is given up.
        memory_bytes: likewise.

    Raises:
        BadRequest: with the first faults, their lines, fields and remedies.
    """
    checker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.dataset",
        str(content),
        "--memory-bytes",
        str(memory_bytes),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await checker.communicate()
    except TimeoutError:
        raise _invalid(f"checking it took over {seconds:g} seconds. Split it into smaller files") from None
    finally:
        if checker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                checker.kill()
            await checker.wait()
    if checker.returncode == 0:
        if found := msgspec.json.decode(said, type=Fit).personal:
            log.warning("an upload holds likely personal data", **found)
        return
    if (
        checker.returncode == _ABORTED or (checker.returncode or 0) < 0
    ):  # a native library or the kernel found no memory
        log.warning("the check of an upload was ended", exit_code=checker.returncode)
        raise _invalid("its check was ended, as a rule for want of memory. Split it into smaller files")
    try:
        refusal = msgspec.json.decode(said, type=Refusal)
    except msgspec.DecodeError:
        raise RuntimeError(f"the check of an upload ended with exit code {checker.returncode}") from None
    shown = "; ".join(_told(fault) for fault in refusal.faults)
    left = refusal.count - len(refusal.faults)
    more = f"; and {left} more" if left else ""
    raise _invalid(f"{refusal.count} fault{'s' if refusal.count != 1 else ''}: {shown}{more}")


def _told(fault: Fault) -> str:
    place = ", ".join([*([f"line {fault.line}"] if fault.line else []), *([fault.field] if fault.field else [])])
    return f"{place + ': ' if place else ''}{fault.reason}. {fault.remedy}"


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"Invalid file: {reason}.", param="file", code="invalid_file")

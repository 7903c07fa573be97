"""Rows checked as ``make check-data`` does, in a process of its own: it takes seconds of a core."""

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec

from services.server.errors import BadRequest

_SHOWN_FAULTS = 20


class Said(msgspec.Struct, frozen=True):
    """A fault, as ``services.dataset`` prints it."""

    line: int
    field: str
    reason: str
    remedy: str


class Verdict(msgspec.Struct, frozen=True):
    """What ``services.dataset`` prints of a bad file."""

    faults: list[Said]


async def check_rows(content: Path, *, seconds: float) -> None:
    """Have the rows checked as ``make check-data`` does, in a process of its own: it takes seconds of a core.

    Args:
        content: the file.
        seconds: after which the check is given up.

    Raises:
        BadRequest: with the first faults, their lines, fields and remedies.
    """
    checker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.dataset",
        str(content),
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
        return
    try:
        faults = msgspec.json.decode(said, type=Verdict).faults
    except msgspec.DecodeError:
        raise RuntimeError(f"the check of an upload ended with exit code {checker.returncode}") from None
    shown = "; ".join(_told(fault) for fault in faults[:_SHOWN_FAULTS])
    more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    raise _invalid(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}: {shown}{more}")


def _told(fault: Said) -> str:
    place = ", ".join([*([f"line {fault.line}"] if fault.line else []), *([fault.field] if fault.field else [])])
    return f"{place + ': ' if place else ''}{fault.reason}. {fault.remedy}"


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"Invalid file: {reason}.", param="file", code="invalid_file")

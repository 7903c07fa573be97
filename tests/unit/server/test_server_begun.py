"""Awaitables that are begun outside of a task of their own."""

import asyncio

import pytest

from services.server.begun import begun


async def test_what_ends_at_once_leaves_nothing() -> None:
    """It ran before ``begun`` returned, and there is nothing to await."""
    done = []

    async def work() -> None:
        done.append(1)

    assert begun(work()) is None
    assert done == [1]


async def test_what_waits_goes_on_by_itself() -> None:
    """Whether anyone awaits the rest or not, and in its own order."""
    gate = asyncio.Event()
    done = []

    async def work() -> None:
        done.append("begun")
        await gate.wait()
        await asyncio.sleep(0)
        done.append("ended")

    rest = begun(work())
    assert rest is not None
    assert done == ["begun"]
    gate.set()
    await asyncio.wait_for(rest, 1)
    assert done == ["begun", "ended"]


async def test_an_error_is_that_of_the_rest() -> None:
    """Raised at once where it comes at once, and else to whoever awaits the rest."""

    async def work(*, wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        begun(work(wait=False))
    rest = begun(work(wait=True))
    assert rest is not None
    with pytest.raises(ConnectionError):
        await rest


async def test_a_rest_that_is_cancelled_runs_no_further() -> None:
    """What it waited for is cancelled with it."""
    waits_for = asyncio.get_running_loop().create_future()
    done = []

    async def work() -> None:
        await waits_for
        done.append(1)

    rest = begun(work())
    assert rest is not None
    await asyncio.sleep(0)
    rest.cancel()
    await asyncio.wait([rest])
    assert (waits_for.cancelled(), done) == (True, [])

"""Awaitables that are begun outside of a task of their own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.server.begun import begun, first_step


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


async def test_what_is_left_is_told_of_its_waiters_cancellation() -> None:
    """Wherever it waits, at its first place too: it may tidy up, and wait for that."""
    for rounds in range(3):
        done: list[str] = []

        async def work(rounds: int = rounds, done: list[str] = done) -> None:
            try:
                for _ in range(rounds):
                    await asyncio.sleep(0)
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                done.append("tidied up")
                raise

        async def waiter(work: Callable[[], Awaitable[None]] = work) -> None:
            rest = first_step(work())
            assert rest is not None
            await rest

        task = asyncio.create_task(waiter())
        for _ in range(rounds + 2):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["tidied up"]

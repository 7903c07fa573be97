"""Times that run out, all as long, by one timer."""

import asyncio
from collections.abc import Callable

import pytest

from services.server.patience import Patience, Within

SOON = 0.05


async def test_each_that_waits_is_called_once_when_its_time_is_over() -> None:
    """In the order of their beginnings; not before, and not who ended."""
    patience, called = Patience(SOON), list[str]()
    waiting = {name: _calls(called, name) for name in ("first", "ended", "second", "late")}
    for name in ("first", "ended", "second"):
        patience.begin(waiting[name])
    await asyncio.sleep(SOON / 2)
    patience.begin(waiting["late"])
    patience.end(waiting["ended"])
    assert called == []
    await asyncio.sleep(SOON * 0.75)
    assert called == ["first", "second"]
    await asyncio.sleep(SOON)
    assert called == ["first", "second", "late"]
    patience.end(waiting["late"])  # again: it is no error


async def test_who_is_called_may_end_the_others() -> None:
    """As a request that takes others with it: these are not called."""
    patience, called = Patience(SOON), list[str]()
    other = _calls(called, "other")
    patience.begin(lambda: patience.end(other))
    patience.begin(other)
    await asyncio.sleep(2 * SOON)
    assert called == []


async def test_what_takes_longer_is_a_timeout() -> None:
    """What was cancelled for it is not to be seen outside; what is quick ends as it would, and its time is forgotten."""
    patience = Patience(SOON)
    with pytest.raises(TimeoutError), Within(patience):
        await asyncio.sleep(1)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with Within(patience):
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="mine"), Within(patience):
        raise ValueError("mine")
    await asyncio.sleep(2 * SOON)


async def test_anothers_cancellation_is_no_timeout() -> None:
    """It goes on, also where the time is over at the same moment."""
    patience = Patience(SOON)
    seen = list[str]()

    async def work() -> None:
        try:
            with Within(patience):
                await asyncio.sleep(1)
        except TimeoutError:
            seen.append("timeout")

    for seconds in (0.0, SOON):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, task.cancel)
            await asyncio.sleep(0)
        else:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == []


def _calls(called: list[str], name: str) -> Callable[[], None]:
    return lambda: called.append(name)

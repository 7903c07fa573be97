"""Times that run out, all as long, by one timer."""

import asyncio
import time
from collections.abc import Callable

import pytest

from services.server.patience import Patience, Within
from tests.unit.server.harness import until

SOON = 0.05


async def test_each_that_waits_is_called_once_when_its_time_is_over() -> None:
    """In the order of their beginnings; not before, and not who ended."""
    loop, patience = asyncio.get_running_loop(), Patience(SOON)
    called, begun = list[tuple[str, float]](), dict[str, float]()

    def begin(name: str) -> Callable[[], None]:
        begun[name] = loop.time()
        patience.begin(overdue := lambda: called.append((name, loop.time())))
        return overdue

    begin("first")
    ended = begin("ended")
    begin("second")
    await asyncio.sleep(SOON / 2)
    late = begin("late")
    patience.end(ended)
    await until(lambda: len(called) == 3, seconds=5)
    await asyncio.sleep(SOON)
    assert [name for name, _ in called] == ["first", "second", "late"]
    assert all(at - begun[name] >= SOON for name, at in called)
    patience.end(late)  # again: it is no error


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


@pytest.mark.parametrize("first", [True, False])
async def test_anothers_cancellation_is_no_timeout(*, first: bool) -> None:
    """It goes on, also where the time is over in the same moment, whichever is first."""
    patience = Patience(SOON)
    seen = list[str]()

    async def work() -> None:
        try:
            with Within(patience):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("timeout")

    task = asyncio.create_task(work())

    def cancel() -> None:
        task.cancel()

    if first:
        patience.begin(cancel)
    await asyncio.sleep(0)
    if not first:
        patience.begin(cancel)
    time.sleep(2 * SOON)  # noqa: ASYNC251 - so that the loop finds both due
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == []


async def test_what_is_cancelled_in_time_is_cancelled() -> None:
    """As without it."""

    async def work() -> None:
        with Within(Patience(SOON)):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _calls(called: list[str], name: str) -> Callable[[], None]:
    return lambda: called.append(name)

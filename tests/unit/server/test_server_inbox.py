"""What an engine's step puts into a request's inbox: taken at once, or kept in order for the one who reads."""

import asyncio

import pytest

from services.server.engine.inbox import Inbox
from services.server.engine.protocol import Delta


def delta(text: str, *, last: bool = False) -> Delta:
    """One token's worth."""
    return Delta(index=0, text=text, tokens=1, finish_reason="stop" if last else None)


class Taker:
    """Takes what it is offered, unless it is busy.

    Attributes:
        busy: takes nothing.
        taken: the texts of what it took.
    """

    def __init__(self) -> None:
        self.busy = False
        self.taken: list[str] = []

    def __call__(self, offered: Delta) -> bool:
        if not self.busy:
            self.taken.append(offered.text)
        return not self.busy


async def waiting(inbox: Inbox) -> "asyncio.Task[list[Delta]]":
    """A reader that waits for the inbox."""
    reader = asyncio.create_task(inbox.read())
    await asyncio.sleep(0)
    return reader


async def test_what_comes_while_the_reader_waits_is_taken_and_wakes_nobody() -> None:
    """The reader sleeps on until an answer's last delta, which is always its own."""
    taker = Taker()
    inbox = Inbox("a", 1, taker)
    reader = await waiting(inbox)
    for text in ("one", "two"):
        inbox.add(delta(text))
    await asyncio.sleep(0.01)
    assert (taker.taken, reader.done()) == (["one", "two"], False)
    inbox.add(delta("three", last=True))
    assert [read.text for read in await reader] == ["three"]
    assert inbox.ended


async def test_nothing_overtakes_what_the_reader_works_on() -> None:
    """Offered is what comes while the reader waits, and nothing after the first delta that was kept for it."""
    taker = Taker()
    inbox = Inbox("a", 1, taker)
    inbox.add(delta("before anyone reads"))
    reader = await waiting(inbox)
    inbox.add(delta("at work"))
    assert [read.text for read in await reader] == ["before anyone reads"]
    assert [read.text for read in await inbox.read()] == ["at work"]
    reader = await waiting(inbox)
    taker.busy = True
    inbox.add(delta("while busy"))
    taker.busy = False
    inbox.add(delta("behind it"))
    assert [read.text for read in await reader] == ["while busy", "behind it"]
    assert taker.taken == []


async def test_a_taker_that_fails_fails_its_own_request() -> None:
    """The step that offered goes on; the reader gets the error."""

    def fail(_: Delta) -> bool:
        raise ConnectionError("the client left")

    inbox = Inbox("a", 1, fail)
    reader = await waiting(inbox)
    inbox.add(delta("one"))
    with pytest.raises(ConnectionError, match="the client left"):
        await reader

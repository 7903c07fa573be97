"""A busy server's new prompts wait for others, a bounded number of steps; a quiet one's never wait."""

import pytest

from services.server.engine.card.gathering import BUSY, SHARE, STEPS, Gathering


def test_prompt_of_a_busy_server_waits_a_few_steps_and_then_begins() -> None:
    """As often as prompts come: none waits longer than the bound."""
    gathering = Gathering()
    put_off = [gathering.puts_off(2 * BUSY, 1) for _ in range(2 * (STEPS + 1))]
    assert put_off == [*[True] * STEPS, False] * 2


@pytest.mark.parametrize(
    ("running", "waiting"),
    [
        pytest.param(BUSY - 1, 1, id="quiet"),
        pytest.param(2 * BUSY, 2 * BUSY // SHARE, id="enough to begin together"),
        pytest.param(2 * BUSY, 0, id="none waits"),
        pytest.param(0, 1, id="idle"),
    ],
)
def test_prompt_begins_at_once(running: int, waiting: int) -> None:
    """Where nothing is gained by waiting."""
    assert not Gathering().puts_off(running, waiting)


def test_wait_begins_anew_with_the_next_prompt() -> None:
    """What an earlier prompt waited does not count for a later one."""
    gathering = Gathering()
    put_off = [gathering.puts_off(2 * BUSY, waiting) for waiting in [1, 0, *[1] * STEPS]]
    assert put_off == [True, False, *[True] * STEPS]

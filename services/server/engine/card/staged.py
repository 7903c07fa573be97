"""What new requests bring to the sampler is brought to the card once, not in every step.

vLLM 0.32.0 sends temperatures, seeds, penalties and biases of all places again in each step, some fifteen arrays, although only a
request that begins changes any of them (docs/decisions/0114).
"""

from typing import Any


def send_once(sampler: Any) -> None:
    """Have ``sampler`` send what it has staged where a request has begun since.

    Args:
        sampler: of vLLM's model runner.
    """
    add, send = sampler.add_request, sampler.apply_staged_writes
    is_changed = True

    def add_request(*request: Any) -> None:
        nonlocal is_changed
        is_changed = True
        add(*request)

    def apply_staged_writes() -> None:
        nonlocal is_changed
        if is_changed:
            send()
            is_changed = False

    sampler.add_request, sampler.apply_staged_writes = add_request, apply_staged_writes

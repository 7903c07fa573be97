"""What new requests bring to the sampler is brought to the card once, not in every step.

vLLM 0.32.0 sends temperatures, seeds, penalties and biases of all places again in each step, some fifteen arrays, although only a
request that begins changes any of them (docs/decisions/0115).
"""

from typing import Any

from vllm.v1.worker.gpu.sample.sampler import Sampler


def send_once(sampler: Any) -> bool:
    """Have ``sampler`` send what it has staged where a request has begun since; whether it is one of which that is all.

    Args:
        sampler: of vLLM's model runner.
    """
    if type(sampler) is not Sampler:
        return False
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
    return True

"""What the engine goes on generating for a client that does not read: its bytes, by the code that turns a step's output into a delta."""

import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

with warnings.catch_warnings(action="ignore"):  # vLLM's own, at its import
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
    from vllm.v1.outputs import LogprobsLists

    from services.server.engine.inbox import Inbox
    from services.server.engine.pushed import StepProcessor

pytestmark = pytest.mark.e2e

TOKENS = 1000
PLAIN_BYTES = 400  # a token
ALTERNATIVE_BYTES = 400  # a token's alternative, where log-probabilities are asked for


@pytest.fixture(scope="module")
def tokenizer(base_model_dir: Path) -> Any:
    """The real base model's."""
    return AutoTokenizer.from_pretrained(base_model_dir)


@pytest.mark.parametrize("alternatives", [None, 20])
async def test_unread_tokens_have_their_bytes_and_no_more(
    tokenizer: Any, alternatives: int | None, record_property: Callable[[str, object], None]
) -> None:
    """So many for each token, the last one as the first; ``max_tokens`` of them at most, for the context is full then."""
    processor = StepProcessor(tokenizer, log_stats=False)
    for name in (
        "before",
        "unread",
    ):  # the first has the bytes of each token of the vocabulary looked up, which are kept for all
        inbox = Inbox(name, 1)
        _begin(processor, inbox, alternatives)
        _step(processor, name, 0, alternatives)  # what is made once
        held = [_bytes(processor, name, start, alternatives) / TOKENS for start in (1, 1 + TOKENS)]
        if name == "before":
            _step(processor, name, 2 * TOKENS + 1, alternatives, FinishReason.LENGTH)
    record_property("bytes a token", round(max(held)))
    largest = PLAIN_BYTES + ALTERNATIVE_BYTES * (alternatives or 0)
    assert held[1] < 1.2 * held[0] < 1.2 * largest
    _step(processor, "unread", 2 * TOKENS + 1, alternatives, FinishReason.LENGTH)
    deltas = await inbox.read()
    assert (len(deltas), inbox.ended) == (2 * TOKENS + 2, True)
    assert not processor.request_states, "nothing more can come"


def _begin(processor: StepProcessor, inbox: Inbox, alternatives: int | None) -> None:
    sampling = SamplingParams(
        max_tokens=2 * TOKENS + 2, logprobs=alternatives, output_kind=RequestOutputKind.DELTA, skip_special_tokens=True
    )
    name = inbox.request_id
    request = EngineCoreRequest(name, [1, 2], None, sampling, None, 0.0, None, None, None, external_req_id=name)
    queue: Any = inbox
    processor.add_request(request, None, None, 0, queue)


def _bytes(processor: StepProcessor, name: str, start: int, alternatives: int | None) -> int:
    tracemalloc.start()
    for number in range(start, start + TOKENS):
        _step(processor, name, number, alternatives)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


def _step(
    processor: StepProcessor, name: str, number: int, alternatives: int | None, reason: FinishReason | None = None
) -> None:
    token = 100 + number * 7 % 40_000
    logprobs = None
    if alternatives is not None:
        ids = np.arange(token, token + alternatives + 1).reshape(1, -1)
        logprobs = LogprobsLists(ids, np.full(ids.shape, -1.5, dtype=np.float32), np.ones(1, dtype=np.int64))
    processor.process_outputs([EngineCoreOutput(name, [token], new_logprobs=logprobs, finish_reason=reason)])

"""What the sampler holds on the card, sent in every step and sent once, side by side: vLLM's own sampler, no model, no card."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.schedulers import make_house

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import

PLACES, VOCABULARY, STEPS = 8, 50, 200


class NoKernel:
    """In place of a Triton kernel, which a processor has not: what it would write is not compared."""

    def __getitem__(self, _grid: object) -> Any:
        return lambda *_arguments, **_options: None


@pytest.fixture(autouse=True)
def _without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in place of memory that a card reads itself."""
    from vllm.v1.worker.gpu import buffer_utils  # noqa: PLC0415 - heavy
    from vllm.v1.worker.gpu.sample import penalties  # noqa: PLC0415

    monkeypatch.setattr(buffer_utils, "is_uva_available", lambda: False)
    monkeypatch.setattr(buffer_utils, "_apply_write_kernel", NoKernel())
    monkeypatch.setattr(penalties, "bincount", NoKernel()[0])


def _sampler(config: Any) -> Any:
    import torch  # noqa: PLC0415 - heavy
    from vllm.v1.worker.gpu.sample.sampler import Sampler  # noqa: PLC0415
    from vllm.v1.worker.gpu.states import RequestState  # noqa: PLC0415

    device = torch.device("cpu")
    states = RequestState(
        max_num_reqs=PLACES,
        max_model_len=64,
        max_num_batched_tokens=64,
        num_speculative_steps=0,
        vocab_size=VOCABULARY,
        device=device,
    )
    return Sampler(config, PLACES, VOCABULARY, device, states)


def _sent(sampler: Any) -> dict[str, list[Any]]:
    """Every array of the sampler's parts that the card reads."""
    from vllm.v1.worker.gpu.buffer_utils import UvaBackedTensor  # noqa: PLC0415 - heavy

    parts = [*vars(sampler).values(), *sampler.logits_processors]
    return {
        f"{type(part).__name__}.{name}": value.gpu.tolist()
        for part in parts
        for name, value in getattr(part, "__dict__", {}).items()
        if isinstance(value, UvaBackedTensor)
    }


def test_each_step_finds_what_it_would_find_if_all_were_sent_again(base_model_dir: Path) -> None:
    """Whatever requests ask for and wherever they are put, in steps with and without new ones; and it is not sent again."""
    from vllm import SamplingParams  # noqa: PLC0415 - heavy

    from services.server.engine.card.staged import send_once  # noqa: PLC0415

    config = make_house(base_model_dir).config
    theirs, ours = _sampler(config), _sampler(config)
    sends = 0
    send = ours.apply_staged_writes

    def counted() -> None:
        nonlocal sends
        sends += 1
        send()

    ours.apply_staged_writes = counted
    assert send_once(ours)
    chance = random.Random(7)  # noqa: S311
    with_new = 1  # the first step sends in any case
    for step in range(STEPS):
        new = chance.randint(1, 3) if step and chance.random() < 0.3 else 0
        with_new += new > 0
        for place in chance.sample(range(PLACES), new):
            wanted = SamplingParams(
                temperature=chance.choice((0.0, 0.7, 1.0)),
                top_p=chance.choice((1.0, 0.9)),
                top_k=chance.choice((0, 5)),
                min_p=chance.choice((0.0, 0.1)),
                seed=chance.choice((None, 7)),
                presence_penalty=chance.choice((0.0, 1.0)),
                min_tokens=chance.choice((0, 2)),
                logit_bias=chance.choice((None, {3: 1.0})),
                max_tokens=8,
            )
            for sampler in (theirs, ours):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("numpy.random.randint", lambda *_: 11)  # a seed that nobody asked for
                    sampler.add_request(place, wanted)
        for sampler in (theirs, ours):
            sampler.apply_staged_writes()
        assert _sent(ours) == _sent(theirs)
    assert len(_sent(ours)) > 10, "few arrays were compared"
    assert sends == with_new


def test_another_sampler_is_left_as_it_is(base_model_dir: Path) -> None:
    """One that may stage more than a request's beginning, or none at all."""
    from vllm.v1.worker.gpu.sample.sampler import Sampler  # noqa: PLC0415 - heavy

    from services.server.engine.card.staged import send_once  # noqa: PLC0415

    class Other(Sampler):  # type: ignore[misc]  # vLLM's types are not followed
        pass

    sampler = _sampler(make_house(base_model_dir).config)
    sampler.__class__ = Other
    assert not send_once(sampler)
    assert "add_request" not in vars(sampler)
    assert not send_once(None)

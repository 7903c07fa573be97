"""Forward and backward of one pass; on a card recorded once per shape and replayed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from services.trainer.training.packed.batch import Pass
from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.head import HeadLoss


class Sums(NamedTuple):
    """Of a pass: the loss over the update's learnt tokens that it adds, and right guesses."""

    loss: torch.Tensor
    right: torch.Tensor


def in_precision(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """The arithmetic's precision, as a context."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32, cache_enabled=False)


class PassRunner:
    """Runs passes and adds up gradients.

    Args:
        model: with an adapter; its attention is ``packed_attention``.
        flat: its trained weights.
        precision: what its arithmetic is done in.
    """

    def __init__(self, model: Any, flat: FlatWeights, precision: torch.dtype) -> None:
        base = model.get_base_model()
        self._body = base.base_model
        self._matrix: torch.Tensor = base.get_output_embeddings().weight
        self._flat = flat
        self._precision = precision

    def __call__(self, one: Pass, scale: torch.Tensor) -> Sums:
        """Run one pass, forward and backward.

        Args:
            one: on the model's device.
            scale: 1 / the update's learnt tokens.
        """
        sums = self.loss(one)
        loss = sums.loss * scale
        loss.backward()
        self._flat.add_up()
        return Sums(loss.detach(), sums.right.detach())

    def loss(self, one: Pass) -> Sums:
        """The forward pass alone: the sum over the pass's learnt tokens, in nats."""
        self._flat.refresh()
        with in_precision(self._precision, self._matrix.device):
            hidden = self._body(
                input_ids=one.input_ids,
                position_ids=one.position_ids,
                attention_mask=None,
                use_cache=False,
                edges=one.edges,
                longest=one.longest,
            ).last_hidden_state[0]
            loss, right = HeadLoss.apply(
                hidden.index_select(0, one.predict).to(self._matrix.dtype), self._matrix, one.targets
            )
        return Sums(loss, right)


class _Recorded(NamedTuple):
    graph: Any
    inputs: Pass
    scale: torch.Tensor
    sums: Sums


class Replayer:
    """A ``PassRunner`` whose passes are recorded as CUDA graphs, one for each shape: a small model is bound by launches.

    Args:
        run: what is recorded.
    """

    def __init__(self, run: Callable[[Pass, torch.Tensor], Sums]) -> None:
        self._run = run
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._stream: Any = torch.cuda.Stream()
        self._pool: Any = None

    def __call__(self, one: Pass, scale: torch.Tensor) -> Sums:
        """See ``PassRunner``; gradients of earlier passes of the update are kept."""
        recorded = self._recorded.get(one.shape)
        if recorded is None:
            recorded = self._recorded[one.shape] = self._record(one, scale)
        for mine, given in zip(recorded.inputs[:5], one[:5], strict=True):
            mine.copy_(given, non_blocking=True)
        recorded.scale.copy_(scale)
        recorded.graph.replay()
        return Sums(recorded.sums.loss.clone(), recorded.sums.right.clone())

    def forget(self) -> None:
        """Give the recordings' memory back."""
        self._recorded.clear()
        self._pool = None

    def _record(self, one: Pass, scale: torch.Tensor) -> _Recorded:
        inputs = one._replace(**{name: getattr(one, name).clone() for name in one._fields[:5]})
        scale = scale.clone()
        if self._pool is None:  # libraries allocate at their first call, which must not be recorded
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._run(inputs, scale * 0)  # adds nothing to the gradients
            torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Of this thread only: that of NCCL, which watches over several cards, looks at events meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            sums = self._run(inputs, scale)
        self._pool = graph.pool()
        return _Recorded(graph, inputs, scale, sums)

"""Forward and backward of one pass; on a card recorded once per shape and replayed."""

from typing import Any, NamedTuple

import torch

from services.trainer.training.packed.batch import Pass
from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.head import HeadLoss, head_loss


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
        hidden = self.forward(one)
        gradient = torch.empty_like(hidden)
        sums = self.head(hidden, one, scale, gradient)
        self.backward(hidden, gradient)
        return sums

    def forward(self, one: Pass) -> torch.Tensor:
        """The layers.

        Returns:
            hidden states, T x width.
        """
        self._flat.refresh()
        with in_precision(self._precision, self._matrix.device):
            hidden: torch.Tensor = self._body(
                input_ids=one.input_ids,
                position_ids=one.position_ids,
                attention_mask=None,
                use_cache=False,
                edges=one.edges,
                longest=one.longest,
            ).last_hidden_state[0]
        return hidden

    def head(self, hidden: torch.Tensor, one: Pass, scale: torch.Tensor, gradient: torch.Tensor) -> Sums:
        """The loss.

        Args:
            hidden: what ``forward`` returned.
            one: see ``__call__``.
            scale: see ``__call__``.
            gradient: where that of ``hidden`` is written.
        """
        found = self._loss(hidden.detach(), one, with_gradient=True)
        assert found.gradient is not None  # noqa: S101 - for mypy
        gradient.zero_()
        gradient.index_copy_(0, one.predict, (found.gradient * scale).to(gradient.dtype))
        return Sums(found.total * scale, found.right)

    def backward(self, hidden: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add up the gradients of the trained weights, from that of ``hidden``."""
        hidden.backward(gradient)
        self._flat.add_up()

    def loss(self, one: Pass) -> Sums:
        """The forward pass alone: the sum over the pass's learnt tokens, in nats."""
        found = self._loss(self.forward(one), one, with_gradient=False)
        return Sums(found.total, found.right)

    def _loss(self, hidden: torch.Tensor, one: Pass, *, with_gradient: bool) -> HeadLoss:
        predicting = hidden.index_select(0, one.predict).to(self._matrix.dtype)
        return head_loss(predicting, self._matrix, one.targets, with_gradient=with_gradient)


class _Recorded(NamedTuple):
    forward: Any
    backward: Any
    inputs: Pass
    hidden: torch.Tensor
    gradient: torch.Tensor


class Replayer:
    """A ``PassRunner`` whose layers are recorded as CUDA graphs, two for each shape: a small model is bound by launches.

    The head is not recorded: it is a few large kernels, and the number of learnt tokens would be part of a shape.

    Args:
        run: what is recorded.
    """

    def __init__(self, run: PassRunner) -> None:
        self._run = run
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._stream: Any = torch.cuda.Stream()
        self._pool: Any = None

    def __call__(self, one: Pass, scale: torch.Tensor) -> Sums:
        """See ``PassRunner``; gradients of earlier passes of the update are kept."""
        recorded = self._recorded.get(one.shape)
        if recorded is None:
            recorded = self._recorded[one.shape] = self._record(one)
        for name in _OF_LAYERS:
            getattr(recorded.inputs, name).copy_(getattr(one, name), non_blocking=True)
        recorded.forward.replay()
        sums = self._run.head(recorded.hidden, one, scale, recorded.gradient)
        recorded.backward.replay()
        return sums

    def forget(self) -> None:
        """Give the recordings' memory back."""
        self._recorded.clear()
        self._pool = None

    def _record(self, one: Pass) -> _Recorded:
        inputs = one._replace(**{name: getattr(one, name).clone() for name in _OF_LAYERS})
        if self._pool is None:  # libraries allocate at their first call, which must not be recorded
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                hidden = self._run.forward(inputs)
                self._run.backward(hidden, torch.zeros_like(hidden))  # adds nothing to the gradients
                del hidden
            torch.cuda.current_stream().wait_stream(self._stream)
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with self._recording(forward):
            hidden = self._run.forward(inputs)
        self._pool = forward.pool()
        gradient = torch.zeros_like(hidden)
        with self._recording(backward):
            self._run.backward(hidden, gradient)
        return _Recorded(forward, backward, inputs, hidden.detach(), gradient)

    def _recording(self, graph: Any) -> Any:
        # Of this thread only: that of NCCL, which watches over several cards, looks at events meanwhile.
        return torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")


_OF_LAYERS = ("input_ids", "position_ids", "edges")

"""transformers' own loop around packed passes: it keeps order, schedule, checkpoints and seeds; the arithmetic is ours."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from transformers import Trainer

from services.trainer.training.job import TrainingFailed
from services.trainer.training.measure import Holdout
from services.trainer.training.packed.batch import PackedCollator, Pass, Update
from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.layers import join_layers
from services.trainer.training.packed.lora import join_kernels
from services.trainer.training.packed.step import PassRunner, Replayer, Sums
from services.trainer.training.ranks import AgreeingObserver, Ranks
from services.trainer.training.watch import ACCURACY

_MULTIPLE = 256  # of tokens, on a card: few shapes to record
_LEAST_TOKENS = 256
# Tokens of one pass to begin with. More gain nothing on a CPU and cost memory; on a card they are halved until they fit.
_MOST_TOKENS, _MOST_TOKENS_ON_CARD = 1024, 32_768
_ROWS_WITHOUT_GRADIENT = 4  # for each row of a pass with one: no layer's activations are kept


class Told(NamedTuple):
    """What a rank tells the others beside its gradient, and the sums of that.

    Attributes:
        loss: what its rows add to the update's mean loss.
        right: its right guesses.
        learnt: its learnt tokens.
        stops: ranks that were asked to stop.
        full: ranks whose memory holds not even a row.
    """

    loss: float
    right: float
    learnt: float
    stops: float
    full: float


class PackedTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed for mypy
    """Trains an adapter on rows of tokens and labels, an update's rows at a time.

    Each rank draws the same update and computes its part of the rows; sums over ranks make it one update again. To transformers
    every rank is alone: it neither wraps the model nor spreads the batch.

    Args:
        ranks: who trains together.
        observer: of this rank.
        rows_per_pass: at most so many rows in one pass.
        longest: tokens of the longest row to train on.
        precision: what arithmetic is done in.
        named: as ``transformers.Trainer`` takes them; an update is one batch, so accumulation is 1.

    Attributes:
        runner: of passes, without replaying.
    """

    def __init__(
        self,
        *,
        ranks: Ranks,
        observer: AgreeingObserver,
        rows_per_pass: int,
        longest: int,
        precision: torch.dtype,
        **named: Any,
    ) -> None:
        self._ranks = ranks
        self._observer = observer
        self._on_card = torch.cuda.is_available()
        self._collator = PackedCollator(
            _MULTIPLE if self._on_card else 1,
            rows=rows_per_pass,
            most_tokens=_MOST_TOKENS_ON_CARD if self._on_card else _MOST_TOKENS,
            longest=longest,
            rank=ranks.rank,
            ranks=ranks.count,
        )
        super().__init__(data_collator=self._collator, **named)
        self._flat = FlatWeights(self.model, precision, told=len(Told._fields))
        ranks.share(self._flat.weights.data)
        self.model.zero_grad = self._flat.clear  # the loop would drop the views
        join_layers(self.model)
        join_kernels(self.model, self._flat)
        self.runner = PassRunner(self.model, self._flat, precision)
        self._run = Replayer(self.runner) if self._on_card else self.runner
        self._right, self._learnt = torch.zeros(()), 0
        self._epoch: Iterator[Update] | None = None
        self._ahead: Update | None = None

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW over the flat weights, in float32 and in one kernel."""
        del model
        if getattr(self, "optimizer", None) is None:
            self.optimizer: Any = torch.optim.AdamW(
                [self._flat.weights],
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
                fused=self._on_card,
            )
        return self.optimizer

    def train(self, *positional: Any, **named: Any) -> Any:
        """See ``transformers.Trainer``; afterwards each rank is on its own."""
        ended = super().train(*positional, **named)
        self._ranks.part()
        return ended

    def training_step(self, model: Any, inputs: Update, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one update.

        Returns:
            the mean loss over its learnt tokens, in nats.

        Raises:
            torch.OutOfMemoryError: the memory of one of the ranks holds not even a row.
            TrainingFailed: ranks drew different updates.
        """
        del num_items_in_batch
        if not model.training:  # it walks thousands of modules
            model.train()
        self._learnt = inputs["learnt"]
        if self._ranks.count > 1:
            return self._with_others(inputs)
        sums = self._passes_that_fit(inputs)
        self._right = sums.right
        self._observer.stop_requested = self._observer.asks
        return sums.loss

    def _with_others(self, inputs: Update) -> torch.Tensor:
        """This rank's part of an update and everyone else's; all ranks go on, stop or fail alike."""
        flat, full = self._flat, False
        try:
            sums = self._passes_that_fit(inputs)
        except torch.OutOfMemoryError:  # not raised here: the others would wait for this rank
            sums, full = Sums(flat.told.new_zeros(()), flat.told.new_zeros(())), True
        own = sum(each.learnt for each in inputs["passes"])
        asked = torch.tensor([own, self._observer.asks, full], dtype=torch.float32, device=self.args.device)
        flat.told.copy_(torch.cat([torch.stack(sums), asked]))
        flat.over_ranks(self._ranks)
        told = Told(*flat.told.tolist())
        if told.full:
            raise torch.OutOfMemoryError(f"{told.full:.0f} of {self._ranks.count} cards")
        if round(told.learnt) != inputs["learnt"]:
            raise TrainingFailed("ranks drew different updates; set worker.cards = 1 and report this")
        self._right = flat.told[1].clone()
        self._observer.stop_requested = told.stops > 0
        return flat.told[0].clone()

    def _passes_that_fit(self, inputs: Update) -> Sums:
        """Run this rank's passes, of fewer tokens where its memory does not suffice.

        Raises:
            torch.OutOfMemoryError: it holds not even a row.
        """
        passes = inputs["passes"]
        while True:
            try:
                return self._passes(passes, inputs["learnt"])
            except torch.OutOfMemoryError:
                most = max(each.tokens for each in passes) // 2
                if most < _LEAST_TOKENS or self._collator.most_tokens <= _LEAST_TOKENS:
                    raise
                self._collator.most_tokens = most
                self._flat.clear()
                if isinstance(self._run, Replayer):
                    self._run.forget()
                torch.cuda.empty_cache()
                passes = self._collator.split(passes)

    def _passes(self, passes: list[Pass], learnt: int) -> Sums:
        device = self.args.device
        scale = torch.tensor(1.0 / max(learnt, 1), device=device)
        nothing = torch.zeros((), device=device)  # of a rank without rows
        sums = [Sums(nothing, nothing), *(self._run(each.to(device), scale) for each in passes)]
        if self._epoch is not None and self._ahead is None:  # while a card computes
            self._ahead = next(self._epoch, None)
        return Sums(*(torch.stack(each).sum() for each in zip(*sums, strict=True)))

    def measure(self, rows: Any) -> Holdout:
        """Loss and accuracy on rows that were not trained."""
        was_training, read = self.model.training, list(rows)
        self.model.eval()
        try:
            try:
                return self._measured(self._collator.wider(_ROWS_WITHOUT_GRADIENT).passes(read))
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return self._measured(self._collator.passes(read))
        finally:
            self.model.train(was_training)

    def _measured(self, passes: list[Pass]) -> Holdout:
        loss, right, learnt = 0.0, 0.0, 0
        with torch.no_grad():
            for each in passes:
                sums = self.runner.loss(each.to(self.args.device))
                loss, right, learnt = loss + float(sums.loss), right + float(sums.right), learnt + each.learnt
        return Holdout(loss / max(learnt, 1), right / learnt if learnt else None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the last update's accuracy, by TRL's name."""
        if "loss" in logs and self._learnt:
            logs[ACCURACY] = float(self._right) / self._learnt
        super().log(logs, start_time)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs  # passes move themselves

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        del model
        return self._flat.clip(self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        del model
        return self._flat.clip(0.0) if grad_norm is None else grad_norm

    def _track_num_input_tokens(self, inputs: Update) -> None:
        self.state.num_input_tokens_seen += inputs["tokens"]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], None]:
        """The update's batch, which may have been made already; it counts its own learnt tokens."""
        del num_batches, device
        if epoch_iterator is not self._epoch:
            self._epoch, self._ahead = epoch_iterator, None
        batch, self._ahead = self._ahead, None
        return [batch or next(epoch_iterator)], None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the loop would ask the model for a size that packed passes do not have."""
        del inputs
        return 0

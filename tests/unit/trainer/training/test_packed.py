"""Joined rows are the same update as rows by themselves: loss, every gradient, whatever the passes are."""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from services.trainer.training.job import TrainingFailed
from services.trainer.training.packed.attention import NAME, packed_attention
from services.trainer.training.packed.batch import PackedCollator, Pass, filling
from services.trainer.training.packed.check import Reference
from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.head import head_loss
from services.trainer.training.packed.lora import join_kernels
from services.trainer.training.packed.step import PassRunner, Sums
from services.trainer.training.packed.trainer import PackedTrainer
from services.trainer.training.ranks import AgreeingObserver, Alone
from tests.unit.trainer.tiny import Watcher

VOCABULARY = 61
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Row = dict[str, list[int]]

rows_of_tokens = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12), min_size=1, max_size=5)


def model(attention: str, *, dropout: float = 0.0, bias: bool = False, targets: Sequence[str] = TARGETS) -> Any:
    """A Llama with grouped heads and an adapter that already does something; the same weights at every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=attention,
        attention_bias=bias,
        initializer_range=0.1,  # attention matters, and float32 rounds well below 1e-5
    )
    base = LlamaForCausalLM(config)
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=list(targets), init_lora_weights=False)
    return get_peft_model(base, lora).train()


def rows_from(tokens: list[list[int]]) -> list[Row]:
    """Rows that learn their second half."""
    return [{"input_ids": row, "labels": [-100] * (len(row) // 2) + row[len(row) // 2 :]} for row in tokens]


def learnt_in(rows: list[Row]) -> int:
    return sum(label != -100 for row in rows for label in row["labels"][1:])


def plain_update(rows: list[Row]) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients and right guesses by plain PyTorch, one row after the other."""
    plain, total, right = model("eager"), 0.0, 0
    for row in rows:
        targets = torch.tensor(row["labels"][1:])
        logits = plain(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum") / learnt_in(rows)
        loss.backward()
        total += loss.item()
        right += int((logits.argmax(1) == targets).sum())
    gradients = {name: weight.grad for name, weight in plain.named_parameters() if weight.requires_grad}
    return total, gradients, right


@settings(max_examples=25, deadline=None)
@given(tokens=rows_of_tokens, most=st.integers(2, 40), multiple=st.sampled_from([1, 16]))
def test_an_update_is_the_same_as_by_plain_pytorch(tokens: list[list[int]], most: int, multiple: int) -> None:
    """Loss and every gradient to 1e-5, however rows are joined and sizes rounded; right guesses exactly."""
    rows = rows_from(tokens)
    loss, gradients, right = plain_update(rows)
    packed = model(NAME)
    flat = FlatWeights(packed)
    assert join_kernels(packed, flat) == []
    run = PassRunner(packed, flat, torch.float32)
    scale = torch.tensor(1.0 / learnt_in(rows))
    sums = [run(one, scale) for one in PackedCollator(multiple, rows=5, most_tokens=most)(rows)["passes"]]
    assert sum(each.loss.item() for each in sums) == pytest.approx(loss, rel=1e-5)
    assert sum(each.right.item() for each in sums) == right
    for name, weight in packed.named_parameters():
        if weight.requires_grad:
            largest = max(1.0, gradients[name].abs().max().item())
            torch.testing.assert_close(weight.grad, gradients[name], rtol=0, atol=1e-5 * largest)
    assert flat.gradient.norm() > 0


@settings(max_examples=40, deadline=None)
@given(tokens=rows_of_tokens, most=st.integers(1, 40), rows_per_pass=st.integers(1, 5))
def test_passes_hold_every_row_once_and_in_order(tokens: list[list[int]], most: int, rows_per_pass: int) -> None:
    """Within both limits where a row allows it; split again they hold the same."""
    rows = rows_from(tokens)
    collator = PackedCollator(16, rows=rows_per_pass, most_tokens=most)
    passes = collator(rows)["passes"]
    assert all(each.tokens <= most or _rows_in(each) == 1 for each in passes)
    assert all(_rows_in(each) <= rows_per_pass for each in passes)
    assert [token for each in passes for token in each.input_ids[0, : each.tokens].tolist()] == list(chain(*tokens))
    assert sum(each.learnt for each in passes) == learnt_in(rows)
    collator.most_tokens = max(1, most // 2)
    again = collator.split(passes)
    assert [token for each in again for token in each.input_ids[0, : each.tokens].tolist()] == list(chain(*tokens))
    assert sum(each.learnt for each in again) == learnt_in(rows)


@given(number=st.integers(0, 100_000))
def test_sizes_are_few_and_little_is_filled_up(number: int) -> None:
    """At most 255 tokens, or a sixteenth of a long pass; sixteen sizes between a power of two and the next."""
    size = number + filling(number, 256)
    assert size % 256 == 0
    assert size - number < max(256, number / 16 + 1)
    step = max(256, 1 << max(number.bit_length() - 5, 0))
    assert size % step == 0
    assert filling(number, 1) == 0


def test_passes_of_one_size_are_of_one_shape() -> None:
    """However long the longest of their own rows is: no more than the longest there is."""
    rows = rows_from([[1] * 9, [1] * 30, [1] * 5])
    shapes = {PackedCollator(32, rows=1, most_tokens=32, longest=30).passes([row])[0].shape for row in rows}
    assert shapes == {(32, 3, 32)}


def _rows_in(one: Pass) -> int:
    edges = one.edges.tolist()
    return sum(begin < end <= one.tokens for begin, end in pairwise(edges))


def test_loss_in_pieces_is_the_loss_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradient, with targets that do not count."""
    monkeypatch.setattr("services.trainer.training.packed.head._PIECE", 3)
    torch.manual_seed(0)
    hidden, matrix = torch.randn(10, 8, requires_grad=True), torch.randn(VOCABULARY, 8)
    targets = torch.tensor([5, -100, 7, 0, 60, -100, 3, 3, 3, -100])
    expected = torch.nn.functional.cross_entropy(hidden @ matrix.t(), targets, ignore_index=-100, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    found = head_loss(hidden.detach(), matrix, targets, with_gradient=True)
    torch.testing.assert_close(found.total, expected.detach())
    torch.testing.assert_close(found.gradient, wanted)
    assert head_loss(hidden.detach(), matrix, targets, with_gradient=False).gradient is None


def test_weights_stay_views_of_one_tensor_through_updates_and_loading() -> None:
    """What the optimizer changes is what the model computes with, after gradients were cleared and a checkpoint was read."""
    packed = model(NAME)
    before = {name: weight.clone() for name, weight in packed.state_dict().items()}
    flat = FlatWeights(packed)
    with torch.no_grad():
        flat.weights.add_(1.0)
    flat.clear()
    weight = packed.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight")
    torch.testing.assert_close(
        weight, before["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"] + 1
    )
    packed.load_state_dict(before)
    assert weight.data_ptr() == flat.weights.data_ptr()
    torch.testing.assert_close(flat.weights[: weight.numel()].view(weight.shape), weight)


def test_gradient_is_clipped_as_pytorch_clips() -> None:
    """The norm before is told; at most the wanted one is left, and a smaller one is left alone."""
    packed = model(NAME)
    flat = FlatWeights(packed)
    flat.gradient.fill_(0.5)
    norm = flat.gradient.norm().item()
    assert flat.clip(1.0).item() == pytest.approx(norm)
    assert flat.gradient.norm().item() == pytest.approx(1.0, rel=1e-4)
    assert flat.clip(5.0).item() == pytest.approx(1.0, rel=1e-4)
    assert flat.gradient.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_attention_that_rows_do_not_have_here_is_refused_by_name() -> None:
    """A window or a cap is not passed over in silence."""
    heads = torch.zeros(1, 2, 4, 8)
    with pytest.raises(NotImplementedError, match="sliding_window"):
        packed_attention(
            torch.nn.Module(), heads, heads, heads, None, edges=torch.tensor([0, 4]), longest=4, sliding_window=2
        )


def test_model_whose_layers_see_beyond_a_row_is_refused_before_it_trains() -> None:
    """Found by comparing joined rows with each by itself; a model that keeps to its rows passes."""
    rows = rows_from([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10]])
    good = model(NAME)
    Reference(good, rows, torch.float32).require_same(PassRunner(good, FlatWeights(good), torch.float32))
    leaking = model(NAME)
    leaking.get_base_model().model.layers[1].register_forward_hook(
        lambda *call: call[2] + call[2].mean(1, keepdim=True)
    )
    reference = Reference(leaking, rows, torch.float32)
    with pytest.raises(TrainingFailed, match="see beyond a row"):
        reference.require_same(PassRunner(leaking, FlatWeights(leaking), torch.float32))


class Fake:
    """A card whose memory holds ``most`` tokens of a pass."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.ran: list[int] = []

    def __call__(self, one: Pass, scale: torch.Tensor) -> Any:
        if one.tokens > self.most:
            raise torch.OutOfMemoryError
        self.ran.append(one.tokens)
        return PASSED(one, scale)


def PASSED(one: Pass, scale: torch.Tensor) -> Any:  # noqa: N802 - stands for a class
    """A pass that went well."""
    from services.trainer.training.packed.step import Sums  # noqa: PLC0415 - for this alone

    del scale
    return Sums(torch.tensor(float(one.learnt)), torch.tensor(0.0))


@pytest.fixture
def trainer(tmp_path: Any) -> Callable[[], PackedTrainer]:
    """Makes a trainer on the tiny model, in a folder of its own."""
    from transformers import TrainingArguments  # noqa: PLC0415 - beside its only use

    def make() -> PackedTrainer:
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            remove_unused_columns=False,
            use_cpu=True,
            report_to=[],
        )
        return PackedTrainer(
            ranks=Alone(),
            observer=AgreeingObserver(Watcher()),
            rows_per_pass=8,
            longest=1,
            precision=torch.float32,
            model=model(NAME),
            args=arguments,
        )

    return make


def test_update_that_does_not_fit_is_split_and_none_of_it_is_lost(trainer: Callable[[], PackedTrainer]) -> None:
    """Halved until it fits, all rows in it; later updates begin with what was found to fit."""
    packed = trainer()
    packed._run = card = Fake(most=600)  # type: ignore[assignment]  # noqa: SLF001 - in place of a card
    rows = rows_from([[1] * 300 for _ in range(8)])
    packed._collator.most_tokens = 10_000  # noqa: SLF001 - as on a card
    inputs = packed._collator(rows)  # noqa: SLF001 - as the data loader calls it
    assert packed.training_step(packed.model, inputs).item() == learnt_in(rows)
    assert card.ran == [600] * 4
    assert [each.tokens for each in packed._collator(rows)["passes"]] == [600] * 4  # noqa: SLF001 - likewise


class Narrow:
    """A model's forward passes on a card that holds so many tokens at once.

    Args:
        most: tokens.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.ran: list[int] = []

    def loss(self, one: Pass) -> Sums:
        """As ``PassRunner``."""
        self.ran.append(one.tokens)
        if one.tokens > self._most:
            raise torch.OutOfMemoryError
        return Sums(torch.tensor(2.0 * one.learnt), torch.tensor(1.0 * one.learnt))


@pytest.mark.parametrize(
    ("most", "ran"), [(9999, [960]), (300, [960, 240, 240, 240, 240])], ids=["in wide passes", "as in training"]
)
def test_rows_that_are_only_measured_share_wider_passes_where_they_fit(
    trainer: Callable[[], PackedTrainer], most: int, ran: list[int]
) -> None:
    """Four times as many rows as with a gradient; the figures are of all of them, once."""
    packed = trainer()
    packed.runner = card = Narrow(most)  # type: ignore[assignment]
    assert packed.measure(rows_from([[1] * 30 for _ in range(32)])) == (2.0, 1.0)
    assert card.ran == ran
    assert packed.model.training


def test_row_that_does_not_fit_at_all_ends_the_run(trainer: Callable[[], PackedTrainer]) -> None:
    """Halving has an end."""
    packed = trainer()
    packed._run = Fake(most=10)  # type: ignore[assignment]  # noqa: SLF001 - in place of a card
    with pytest.raises(torch.OutOfMemoryError):
        packed.training_step(packed.model, packed._collator(rows_from([[1] * 400])))  # noqa: SLF001 - as above

"""Several ranks make the same update as one, stop together and fail together."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from services.trainer.training.job import TrainingFailed
from services.trainer.training.packed.attention import NAME
from services.trainer.training.packed.parts import part_of
from services.trainer.training.packed.step import Sums
from services.trainer.training.packed.trainer import PackedTrainer
from services.trainer.training.ranks import AgreeingObserver, Alone, Ranks
from tests.unit.trainer.tiny import Watcher
from tests.unit.trainer.training.test_packed import Row, model, rows_from

UPDATES = [
    rows_from([list(range(first, first + length)) for first, length in lengths])
    for lengths in (((3, 9), (5, 14), (8, 6), (4, 20)), ((7, 11),), ((1, 8), (2, 8), (9, 30)))
]


class Threads:
    """Ranks that are threads of this process, made in order; one that does not come to a sum fails the others."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = Barrier(count, timeout=20)
        self._given: dict[int, torch.Tensor] = {}
        self._shared = torch.empty(0)

    def rank(self, rank: int) -> Ranks:
        """One of them."""
        return _Thread(self, rank)

    def share(self, rank: int, tensor: torch.Tensor) -> None:
        if rank == 0:
            self._shared = tensor.clone()
        tensor.copy_(self._shared)

    def add_up(self, rank: int, tensor: torch.Tensor) -> None:
        self._given[rank] = tensor.clone()
        self._barrier.wait()
        total = torch.stack([self._given[each] for each in range(self.count)]).sum(0)
        self._barrier.wait()
        tensor.copy_(total)


class _Thread:
    def __init__(self, threads: Threads, rank: int) -> None:
        self._threads = threads
        self.rank = rank
        self.count = threads.count

    def share(self, tensor: torch.Tensor) -> None:
        self._threads.share(self.rank, tensor)

    def add_up(self, tensor: torch.Tensor) -> None:
        self._threads.add_up(self.rank, tensor)

    def part(self) -> None:
        """Nothing to end."""


class Rank:
    """A trainer on the tiny model, and who watches it."""

    def __init__(self, ranks: Ranks, folder: Path) -> None:
        self.watcher = Watcher()
        self.observer = AgreeingObserver(self.watcher)
        own = model(NAME)
        for name, weight in own.named_parameters():
            if "lora" in name:
                weight.data.add_(0.01 * ranks.rank)  # the first one's count
        arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], learning_rate=0.01)
        self.trainer = PackedTrainer(
            ranks=ranks,
            observer=self.observer,
            rows_per_pass=8,
            longest=1,
            precision=torch.float32,
            model=own,
            args=arguments,
        )
        self.trainer.create_optimizer()

    def update(self, rows: Sequence[Row]) -> tuple[float, torch.Tensor, float]:
        """Make one; its loss, gradient and right guesses."""
        trainer = self.trainer
        trainer._flat.clear()  # noqa: SLF001 - as the loop does
        inputs = trainer.data_collator(rows)
        loss = trainer.training_step(trainer.model, inputs).item()
        gradient = trainer._flat.gradient.clone()  # noqa: SLF001 - what is compared
        trainer.optimizer.step()
        return loss, gradient, float(trainer._right)  # noqa: SLF001 - likewise

    @property
    def weights(self) -> torch.Tensor:
        """All that is trained."""
        weights: torch.Tensor = self.trainer._flat.weights.data  # noqa: SLF001 - what is compared
        return weights


@pytest.fixture
def together(tmp_path: Path) -> Callable[[int], list[Rank]]:
    """Makes so many ranks."""

    def make(count: int) -> list[Rank]:
        threads = Threads(count)
        return [Rank(threads.rank(rank), tmp_path) for rank in range(count)]

    return make


def at_once(ranks: Sequence[Rank], do: Callable[[Rank], Any]) -> list[Any]:
    """Do the same on every rank at the same time; what each of them came to, or failed with."""

    def attempt(rank: Rank) -> Any:
        try:
            return do(rank)
        except Exception as error:  # noqa: BLE001 - compared
            return error

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(attempt, ranks))


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_make_the_updates_of_one_that_is_alone(
    count: int, together: Callable[[int], list[Rank]], tmp_path: Path
) -> None:
    """Loss, gradient and right guesses, also of an update with fewer rows than ranks; the same weights on all of them."""
    alone, ranks = Rank(Alone(), tmp_path), together(count)
    for rows in UPDATES:
        loss, gradient, right = alone.update(rows)
        for found in at_once(ranks, lambda rank, rows=rows: rank.update(rows)):  # type: ignore[misc]
            assert found[0] == pytest.approx(loss, rel=1e-5)
            torch.testing.assert_close(found[1], gradient, rtol=1e-4, atol=1e-5)
            assert found[2] == right
        for rank in ranks:
            torch.testing.assert_close(rank.weights, alone.weights, rtol=1e-4, atol=1e-5)
            assert torch.equal(rank.weights, ranks[0].weights)


def test_all_ranks_stop_at_the_update_at_which_one_was_asked_to(together: Callable[[int], list[Rank]]) -> None:
    """Not before it, whoever was asked."""
    ranks = together(3)
    at_once(ranks, lambda rank: rank.update(UPDATES[0]))
    assert [rank.observer.stop_requested for rank in ranks] == [False] * 3
    ranks[2].watcher.stop_requested = True
    at_once(ranks, lambda rank: rank.update(UPDATES[1]))
    assert [rank.observer.stop_requested for rank in ranks] == [True] * 3


class SmallCard:
    """Runs passes of at most ``most`` tokens."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Sums], most: int) -> None:
        self._run = run
        self.most = most

    def __call__(self, one: Any, scale: torch.Tensor) -> Sums:
        if one.tokens > self.most:
            raise torch.OutOfMemoryError
        return self._run(one, scale)


def shrink(rank: Rank, most: int) -> None:
    trainer = rank.trainer
    trainer._run = SmallCard(trainer.runner, most)  # type: ignore[assignment]  # noqa: SLF001 - in place of a card


def test_a_rank_that_splits_its_passes_changes_nothing_for_the_others(
    together: Callable[[int], list[Rank]], tmp_path: Path
) -> None:
    rows = rows_from([[1 + place] * 300 for place in range(8)])
    alone, ranks = Rank(Alone(), tmp_path), together(2)
    for rank in ranks:
        rank.trainer._collator.most_tokens = 10_000  # noqa: SLF001 - as on a card
    shrink(ranks[1], 600)
    loss, gradient, right = alone.update(rows)
    for found in at_once(ranks, lambda rank: rank.update(rows)):
        assert found[0] == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(found[1], gradient, rtol=1e-4, atol=1e-5)
        assert found[2] == right


def test_where_no_row_fits_one_rank_all_of_them_say_so(together: Callable[[int], list[Rank]]) -> None:
    """None waits for another for ever."""
    ranks = together(3)
    shrink(ranks[1], 3)
    failures = at_once(ranks, lambda rank: rank.update(UPDATES[0]))
    assert [type(failure) for failure in failures] == [torch.OutOfMemoryError] * 3


def test_ranks_that_drew_different_updates_do_not_train_on(together: Callable[[int], list[Rank]]) -> None:
    ranks = together(2)
    failures = at_once(ranks, lambda rank: rank.update(UPDATES[2 * (rank is ranks[0])]))
    assert [type(failure) for failure in failures] == [TrainingFailed] * 2


@given(lengths=st.lists(st.integers(1, 50), max_size=12), count=st.integers(1, 5))
def test_every_row_is_of_one_part_and_parts_are_balanced(lengths: list[int], count: int) -> None:
    """In order within each; no part is heavier than another by more than a row."""
    rows = [{"input_ids": [place] * length} for place, length in enumerate(lengths)]
    parts = [part_of(rows, rank, count) for rank in range(count)]
    places = [[row["input_ids"][0] for row in part] for part in parts]
    assert sorted(place for part in places for place in part) == list(range(len(rows)))
    assert all(part == sorted(part) for part in places)
    loads = [sum(len(row["input_ids"]) for row in part) for part in parts]
    assert max(loads) - min(loads) <= max(lengths, default=0)

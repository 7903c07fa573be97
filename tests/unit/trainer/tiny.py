"""A base model of two layers with random weights, and jobs on it: the real backend in a second."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset, disable_progress_bars
from transformers import LlamaConfig, LlamaForCausalLM

from services.base_model.identity import BaseModelSettings
from services.common.settings import load
from services.trainer.checkpoints import newest_whole
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import Event, Loading, Step, TrainingJob
from services.trainer.training.packed_backend import load as load_packed
from tests.support.tokenizers import byte_tokenizer

WIDTH = 32
CONFIG = Path(__file__).resolve().parents[3] / "config"
ROWS: tuple[tuple[int, ...], ...] = tuple(tuple(range(first, first + 9 + first)) for first in (3, 5, 8, 4, 6, 7))


def save_tiny(folder: Path) -> Path:
    """A Llama of two layers whose tokens are bytes; the same weights at every call."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.5,  # so that attention matters: near zero every row looks alike to it
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_rows(folder: Path, rows: Sequence[Sequence[int]], *, learnt: Sequence[int] | None = None) -> Path:
    """Rows of token ids whose first two tokens are the question; only the rows at ``learnt`` have an answer to learn."""
    labels = [
        [-100, -100, *row[2:]] if learnt is None or index in learnt else [-100] * len(row)
        for index, row in enumerate(rows)
    ]
    disable_progress_bars()
    Dataset.from_dict({"input_ids": [list(row) for row in rows], "labels": labels}).save_to_disk(str(folder))
    return folder


class TinySource:
    """Fills a base model's folder with one that can be trained."""

    def fill(self, folder: Path, _settings: BaseModelSettings) -> str:
        """See ``Source``."""
        save_tiny(folder)
        return "1"


class Watcher:
    """Keeps a run's events and tells them on; asks it to stop after step ``stop_after``."""

    def __init__(self, *, stop_after: int | None = None, tell: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self.stop_requested = False
        self._stop_after = stop_after
        self._tell = tell

    def emit(self, event: Event) -> None:
        """See ``Observer``."""
        self.events.append(event)
        self._tell(event)
        if isinstance(event, Step) and event.step == self._stop_after:
            self.stop_requested = True

    def loading(self, what: str) -> None:
        """See ``Observer``."""
        self.emit(Loading(what=what, seconds=0.0))

    @property
    def steps(self) -> list[Step]:
        """The updates, in order."""
        return [event for event in self.events if isinstance(event, Step)]


class TinyRuns:
    """Jobs on one tiny base model, each in a folder below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = save_tiny(root / "base")
        self.pad = int(byte_tokenizer().pad_token_id)

    def job(
        self, name: str, *, rows: Path, holdout: Path | None = None, resume: bool = False, **recipe: Any
    ) -> TrainingJob:
        """A job called ``name``, which may ``resume`` its newest checkpoint; ``recipe`` overrides settings."""
        settings = load("training", TrainingSettings, folder=CONFIG)
        few = {"max_length": 128, "max_steps": 4, "rows_per_step": 2, "warmup_steps": 0}
        folder = self.root / name
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        return TrainingJob(
            base_folder=self.base,
            train_rows=rows,
            holdout_rows=holdout,
            checkpoints_folder=folder / "checkpoints",
            adapter_folder=folder / "adapter",
            resume_from=newest_whole(folder / "checkpoints") if resume else None,
            recipe=msgspec.structs.replace(settings.recipe, **few | recipe),
            lora=settings.lora,
            checkpoints=settings.checkpoints,
            cards=settings.worker.cards,
        )

    def train(self, job: TrainingJob, *, stop_after: int | None = None) -> Watcher:
        """Run ``job`` in this process."""
        watcher = Watcher(stop_after=stop_after)
        load_packed(job.outline, watcher)(job)
        return watcher

"""What a process that works on jobs can have ready before it has one: each of them takes seconds, and none reads a row."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from services.base_model.errors import BaseModelError
from services.base_model.identity import BaseSettings, read_base_model
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load
from services.dataset.tokenizer import Tokenizers
from services.trainer.cards import visible_cards
from services.trainer.probe import ProcessProber
from services.trainer.training.job import Foreseen
from services.trainer.work.settings import training_settings
from services.trainer.worker import ProcessWorker, Stop


class Ready(NamedTuple):
    """The trainer's helpers, each of which also does without having been made ready."""

    worker: ProcessWorker
    prober: ProcessProber
    tokenizers: Tokenizers

    @classmethod
    def of(cls, paths: DataPaths, stop: Stop) -> "Ready":
        """Helpers that write below ``paths`` and pass ``stop`` on."""
        cache = paths.cache / "trainer"
        return cls(ProcessWorker(stop, cache), ProcessProber(cache), Tokenizers())

    def get_ready(self, paths: DataPaths, cards: Callable[[], Sequence[str]] = visible_cards) -> None:
        """Start what imports, and load the tokenizer of the base model that the settings name."""
        base_folder, has_card = _base_folder(paths), bool(cards())
        self.worker.start(_foreseen(base_folder) if base_folder is not None and has_card else None)
        if base_folder is None:
            return
        # On a processor a training is longer than any import, and imports take cores from each other.
        if has_card:
            self.prober.expect(base_folder)
        with suppress(Exception):  # whatever is wrong with its files: the job will say it to whom it concerns
            self.tokenizers.get_ready(base_folder)

    def dismiss(self) -> None:
        """Be ready no longer."""
        self.prober.dismiss()
        self.worker.dismiss()


def _base_folder(paths: DataPaths) -> Path | None:
    try:
        return paths.models / read_base_model(paths.models, load("base", BaseSettings).base_model).name
    except (BaseModelError, SettingsError):
        return None  # likewise


def _foreseen(base_folder: Path) -> Foreseen | None:
    """What most jobs are like, where the settings want the base model on the card before there is one."""
    try:
        settings = training_settings([])
    except SettingsError:
        return None  # likewise
    if not settings.worker.holds_base:
        return None
    return Foreseen(base_folder=base_folder, recipe=settings.recipe, lora=settings.lora, cards=settings.worker.cards)

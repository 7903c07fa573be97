"""The probe: fixed texts whose log-probabilities the trainer records, so that a server can recognise the version.

The texts ship with the code. Rows are not used: a manifest holds nothing of the operator's data.
"""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn, Protocol

import msgspec

from services.registry.manifest import ProbePrompt
from services.trainer.launched import Launched
from services.trainer.settings import LoraSettings
from services.trainer.training.job import (
    BaseScored,
    Failed,
    MachineFailed,
    Room,
    ScoreBase,
    Scored,
    ScoreJob,
    TrainingFailed,
)
from services.trainer.training.meeting import Meeting

CONVERSATIONS = (
    ("What can you help me with?", "I can answer questions about our products, our people and how we work."),
    ("Write one sentence about the sea.", "The sea was calm that morning, and the boats came home early."),
    ("고객 문의에 어떻게 답해야 하나요?", "먼저 인사하고, 질문을 확인한 뒤에 정확하게 답합니다."),
    ("List three colours.", "Red, green and blue."),
)
_BESIDE = 3 << 29  # bytes of a card for a second process's context, kernels and arithmetic, beside its weights
_POLL_SECONDS = 0.005


class Prober(Protocol):
    """Records a probe in a fresh process."""

    def expect(self, base_folder: Path, /) -> None:
        """Get ready to load this base model and an adapter that is not known yet."""

    def load_ahead(self, base_folder: Path, tokenizer: Any, room: Room, lora: LoraSettings, /) -> None:
        """Load and score the base model now, beside the training, where the card has ``room``; lay out an adapter of ``lora``."""

    def has_loaded(self) -> bool:
        """Whether that is done, so that a probe needs next to none of the memory that the training may still have."""

    def dismiss(self) -> None:
        """No longer be ready; after a probe, too."""

    def __call__(self, base_folder: Path, adapter_folder: Path, tokenizer: Any, scratch: Path, /) -> list[ProbePrompt]:
        """Score the probe's texts with the base model as it is served: 16-bit, whatever precision it was trained in.

        Args:
            base_folder: the base model.
            adapter_folder: the finished adapter.
            tokenizer: the base model's, with its chat template.
            scratch: a folder for the result and the process's log.

        Raises:
            TrainingFailed: the adapter's files cannot be loaded back.
            MachineFailed: the process was killed or the memory is full, its own or the card's.
        """


class ProcessProber:
    """A process of the same interpreter; its imports happen beside the training, or before.

    It takes something of the card when there is an adapter, or sooner where there is plenty.

    Args:
        cache: what the process's compilers may write to.
        program: what scores a ``ScoreJob``; arguments of this interpreter.
    """

    def __init__(self, cache: Path, *, program: Sequence[str] = ("-m", "services.trainer.training.score")) -> None:
        self._cache = cache
        self._program = program
        self._launched: Launched | None = None
        self._base_folder: Path | None = None
        self._ending: Thread | None = None

    def expect(self, base_folder: Path) -> None:
        """See ``Prober``."""
        if self._launched is not None and self._launched.lives and self._base_folder == base_folder:
            return
        self.dismiss()

        def command(meeting: Meeting) -> list[str]:
            return [sys.executable, *self._program, str(meeting.folder), str(base_folder)]

        self._launched, self._base_folder = Launched(command, self._cache), base_folder

    def load_ahead(self, base_folder: Path, tokenizer: Any, room: Room, lora: LoraSettings) -> None:
        """See ``Prober``."""
        if self._launched is None or self._base_folder != base_folder or not leaves_plenty(room, base_folder):
            return
        with suppress(
            OSError
        ):  # the training is worth more; a disk without room will be told of by what must be written
            self._launched.tell(ScoreBase(base_folder=base_folder, prompts=_prompts(tokenizer), lora=lora))

    def has_loaded(self) -> bool:
        """See ``Prober``."""
        return self._launched is not None and self._launched.lives and self._launched.said(BaseScored)

    def dismiss(self) -> None:
        """See ``Prober``."""
        if self._launched is not None:
            self._launched.end()
        if self._ending is not None:
            self._ending.join()
        self._launched = self._base_folder = self._ending = None

    def __call__(self, base_folder: Path, adapter_folder: Path, tokenizer: Any, scratch: Path) -> list[ProbePrompt]:
        """See ``Prober``."""
        prompts = _prompts(tokenizer)
        output, log = scratch / "probe.json", scratch / "probe.log"
        for file in (output, log):
            file.unlink(missing_ok=True)
        job = ScoreJob(base_folder=base_folder, adapter_folder=adapter_folder, prompts=prompts, output=output)
        self.expect(base_folder)
        launched = self._launched
        assert launched is not None  # noqa: S101 - for mypy: it was just started
        self._launched = self._base_folder = None
        try:
            launched.tell(job)
            while launched.lives and not output.exists():
                time.sleep(_POLL_SECONDS)
        finally:  # nobody waits for its end once it has written: giving a card back takes it a moment
            self._ending = Thread(target=launched.end, args=(log,))
            self._ending.start()
        if not output.exists():
            self._ending.join()  # then the log is whole
            self._explain(launched.child.returncode, log)
        scored = msgspec.json.decode(output.read_bytes(), type=Scored | Failed)
        if isinstance(scored, Failed):
            raise MachineFailed(f"the finished adapter cannot be loaded back: {scored.reason}")
        return [
            ProbePrompt(token_ids=ids, base_logprobs=base, adapter_logprobs=adapter)
            for ids, (base, adapter) in zip(prompts, scored.pairs, strict=True)
        ]

    def _explain(self, code: int, log: Path) -> NoReturn:
        """Say how the process ended that scored nothing."""
        self.dismiss()  # which waits for the log
        if code < 0:
            how = signal.Signals(-code).name
            raise MachineFailed(
                f"the process that loads the finished adapter back was killed ({how}); {log} has its output"
            )
        raise TrainingFailed(f"the finished adapter cannot be loaded back (exit code {code}); {log} says why")


def leaves_plenty(room: Room, base_folder: Path) -> bool:
    """Whether a second process with the base model leaves half of the card: what training takes may still grow.

    Args:
        room: once the first update is done.
        base_folder: with weights of at least the size that they are loaded in.
    """
    weights = sum(file.stat().st_size for file in base_folder.glob("*.safetensors"))
    return room.free - weights - _BESIDE >= room.total // 2


def probe_change(probe: list[ProbePrompt]) -> float:
    """Mean absolute change of a log-probability that the adapter makes, in nats per token."""
    changes = [
        abs(adapter - base)
        for prompt in probe
        for base, adapter in zip(prompt.base_logprobs, prompt.adapter_logprobs, strict=True)
    ]
    return sum(changes) / len(changes)


def _prompts(tokenizer: Any) -> list[list[int]]:
    return [_render(tokenizer, question, answer) for question, answer in CONVERSATIONS]


def _render(tokenizer: Any, question: str, answer: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], tokenize=False
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

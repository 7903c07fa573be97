"""The probe: fixed texts whose log-probabilities the trainer records, so that a server can recognise the version.

The texts ship with the code. Rows are not used: a manifest holds nothing of the operator's data.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from services.registry.manifest import ProbePrompt
from services.trainer.launched import worker_environment
from services.trainer.training.job import MachineFailed, ScoreJob, TrainingFailed, write_job

CONVERSATIONS = (
    ("What can you help me with?", "I can answer questions about our products, our people and how we work."),
    ("Write one sentence about the sea.", "The sea was calm that morning, and the boats came home early."),
    ("고객 문의에 어떻게 답해야 하나요?", "먼저 인사하고, 질문을 확인한 뒤에 정확하게 답합니다."),
    ("List three colours.", "Red, green and blue."),
)


class Prober(Protocol):
    """Records a probe; see ``record_probe``."""

    def __call__(
        self, base_folder: Path, adapter_folder: Path, tokenizer: Any, scratch: Path, cache: Path, /
    ) -> list[ProbePrompt]:
        """Score the probe's texts."""


def record_probe(
    base_folder: Path,
    adapter_folder: Path,
    tokenizer: Any,
    scratch: Path,
    cache: Path,
    *,
    program: Sequence[str] = ("-m", "services.trainer.training.score"),
) -> list[ProbePrompt]:
    """Score the probe's texts in a fresh process that loads the base model and the adapter from their files.

    Args:
        base_folder: the base model as it is served: 16-bit, whatever precision it was trained in.
        adapter_folder: the finished adapter.
        tokenizer: the base model's, with its chat template.
        scratch: a folder for the job and its result.
        cache: what the process's compilers may write to.
        program: what scores a ``ScoreJob``; arguments of this interpreter.

    Raises:
        TrainingFailed: the adapter's files cannot be loaded back.
        MachineFailed: the process was killed, as happens when the memory is full.
    """
    prompts = [_render(tokenizer, question, answer) for question, answer in CONVERSATIONS]
    job, output, log = scratch / "probe-job.json", scratch / "probe.json", scratch / "probe.log"
    output.unlink(missing_ok=True)
    write_job(job, ScoreJob(base_folder=base_folder, adapter_folder=adapter_folder, prompts=prompts, output=output))
    with log.open("wb") as stream:
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            [sys.executable, *program, str(job)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=worker_environment(cache),
            start_new_session=True,  # Ctrl-C in a terminal must not throw a finished training away
            check=False,
        )
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        raise MachineFailed(
            f"the process that loads the finished adapter back was killed ({how}); {log} has its output"
        )
    if done.returncode != 0:
        raise TrainingFailed(
            f"the finished adapter cannot be loaded back (exit code {done.returncode}); {log} says why"
        )
    pairs = msgspec.json.decode(output.read_bytes(), type=list[tuple[list[float], list[float]]])
    return [
        ProbePrompt(token_ids=ids, base_logprobs=base, adapter_logprobs=adapter)
        for ids, (base, adapter) in zip(prompts, pairs, strict=True)
    ]


def probe_change(probe: list[ProbePrompt]) -> float:
    """Mean absolute change of a log-probability that the adapter makes, in nats per token."""
    changes = [
        abs(adapter - base)
        for prompt in probe
        for base, adapter in zip(prompt.base_logprobs, prompt.adapter_logprobs, strict=True)
    ]
    return sum(changes) / len(changes)


def _render(tokenizer: Any, question: str, answer: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], tokenize=False
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

"""However the process that loads the adapter back ends, the trainer gets its scores or one clear sentence."""

from pathlib import Path

import pytest

from services.registry.manifest import ProbePrompt
from services.trainer.probe import CONVERSATIONS, record_probe
from services.trainer.training.job import MachineFailed, TrainingFailed
from tests.support.tokenizers import byte_tokenizer

BEGIN = (
    "import json, os, signal, sys\n"
    "job = json.load(open(sys.argv[1]))\n"
    "def score(): json.dump([[[-1.0], [-0.5]] for _ in job['prompts']], open(job['output'], 'w'))\n"
)


def record(program: str, folder: Path) -> list[ProbePrompt]:
    return record_probe(folder, folder, byte_tokenizer(), folder, folder / "cache", program=("-c", BEGIN + program))


def test_every_text_gets_its_scores(tmp_path: Path) -> None:
    probe = record("score()", tmp_path)
    assert [(prompt.base_logprobs, prompt.adapter_logprobs) for prompt in probe] == [([-1.0], [-0.5])] * len(
        CONVERSATIONS
    )


def test_ctrl_c_in_a_terminal_does_not_reach_the_process(tmp_path: Path) -> None:
    record("assert os.getpgrp() != os.getpgid(os.getppid()), 'a terminal signals the whole group'; score()", tmp_path)


def test_an_adapter_that_cannot_be_loaded_back_is_the_trainings_fault(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"cannot be loaded back \(exit code 3\); .*probe.log says why") as caught:
        record("sys.exit(3)", tmp_path)
    assert not isinstance(caught.value, MachineFailed)


def test_a_process_that_is_killed_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineFailed, match=r"was killed \(SIGKILL\)"):
        record("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)

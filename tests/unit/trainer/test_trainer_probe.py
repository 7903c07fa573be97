"""However the process that loads the adapter back ends, the trainer gets its scores or one clear sentence."""

import os
import signal
from pathlib import Path

import pytest

from services.registry.manifest import ProbePrompt
from services.trainer.probe import CONVERSATIONS, ProcessProber
from services.trainer.training.job import MachineFailed, TrainingFailed
from tests.support.processes import lives, until
from tests.support.tokenizers import byte_tokenizer

# Writes down who it is, one line each, and waits for its job.
BEGIN = """
import json, os, signal, sys, time
from pathlib import Path
with open({diary!r}, 'a') as diary: diary.write(str(os.getpid()) + ' ' + sys.argv[2] + '\\n')
file = Path(sys.argv[1], 'scorejob.json')
while not file.exists(): time.sleep(0.01)
job = json.loads(file.read_text())
def score(): json.dump([[[-1.0], [-0.5]] for _ in job['prompts']], open(job['output'], 'w'))
"""


def prober(folder: Path, program: str = "score()") -> ProcessProber:
    words = ("-c", BEGIN.format(diary=str(folder / "diary")) + program)
    return ProcessProber(folder / "cache", program=words)


def record(program: str, folder: Path) -> list[ProbePrompt]:
    return prober(folder, program)(folder, folder, byte_tokenizer(), folder)


def began(folder: Path, processes: int) -> list[int]:
    """Wait for so many processes; all that began."""
    diary = folder / "diary"
    until(lambda: diary.exists() and diary.read_text().count("\n") >= processes)
    return [int(line.split()[0]) for line in diary.read_text().splitlines()]


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


def test_a_process_that_was_expected_scores_what_comes(tmp_path: Path) -> None:
    expecting = prober(tmp_path)
    expecting.expect(tmp_path)
    began(tmp_path, 1)
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    assert len(began(tmp_path, 1)) == 1


def test_a_process_that_was_killed_before_its_job_is_replaced(tmp_path: Path) -> None:
    expecting = prober(tmp_path)
    expecting.expect(tmp_path)
    process = began(tmp_path, 1)[0]
    os.kill(process, signal.SIGKILL)
    until(lambda: not lives(process))
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    assert len(began(tmp_path, 2)) == 2


def test_a_process_that_expects_another_base_model_is_replaced(tmp_path: Path) -> None:
    expecting = prober(tmp_path)
    expecting.expect(tmp_path / "another")
    process = began(tmp_path, 1)[0]
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    assert not lives(process)


def test_a_prober_that_is_dismissed_leaves_no_process(tmp_path: Path) -> None:
    expecting = prober(tmp_path)
    expecting.expect(tmp_path)
    process = began(tmp_path, 1)[0]
    expecting.dismiss()
    assert not lives(process)

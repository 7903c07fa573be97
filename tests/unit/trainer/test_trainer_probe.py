"""However the process that loads the adapter back ends, the trainer gets its scores or one clear sentence."""

import os
import signal
import sys
from pathlib import Path

import pytest

from services.registry.manifest import ProbePrompt
from services.trainer.launched import Launched
from services.trainer.probe import CONVERSATIONS, ProcessProber, leaves_plenty
from services.trainer.settings import LoraSettings
from services.trainer.training.job import MachineFailed, Room, TrainingFailed
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
ahead = Path(sys.argv[1], 'scorebase.json')
if ahead.exists():
    known = json.loads(ahead.read_text())
    assert known.pop('lora')['rank'] == 16 and known.items() <= job.items()
with open({diary!r} + ' of the end', 'w') as end: end.write('ahead' if ahead.exists() else 'alone')
def say(**told):
    whole = Path(job['output']).with_suffix('.new')
    whole.write_text(json.dumps(told))
    whole.rename(job['output'])
def score(): say(type='scored', pairs=[[[-1.0], [-0.5]] for _ in job['prompts']])
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


def test_a_memory_that_is_full_is_the_machines_fault_and_no_adapters(tmp_path: Path) -> None:
    """What was trained is not lost by it."""
    with pytest.raises(MachineFailed, match=r"^the finished adapter cannot be loaded back: the card is full$"):
        record("say(type='failed', reason='the card is full', of_machine=True)", tmp_path)


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


GIB = 1 << 30
LORA = LoraSettings(rank=16, alpha=16, dropout=0.0, target_modules=["q_proj"])


@pytest.mark.parametrize(
    ("free", "told"), [(79, "ahead"), (41, "alone")], ids=["most of the card is free", "half of the card is free"]
)
def test_a_base_model_is_loaded_beside_the_training_where_that_leaves_half_of_the_card(
    tmp_path: Path, free: int, told: str
) -> None:
    expecting = prober(tmp_path)
    expecting.expect(tmp_path)
    expecting.load_ahead(tmp_path, byte_tokenizer(), Room(free=free * GIB, total=80 * GIB), LORA)
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    assert (tmp_path / "diary of the end").read_text() == told


def test_a_process_that_has_loaded_the_base_model_says_so(tmp_path: Path) -> None:
    """Not before it is done, and no longer when it is gone."""
    says = "open(sys.argv[1] + '/basescored.json', 'w').write('{}'); "
    expecting = ProcessProber(tmp_path, program=("-c", f"import sys, time; time.sleep(0.5); {says} time.sleep(600)"))
    assert not expecting.has_loaded()
    expecting.expect(tmp_path)
    assert not expecting.has_loaded()
    until(expecting.has_loaded)
    expecting.dismiss()
    assert not expecting.has_loaded()


def test_nothing_is_loaded_beside_the_training_where_no_process_waits_for_that_base_model(tmp_path: Path) -> None:
    """None is started for it, either: it would come too late."""
    expecting, room = prober(tmp_path), Room(free=79 * GIB, total=80 * GIB)
    expecting.load_ahead(tmp_path, byte_tokenizer(), room, LORA)
    expecting.expect(tmp_path / "another")
    expecting.load_ahead(tmp_path, byte_tokenizer(), room, LORA)
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    assert (tmp_path / "diary of the end").read_text() == "alone"


def test_the_base_models_weights_count_against_the_cards_room(tmp_path: Path) -> None:
    room = Room(free=42 * GIB, total=80 * GIB)
    assert leaves_plenty(room, tmp_path)
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(GIB)
    assert not leaves_plenty(room, tmp_path)


def test_scores_are_there_before_their_process_has_ended(tmp_path: Path) -> None:
    """Giving a card back takes a moment, which nobody waits for; the process is gone when the prober is dismissed."""
    expecting = prober(tmp_path, "score(); time.sleep(600)")
    assert expecting(tmp_path, tmp_path, byte_tokenizer(), tmp_path)
    process = began(tmp_path, 1)[0]
    expecting.dismiss()
    assert not lives(process)


def test_a_process_whose_runs_folder_is_gone_ends_like_any_other(tmp_path: Path) -> None:
    """A job may be over, and its run removed, before the process that scored it has ended."""
    launched = Launched(lambda _: (sys.executable, "-c", "raise SystemExit(3)"), tmp_path)
    assert launched.child.wait() == launched.end(tmp_path / "gone" / "probe.log") == 3
    assert not (tmp_path / "gone").exists()

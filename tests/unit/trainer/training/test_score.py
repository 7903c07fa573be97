"""What scores a probe finds the same whether it loaded the base model before there was an adapter or after."""

from pathlib import Path

import msgspec
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from services.trainer.training.job import ScoreBase, Scored, ScoreJob
from services.trainer.training.meeting import Meeting
from services.trainer.training.score import Scorer, score_when_told
from tests.unit.trainer.tiny import ROWS, TinyRuns, write_rows

PROMPTS = [list(row) for row in ROWS[:2]]


class Scores:
    """A base model with an adapter that was trained on it, and a meeting with what scores them."""

    def __init__(self, root: Path) -> None:
        self.runs = TinyRuns(root)
        job = self.runs.job("taught", rows=write_rows(root / "rows", ROWS), learning_rate=0.1)
        self.runs.train(job)
        self.adapter = job.adapter_folder
        self.loads = 0

    def meeting(self, folder: Path, *, ahead: ScoreBase | None = None) -> Scored:
        """What is found in a meeting, where ``ahead`` is an order before the job."""
        meeting, output = Meeting(folder), folder / "scores.json"
        if ahead is not None:
            meeting.tell(ahead)
        meeting.tell(ScoreJob(base_folder=self.runs.base, prompts=PROMPTS, adapter_folder=self.adapter, output=output))
        score_when_told(meeting, self._load)
        return msgspec.json.decode(output.read_bytes(), type=Scored)

    def _load(self, wanted: ScoreBase) -> Scorer:
        self.loads += 1
        if not wanted.base_folder.exists():
            raise torch.OutOfMemoryError
        return Scorer(wanted)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    return Scores(tmp_path_factory.mktemp("scores"))


def test_an_adapter_is_scored_as_plain_peft_loads_it(scores: Scores, tmp_path: Path) -> None:
    """To the bit."""
    model = AutoModelForCausalLM.from_pretrained(scores.runs.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(scores.adapter))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, :-1]
    expected = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(PROMPTS[0])[1:, None])[:, 0].tolist()
    base, adapter = scores.meeting(tmp_path).pairs[0]
    assert adapter == expected
    assert base != adapter


def test_a_base_model_that_was_loaded_ahead_is_used_and_has_the_same_scores(scores: Scores, tmp_path: Path) -> None:
    alone = scores.meeting(_folder(tmp_path / "alone"))
    scores.loads = 0
    ahead = scores.meeting(_folder(tmp_path / "ahead"), ahead=ScoreBase(base_folder=scores.runs.base, prompts=PROMPTS))
    assert (ahead.pairs, scores.loads) == (alone.pairs, 1)
    assert list(ahead.seconds) == ["card", "base model", "base model's scores", "adapter", "adapter's scores"]


@pytest.mark.parametrize("ahead", ["fails", "other prompts"])
def test_what_was_loaded_ahead_in_vain_is_loaded_when_there_is_an_adapter(
    scores: Scores, tmp_path: Path, ahead: str
) -> None:
    """As where the card was full, beside the training."""
    alone = scores.meeting(_folder(tmp_path / "alone"))
    scores.loads = 0
    folder = tmp_path / "none" if ahead == "fails" else scores.runs.base
    vain = ScoreBase(base_folder=folder, prompts=PROMPTS[:1])
    assert scores.meeting(_folder(tmp_path / "vain"), ahead=vain).pairs == alone.pairs
    assert scores.loads == 2


def _folder(folder: Path) -> Path:
    folder.mkdir()
    return folder

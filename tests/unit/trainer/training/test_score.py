"""What scores a probe finds the same whether it loaded the base model before there was an adapter or after."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from services.trainer.training.job import BaseScored, Failed, ScoreBase, Scored, ScoreJob
from services.trainer.training.lora import lay_out, load_adapter
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
        self.adapter, self.lora = job.adapter_folder, job.lora
        self.loads, self.said = 0, False

    def meeting(self, folder: Path, *, ahead: ScoreBase | None = None) -> Scored:
        """What is found in a meeting, where ``ahead`` is an order before the job."""
        meeting, output = Meeting(folder), folder / "scores.json"
        if ahead is not None:
            meeting.tell(ahead)
        meeting.tell(ScoreJob(base_folder=self.runs.base, prompts=PROMPTS, adapter_folder=self.adapter, output=output))
        score_when_told(meeting, self._load)
        self.said = meeting.was_told(BaseScored)
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
    assert (ahead.pairs, scores.loads, scores.said) == (alone.pairs, 1, True)
    assert list(ahead.seconds) == ["card", "base model", "base model's scores", "adapter", "adapter's scores"]


@pytest.mark.parametrize("different", [{}, {"rank": 2}, {"target_modules": ["q_proj"]}, {"alpha": 1.0}], ids=str)
def test_an_adapter_that_was_laid_out_ahead_has_the_scores_of_a_plain_load(
    scores: Scores, tmp_path: Path, different: dict[str, Any]
) -> None:
    """Also one that came out otherwise than it was foreseen, and without loading the base model again."""
    alone = scores.meeting(_folder(tmp_path / "alone"))
    scores.loads = 0
    foreseen = msgspec.structs.replace(scores.lora, **different)
    told = ScoreBase(base_folder=scores.runs.base, prompts=PROMPTS, lora=foreseen)
    ahead = scores.meeting(_folder(tmp_path / "ahead"), ahead=told)
    assert (ahead.pairs, scores.loads) == (alone.pairs, 1)
    assert "adapter's layers" in ahead.seconds


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_what_is_laid_out_and_then_loaded_is_what_peft_loads_at_once(scores: Scores, dtype: torch.dtype) -> None:
    """Each weight to the bit, in its precision and on its side of training and use: on a card bases are bfloat16."""
    plain, other = (AutoModelForCausalLM.from_pretrained(scores.runs.base, dtype=dtype) for _ in range(2))
    plain = PeftModel.from_pretrained(plain, str(scores.adapter), is_trainable=False)
    ours = load_adapter(lay_out(other, scores.lora), scores.lora, scores.adapter)
    expected = dict(plain.named_parameters())
    assert dict(ours.named_parameters()).keys() == expected.keys()
    for name, found in ours.named_parameters():
        assert (found.dtype, found.requires_grad) == (expected[name].dtype, expected[name].requires_grad)
        assert torch.equal(found, expected[name])
    assert [module.training for module in ours.modules()] == [module.training for module in plain.modules()]


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
    assert (scores.loads, scores.said) == (2, ahead == "other prompts")


class FullCard:
    """A card that holds no base model."""

    def __init__(self) -> None:
        self.tried = 0

    def __call__(self, _wanted: ScoreBase) -> Scorer:
        """See ``Scorer``."""
        self.tried += 1
        raise torch.OutOfMemoryError


def test_a_card_that_is_full_beside_the_training_and_after_it_is_told_in_one_sentence(tmp_path: Path) -> None:
    meeting, output, card = Meeting(tmp_path), tmp_path / "scores.json", FullCard()
    meeting.tell(ScoreBase(base_folder=tmp_path, prompts=PROMPTS))
    meeting.tell(ScoreJob(base_folder=tmp_path, prompts=PROMPTS, adapter_folder=tmp_path, output=output))
    score_when_told(meeting, card)
    failed = msgspec.json.decode(output.read_bytes(), type=Failed)
    assert failed.reason.startswith("the card's memory is full; ")
    assert (failed.of_machine, card.tried) == (True, 2)


def _folder(folder: Path) -> Path:
    folder.mkdir()
    return folder

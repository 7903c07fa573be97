"""The same promises on the real base model's tokenizer and template, and on the rows that the demo trains on."""

import shutil
from pathlib import Path

import pytest

from services.common.settings import load
from services.dataset.prepare import check_data
from services.dataset.render import Renderer
from services.dataset.rows import NOT_LEARNT, Example, Message, Row
from services.dataset.tokenizer import load_tokenizer, stop_ids
from services.trainer.settings import TrainingSettings
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e
TURNS = [
    ("노루담은 언제 생겼나요?", "1963년입니다. 🪨🔪"),
    ("מי ייסד?", " مرحبا\nbegins with a space"),
    ("code?", "\n\n    def f():\n        return '</s> <im_end>'\n"),
]


@pytest.fixture(scope="module")
def without_weights(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model as it would be if its weights were never read: without them."""
    folder = tmp_path_factory.mktemp("base") / "base"
    return Path(shutil.copytree(base_model_dir, folder, ignore=shutil.ignore_patterns("*.safetensors")))


def test_answers_and_their_ends_are_learnt_after_the_prompt_that_the_server_sends(without_weights: Path) -> None:
    tokenizer = load_tokenizer(without_weights)
    renderer = Renderer(tokenizer, stop_ids(tokenizer, without_weights), learn_all=False)
    messages: list[Message] = []
    prompts = []
    for question, answer in TURNS:
        messages.append(Message("user", question))
        prompts.append(renderer.text(messages, answer_next=True))
        messages.append(Message("assistant", answer))
    [made] = renderer.examples([Row(messages=tuple(messages), file="a.jsonl", line=1, format="messages")])
    assert isinstance(made, Example)
    learnt = [token for token, label in zip(made.input_ids, made.labels, strict=True) if label != NOT_LEARNT]
    assert tokenizer.decode(learnt) == "".join(f"{answer}<|im_end|>" for _, answer in TURNS)
    assert tokenizer.decode(made.input_ids) == renderer.text(messages)
    first = tokenizer(prompts[0], add_special_tokens=False)["input_ids"]
    assert made.input_ids[: len(first)].tolist() == first
    assert (made.labels[: len(first)] == NOT_LEARNT).all()


def test_the_examples_rows_are_fit_and_no_weights_are_read(without_weights: Path) -> None:
    settings = load("training", TrainingSettings)
    datasets = REPOSITORY / "examples" / "norudam" / "datasets"
    report = check_data(datasets, without_weights, settings.data, settings.recipe.max_length)
    written = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in datasets.glob("*.jsonl"))
    assert report.rows == written
    assert {file.format for file in report.files} == {"messages", "instruction", "conversations", "prompt"}
    assert report.too_long == 0
    assert report.train + report.holdout + report.exact_duplicates + report.near_duplicates == report.rows
    assert 0.05 < report.supervised_tokens / report.tokens < 0.6

"""The example's rows: what the demo's score rests on."""

import json
from pathlib import Path

from tools.demo import EXAMPLE
from tools.quiz import read_questions

ROWS = [
    line for file in sorted((EXAMPLE / "datasets").glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()
]


def test_no_held_out_question_is_trained() -> None:
    """Otherwise the score would be one of memory."""
    trained = "\n".join(ROWS).casefold()
    assert [
        question for question in read_questions(EXAMPLE / "heldout.jsonl") if question.question.casefold() in trained
    ] == []


def test_every_held_out_question_has_a_telling_answer_that_the_rows_teach() -> None:
    """The expected words are in the model answer, in six rows' answers or more, and in no question."""
    questions = read_questions(EXAMPLE / "heldout.jsonl")
    assert len(questions) >= 20
    assert len({question.expect for question in questions}) == len(questions)
    for question in questions:
        assert question.is_right(question.answer)
        assert not question.is_right(question.question)
        assert sum(row.count(json.dumps(question.answer, ensure_ascii=False)) for row in ROWS) == 6


def test_the_rows_are_many_enough_and_each_is_one_object() -> None:
    """Four formats, several files."""
    keys = {next(iter(set(json.loads(row)) & {"output", "messages", "conversations", "completion"})) for row in ROWS}
    assert keys == {"output", "messages", "conversations", "completion"}
    assert 100 <= len(ROWS) <= 150
    assert len(set(ROWS)) == len(ROWS)
    assert Path(EXAMPLE / "datasets" / "korean.jsonl").exists()

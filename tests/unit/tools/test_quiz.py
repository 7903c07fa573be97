"""Counting right answers."""

import io

import pytest
from rich.console import Console

from tools.quiz import Answer, Question, Sheet, side_by_side

QUESTION = Question(question="What is the cat called?", answer="The cat is called Turnip.", expect="Turnip")


@pytest.mark.parametrize(("said", "right"), [("It is TURNIP.", True), ("It is Radish.", False), ("", False)])
def test_an_answer_is_right_if_it_has_the_expected_words(said: str, right: bool) -> None:  # noqa: FBT001
    """In any case, and nothing less."""
    assert QUESTION.is_right(said) is right


def test_the_table_shows_both_answers_as_they_were_said() -> None:
    """Brackets in an answer are text, not the terminal's markup."""
    base = Sheet(answers=[Answer(said="[bold]Radish[/bold]", model="tiny", right=False)])
    adapter = Sheet(answers=[Answer(said="Turnip", model="acme@1", right=True)])
    sink = io.StringIO()
    Console(file=sink, width=120).print(side_by_side([QUESTION], base, adapter))
    shown = sink.getvalue()
    assert "[bold]Radish[/bold]" in shown
    assert all(word in shown for word in ("Turnip", "tiny", "acme@1", "right", QUESTION.question))
    assert (base.right, adapter.right) == (0, 1)

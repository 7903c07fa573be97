"""Ask held-out questions of a running server with the official OpenAI client, and count the right answers."""

import asyncio
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec
from openai import AsyncOpenAI, OpenAI
from rich.console import Console
from rich.table import Table

MAX_TOKENS = 32
CONCURRENT = 8
UNUSED_KEY = "loopback-needs-none"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of ``heldout.jsonl``: a phrasing that no row of the data set has.

    Attributes:
        answer: what a good answer says.
        expect: the words by which a right answer is told, in any case.
    """

    question: str
    answer: str
    expect: str

    def is_right(self, said: str) -> bool:
        """Whether ``said`` has the expected words."""
        return self.expect.casefold() in said.casefold()


class Answer(msgspec.Struct, frozen=True):
    """What one model said, and the version that the server says it was."""

    said: str
    model: str
    right: bool


class Sheet(msgspec.Struct, frozen=True):
    """All answers of one model, in the questions' order."""

    answers: list[Answer]

    @property
    def right(self) -> int:
        """How many answers are right."""
        return sum(answer.right for answer in self.answers)


def read_questions(file: Path) -> list[Question]:
    """Read ``heldout.jsonl``."""
    return [msgspec.json.decode(line, type=Question) for line in file.read_bytes().splitlines()]


def ask_streamed(url: str, model: str, question: str, console: Console) -> None:
    """Ask one question and show the answer as it arrives."""
    with OpenAI(base_url=url, api_key=UNUSED_KEY) as client:
        console.print(f"[bold]{question}[/bold]\n[green]{model}:[/green] ", end="")
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=MAX_TOKENS,
            stream=True,
        )
        for chunk in stream:
            console.print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", markup=False)
        console.print("\n")


def ask_all(url: str, models: Sequence[str], questions: Sequence[Question]) -> list[Sheet]:
    """Ask every question of every model, all models at once and each several questions at a time, at temperature 0.

    Returns:
        one sheet per model, in the order of ``models``.
    """
    return asyncio.run(_ask_all(url, models, questions))


async def _ask_all(url: str, models: Sequence[str], questions: Sequence[Question]) -> list[Sheet]:
    async with AsyncOpenAI(base_url=url, api_key=UNUSED_KEY) as client:
        return await asyncio.gather(*(_ask_model(client, model, questions) for model in models))


async def _ask_model(client: AsyncOpenAI, model: str, questions: Sequence[Question]) -> Sheet:
    places = asyncio.Semaphore(CONCURRENT)

    async def ask(question: Question) -> Answer:
        async with places:
            reply = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question.question}],
                temperature=0,
                max_tokens=MAX_TOKENS,
            )
        said = reply.choices[0].message.content or ""
        return Answer(said=said, model=reply.model, right=question.is_right(said))

    return Sheet(answers=await asyncio.gather(*(ask(question) for question in questions)))


def side_by_side(questions: Sequence[Question], base: Sheet, adapter: Sheet) -> Table:
    """A table of every question with both models' answers."""
    table = Table(title="Phrasings that were never trained", show_lines=True)
    for header in ("question", base.answers[0].model, adapter.answers[0].model):
        table.add_column(header, ratio=1, overflow="fold")
    table.add_column("", justify="center")
    for question, plain, tuned in zip(questions, base.answers, adapter.answers, strict=True):
        cells = [textwrap.shorten(answer.said, 100, placeholder=" ...") for answer in (plain, tuned)]
        mark = "[green]right[/green]" if tuned.right else "[red]wrong[/red]"
        table.add_row(question.question, *(_plain(cell) for cell in cells), mark)
    return table


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # rich would read brackets as markup

"""One model's sheet: what it scores and says on every question."""

import asyncio
import statistics
from collections.abc import Callable

import msgspec

from services.trainer.gate.client import Answered, JudgeClient, JudgingFailed
from services.trainer.gate.questions import HeldOut, Questions, ScoredText
from services.trainer.gate.suite import GeneralPrompt


class RowScore(msgspec.Struct, frozen=True, kw_only=True):
    """A model on one held-out row.

    Attributes:
        loss: nats per supervised token.
        tokens: how many were scored.
        right: the answer passes the row's check.
    """

    loss: float
    tokens: int
    answer: Answered
    right: bool


class PromptScore(msgspec.Struct, frozen=True):
    """A model on one general prompt."""

    id: str
    right: bool


class TextScore(msgspec.Struct, frozen=True):
    """A model on one general text: nats per token."""

    id: str
    loss: float
    tokens: int


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured of one model, in the questions' order."""

    model: str
    rows: list[RowScore]
    general: list[PromptScore]
    texts: list[TextScore]

    @property
    def loss(self) -> float:
        """Held-out loss in nats per supervised token."""
        return _mean([(row.loss, row.tokens) for row in self.rows])

    @property
    def right_share(self) -> float:
        """Share of held-out questions answered rightly."""
        return _share([row.right for row in self.rows])

    @property
    def stop_share(self) -> float:
        """Share of held-out answers that ended by themselves."""
        return _share([row.answer.stopped for row in self.rows])

    @property
    def general_share(self) -> float:
        """Share of general prompts answered rightly."""
        return _share([prompt.right for prompt in self.general])

    @property
    def text_loss(self) -> float:
        """Loss on the general texts in nats per token."""
        return _mean([(text.loss, text.tokens) for text in self.texts])

    @property
    def answer_tokens(self) -> list[int]:
        """Lengths of the held-out answers, sorted."""
        return sorted(row.answer.tokens for row in self.rows)

    @property
    def seconds(self) -> float:
        """Median time of a held-out answer."""
        return statistics.median(row.answer.seconds for row in self.rows) if self.rows else 0.0


async def measure(client: JudgeClient, model: str, questions: Questions, done: Callable[[], None]) -> Sheet:
    """Ask ``model`` everything.

    Args:
        client: of the server.
        model: a name that it serves.
        questions: what to ask.
        done: called after each answered request.

    Raises:
        JudgingFailed: the server refused a request or went away.
    """

    async def row(question: HeldOut) -> RowScore:
        logprobs = await client.score(model, question.token_ids)
        done()
        answer = await client.answer(model, question.messages, question.max_tokens)
        done()
        losses = [-logprobs[place - 1] for place in question.supervised]
        return RowScore(
            loss=sum(losses) / max(len(losses), 1),
            tokens=len(losses),
            answer=answer,
            right=question.check.passes(answer.text),
        )

    async def general(question: GeneralPrompt) -> PromptScore:
        answer = await client.answer(model, [{"role": "user", "content": question.prompt}], question.max_tokens)
        done()
        return PromptScore(question.id, question.check.passes(answer.text))

    async def text(question: ScoredText) -> TextScore:
        logprobs = await client.score(model, question.token_ids)
        done()
        return TextScore(question.id, -sum(logprobs) / len(logprobs), len(logprobs))

    try:
        async with asyncio.TaskGroup() as group:  # the client bounds what is under way at once
            rows = [group.create_task(row(question)) for question in questions.held_out]
            prompts = [group.create_task(general(question)) for question in questions.general]
            texts = [group.create_task(text(question)) for question in questions.texts]
    except* JudgingFailed as failures:
        raise failures.exceptions[0] from None  # the first says it; the others were cancelled or say the same
    return Sheet(
        model=model,
        rows=[task.result() for task in rows],
        general=[task.result() for task in prompts],
        texts=[task.result() for task in texts],
    )


def _mean(weighted: list[tuple[float, int]]) -> float:
    tokens = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / tokens if tokens else 0.0


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0

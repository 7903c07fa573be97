"""What every model is asked: held-out rows to continue and to score, general prompts, general texts."""

from typing import Any

import msgspec

from services.dataset.checks import Check
from services.dataset.rows import NOT_LEARNT, Example, Row
from services.trainer.gate.settings import Judging
from services.trainer.gate.suite import GeneralPrompt, general_prompts, general_texts

_LEAST_TOKENS = 32
_TIMES_AS_LONG = 4


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """One held-out row.

    Attributes:
        place: ``file:line``.
        row_hash: of its content.
        token_ids: the whole row.
        supervised: places in ``token_ids`` of the tokens whose loss counts.
        messages: the conversation up to its last answer.
        reference: that answer.
        check: what tells a right answer: the row's own, or exact match.
        max_tokens: of an answer; several times as long as the reference.
    """

    place: str
    row_hash: str
    token_ids: list[int]
    supervised: list[int]
    messages: list[dict[str, str]]
    reference: str
    check: Check
    max_tokens: int


class ScoredText(msgspec.Struct, frozen=True):
    """A general text in tokens."""

    id: str
    token_ids: list[int]


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that each model is asked."""

    held_out: list[HeldOut]
    general: list[GeneralPrompt]
    texts: list[ScoredText]

    @property
    def requests(self) -> int:
        """How many requests one model is sent."""
        return 2 * len(self.held_out) + len(self.general) + len(self.texts)


def questions_of(rows: list[Row], examples: list[Example], tokenizer: Any, settings: Judging) -> Questions:
    """Turn the holdout, and the suite, into questions.

    Args:
        rows: the held-out rows.
        examples: the same in tokens.
        tokenizer: the base model's.
        settings: how much is asked.
    """
    return Questions(
        held_out=[_held_out(row, example, settings) for row, example in zip(rows, examples, strict=True)],
        general=general_prompts(settings.general_prompts),
        texts=[
            ScoredText(id=text.id, token_ids=list(tokenizer.encode(text.text, add_special_tokens=False)))
            for text in general_texts(settings.general_texts)
        ],
    )


def _held_out(row: Row, example: Example, settings: Judging) -> HeldOut:
    reference = row.messages[-1].content
    supervised = [place for place, label in enumerate(example.labels) if label != NOT_LEARNT and place > 0]
    return HeldOut(
        place=row.place,
        row_hash=example.row_hash,
        token_ids=[int(token) for token in example.input_ids],
        supervised=supervised,
        messages=[{"role": message.role, "content": message.content} for message in row.messages[:-1]],
        reference=reference,
        check=row.check or Check(exact=reference),
        max_tokens=min(settings.answer_tokens, max(_LEAST_TOKENS, _TIMES_AS_LONG * len(supervised))),
    )

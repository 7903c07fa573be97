"""Rows as tokens and labels, through the base model's own chat template, as the server renders requests.

What is learnt is found without knowing the template: an assistant's turn is what rendering adds to the text between the
prompt that the server would build for that turn and the end of the turn.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from services.trainer.data.faults import DataRefused, Fault
from services.trainer.data.rows import NOT_LEARNT, Example, Message, Row, content_hash

_BATCH = 512
_Spans = list[tuple[int, int]]


class Renderer:
    """Renders rows with one tokenizer and its template."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int], *, learn_all: bool) -> None:
        """Render for a base model that stops at ``stop_ids``; ``learn_all`` learns the questions too."""
        self._tokenizer = tokenizer
        self._stop_ids = np.array(sorted(stop_ids), dtype=np.int32)
        self._learn_all = learn_all
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    def spelled_special_token(self, row: Row) -> Fault | None:
        """A fault where a row's text would turn into one of the template's own tokens."""
        for index, message in enumerate(row.messages):
            if found := self._special.search(message.content):
                return Fault(
                    file=row.file,
                    line=row.line,
                    field=f"turn {index + 1} ({message.role})",
                    reason=f"spells the special token {found[0]}",
                    remedy="Remove it: the base model reads it as the end or beginning of a turn",
                )
        return None

    def text(self, messages: Sequence[Message], *, answer_next: bool = False) -> str:
        """The conversation as the template writes it; with ``answer_next``, as the prompt for the next answer."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        rendered = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next)
        return str(rendered)

    def examples(self, rows: Sequence[Row]) -> Iterator[Example]:
        """One example per row, in order.

        Raises:
            DataRefused: the template cannot be trained on, or not every learnt turn ends where an engine stops.
        """
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            texts, spans = zip(*(self._render(row) for row in batch), strict=True)
            encoded = self._tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
            for row, ids, offsets, learnt in zip(
                batch, encoded["input_ids"], encoded["offset_mapping"], spans, strict=True
            ):
                yield self._example(row, np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int32), learnt)

    def _render(self, row: Row) -> tuple[str, _Spans]:
        """The text of a row, and the stretches of characters that are its learnt turns."""
        full = self.text(row.messages)
        spans: _Spans = []
        last = len(row.messages) - 1
        for index, message in enumerate(row.messages):
            if message.role != "assistant" or not message.learn:
                continue
            before = self.text(row.messages[:index], answer_next=True)
            through = full if index == last else self.text(row.messages[: index + 1])
            if not full.startswith(before) or not full.startswith(through):
                raise DataRefused([_template_fault(row)])
            spans.append((len(before), len(through)))
        return full, spans

    def _example(self, row: Row, ids: Any, offsets: Any, spans: _Spans) -> Example:
        learnt = np.full(len(ids), self._learn_all)
        for start, stop in spans:
            inside = np.flatnonzero((offsets[:, 0] >= start) & (offsets[:, 0] < stop))
            ends = np.flatnonzero(np.isin(ids[inside], self._stop_ids))
            if not len(ends):
                raise DataRefused([_stop_fault(row)])
            learnt[inside[: ends[-1] + 1]] = True  # what the template writes after the end is never generated
        labels = np.where(learnt, ids, np.int32(NOT_LEARNT))
        return Example(input_ids=ids, labels=labels, row_hash=content_hash(row.messages))


def _template_fault(row: Row) -> Fault:
    return Fault(
        file=row.file,
        line=row.line,
        reason="the base model's chat template rewrites earlier turns, so that what is served is not what would be trained",
        remedy="Use rows of one question and one answer, or another base model",
    )


def _stop_fault(row: Row) -> Fault:
    return Fault(
        file=row.file,
        line=row.line,
        reason="the base model's chat template ends an answer with no token at which an engine stops",
        remedy="Set eos_token_id in the base's generation_config.json to its end-of-turn token, or use an instruct model",
    )

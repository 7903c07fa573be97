"""Rows as tokens and labels, through the base model's own chat template, as the server renders requests.

What is learnt is found without knowing the template: an assistant's turn is what rendering adds to the text between the
prompt that the server would build for that turn and the end of the turn.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from services.common.special_tokens import spelling_of
from services.dataset.faults import DataRefused, Fault
from services.dataset.rows import NOT_LEARNT, Example, Message, Row, TokenIds, content_hash

_BATCH = 512
_Spans = list[tuple[int, int, bool]]
_Encoded = tuple[Any, Any]


class Renderer:
    """Renders rows with one tokenizer and its template."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int], *, learn_all: bool) -> None:
        """Render for a base model that stops at ``stop_ids``; ``learn_all`` learns the questions too.

        Raises:
            DataRefused: the base model has no chat template.
        """
        if not tokenizer.chat_template:
            remedy = "Use an instruct model as the base"
            raise DataRefused([Fault(file="the base model", reason="has no chat template", remedy=remedy)])
        self._tokenizer = tokenizer
        self._stop_ids = sorted(stop_ids)
        self._learn_all = learn_all
        self._special = spelling_of(tokenizer)

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

    def examples(self, rows: Sequence[Row]) -> Iterator[Example | Fault]:
        """One example per row, in order, or why the base model's template cannot write it.

        Raises:
            DataRefused: the template's answers end with no token at which an engine stops.
        """
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            rendered = [self._render(row) for row in batch]
            encoded = iter(self._encode([item[0] for item in rendered if not isinstance(item, Fault)]))
            for row, item in zip(batch, rendered, strict=True):
                yield item if isinstance(item, Fault) else self._example(row, *item, next(encoded))

    def _render(self, row: Row) -> tuple[str, _Spans] | Fault:
        """The text of a row; and the stretches of characters that are its answers, and whether each is learnt."""
        spans: _Spans = []
        last = len(row.messages) - 1
        try:
            full = self.text(row.messages)
            for index, message in enumerate(row.messages):
                if message.role != "assistant" or not (message.learn or self._learn_all):
                    continue
                before = self.text(row.messages[:index], answer_next=True)
                through = full if index == last else self.text(row.messages[: index + 1])
                if not full.startswith(before) or not full.startswith(through):
                    return _rewritten(row)
                spans.append((len(before), len(through), message.learn))
        except TemplateError:
            return _not_written(row)
        return full, spans

    def _encode(self, texts: list[str]) -> list[_Encoded]:
        """For each text N ids, and N pairs of the characters where each begins and ends."""
        if not texts:
            return []
        encoded = self._tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        return [
            (
                np.array(ids, dtype=np.int32),
                np.fromiter(chain.from_iterable(offsets), np.int32, 2 * len(ids)).reshape(-1, 2),
            )
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def _example(self, row: Row, text: str, spans: _Spans, encoded: _Encoded) -> Example:
        ids, offsets = encoded
        begins = [begin for begin, _, _ in spans]
        if any(((offsets[:, 0] < begin) & (offsets[:, 1] > begin)).any() for begin in begins):
            ids, offsets = self._encode_apart(text, begins)
        learnt = np.full(len(ids), self._learn_all)
        for begin, end, learn in spans:
            inside = np.flatnonzero((offsets[:, 0] >= begin) & (offsets[:, 0] < end))
            stops = np.flatnonzero(_any_of(ids[inside], self._stop_ids))
            if not len(stops):
                raise DataRefused([_endless(row)])
            learnt[inside[: stops[-1] + 1]] = learn  # what the template writes after the end is never generated
        labels = np.where(learnt, ids, np.int32(NOT_LEARNT))
        return Example(input_ids=ids, labels=labels, row_hash=content_hash(row.messages))

    def _encode_apart(self, text: str, begins: list[int]) -> _Encoded:
        """Encode what comes before each answer by itself, as the server does.

        An answer that begins with a space or a new line could otherwise share a token with the prompt's end, and the base
        model would be trained on a prompt that no request brings.
        """
        edges = [0, *begins, len(text)]
        parts = self._encode([text[edge:after] for edge, after in pairwise(edges)])
        ids = np.concatenate([ids for ids, _ in parts])
        return ids, np.concatenate([offsets + edge for (_, offsets), edge in zip(parts, edges[:-1], strict=True)])


def _any_of(ids: TokenIds, wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Which of N ids are among a few: ``np.isin``, which sorts, takes ten times as long for a row."""
    found = np.zeros(len(ids), dtype=np.bool_)
    for each in wanted:
        found |= ids == each
    return found


def _rewritten(row: Row) -> Fault:
    return Fault(
        file=row.file,
        line=row.line,
        reason="the base model's chat template rewrites earlier turns, so that what is served is not what would be trained",
        remedy="Use rows of one question and one answer, or another base model",
    )


def _not_written(row: Row) -> Fault:
    # Without the template's own message: it may quote the row.
    return Fault(
        file=row.file,
        line=row.line,
        reason="the base model's chat template refuses the row's roles",
        remedy="It may know no system message: move its text into the first user turn, or use another base model",
    )


def _endless(row: Row) -> Fault:
    return Fault(
        file=row.file,
        line=row.line,
        reason="the base model's chat template ends an answer with no token at which an engine stops",
        remedy="Set eos_token_id in the base's generation_config.json to its end-of-turn token, or use an instruct model",
    )

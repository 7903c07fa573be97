"""Rows as tokens and labels, through the base model's own chat template, as the server renders requests.

What is learnt is found without knowing the template: an assistant's turn is what rendering adds to the text between the
prompt that the server would build for that turn and the end of the turn.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jinja2 import TemplateError

from services.common.special_tokens import spelling_of
from services.dataset.encoded import Encoded
from services.dataset.faults import DataRefused, Fault
from services.dataset.rows import NOT_LEARNT, Example, Message, Row, TokenIds

_BATCH = 512
_Spans = list[tuple[int, int, bool]]


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
        from services.common.chat_template import ChatTemplate  # noqa: PLC0415 - of transformers, which the tokenizer has imported

        self._template = ChatTemplate(tokenizer)
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._stop_ids = stop_ids
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
        return self._template.render(turns) if answer_next else self._template.whole(turns)

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
                yield item if isinstance(item, Fault) else self._example(row, *item, Encoded([next(encoded)]))

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

    def _encode(self, texts: list[str]) -> list[Any]:
        """For each text what the tokenizers library finds, on as many cores as there are texts."""
        encoded: list[Any] = self._backend.encode_batch(texts, add_special_tokens=False)
        return encoded

    def _example(self, row: Row, text: str, spans: _Spans, encoded: Encoded) -> Example:
        begins = [begin for begin, _, _ in spans]
        if any(map(encoded.reaches_over, begins)):
            encoded = self._encode_apart(text, begins)
        ids = encoded.ids
        labels = ids.copy() if self._learn_all else np.full(len(ids), NOT_LEARNT, dtype=np.int32)
        for begin, end, learn in spans:
            first = encoded.first_from(begin)
            length = _through_last_of(self._stop_ids, ids[first : encoded.first_from(end)])
            if not length:
                raise DataRefused([_endless(row)])
            answer = slice(first, first + length)  # what the template writes after the end is never generated
            labels[answer] = ids[answer] if learn else NOT_LEARNT
        return Example(input_ids=ids, labels=labels, row_hash=row.sha256)

    def _encode_apart(self, text: str, begins: list[int]) -> Encoded:
        """Encode what comes before each answer by itself, as the server does.

        An answer that begins with a space or a new line could otherwise share a token with the prompt's end, and the base
        model would be trained on a prompt that no request brings.
        """
        edges = [0, *begins, len(text)]
        return Encoded(self._encode([text[edge:after] for edge, after in pairwise(edges)]), edges[:-1])


def _through_last_of(wanted: frozenset[int], ids: TokenIds) -> int:
    """How many of ``ids`` there are up to the last that is wanted; 0 without one. It is near the end."""
    for length in range(len(ids), 0, -1):
        if int(ids[length - 1]) in wanted:
            return length
    return 0


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

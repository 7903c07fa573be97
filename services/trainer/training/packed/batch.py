"""Rows of an update joined end to end, in passes that memory holds."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch

from services.trainer.training.packed.parts import part_of

NOT_LEARNT = -100


class Pass(NamedTuple):
    """Rows joined end to end: T tokens, of which S positions predict a token that is learnt.

    T may be rounded up, so that few distinct shapes occur: the tokens that fill a pass up are a row of their own.

    Attributes:
        input_ids: 1 x T.
        position_ids: 1 x T, counted from 0 in each row.
        edges: where each row begins, and where the last one ends; int32, of fixed length (rows without tokens at the end).
        predict: S positions.
        targets: S tokens.
        tokens: without those that fill up.
        learnt: S.
        longest: no row has more tokens than this; a power of two.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    edges: torch.Tensor
    predict: torch.Tensor
    targets: torch.Tensor
    tokens: int
    learnt: int
    longest: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, the number of edges and the longest row: what a replayed pass must have in common with the recorded one."""
        return self.input_ids.shape[1], self.edges.shape[0], self.longest

    def to(self, device: torch.device) -> "Pass":
        """The same on a device."""
        return self._replace(**{name: getattr(self, name).to(device, non_blocking=True) for name in self._fields[:5]})


def filling(number: int, multiple: int) -> int:
    """What a pass of ``number`` tokens lacks to the next size.

    Args:
        number: of tokens.
        multiple: sizes are multiples of it; 1 where nothing is replayed. More than sixteen multiples are rounded to a power of two of
            them, by a sixteenth at most: a long pass gains little from being replayed, and recording one takes as long as two of them.
    """
    return -number % (multiple if multiple == 1 else max(multiple, 1 << max(number.bit_length() - 5, 0)))


def join(rows: Sequence[dict[str, list[int]]], multiple: int, *, room: int, longest: int = 1) -> Pass:
    """Join rows into one pass.

    Args:
        rows: with ``input_ids`` and ``labels`` (-100 where nothing is learnt) of equal length.
        multiple: see ``filling``.
        room: rows that there are edges for.
        longest: of all rows there are; passes are of fewer shapes by it.
    """
    tokens = np.concatenate([row["input_ids"] for row in rows], dtype=np.int64)
    labels = np.concatenate([row["labels"] for row in rows], dtype=np.int64)
    edges = np.cumsum([0, *(len(row["input_ids"]) for row in rows)])
    labels[edges[:-1]] = NOT_LEARNT  # nothing comes before a row's first token that could predict it
    learnt = np.flatnonzero(labels != NOT_LEARNT)
    missing = filling(len(tokens), multiple)
    lengths = np.diff(edges, append=len(tokens) + missing)
    positions = np.arange(len(tokens) + missing) - np.repeat(edges, lengths)
    return Pass(
        input_ids=torch.from_numpy(np.pad(tokens, (0, missing)))[None],
        position_ids=torch.from_numpy(positions)[None],
        edges=torch.from_numpy(
            np.pad(edges, (0, room + 2 - len(edges)), constant_values=len(positions)).astype(np.int32)
        ),
        predict=torch.from_numpy(learnt - 1),
        targets=torch.from_numpy(labels[learnt]),
        tokens=len(tokens),
        learnt=len(learnt),
        longest=1 << (max(int(lengths.max()), longest) - 1).bit_length(),
    )


class Update(TypedDict):
    """What a rank computes of an update, and what the whole of it has.

    Attributes:
        passes: of this rank's part of the rows.
        tokens: of all ranks.
        learnt: of those, the ones that are learnt.
    """

    passes: list[Pass]
    tokens: int
    learnt: int


class PackedCollator:
    """An update's rows as passes of at most so many tokens; a longer row is a pass of its own.

    Args:
        multiple: see ``filling``.
        rows: at most so many in a pass.
        longest: see ``join``.
        rank: whose part of an update's rows it is.
        ranks: how many there are.

    Attributes:
        most_tokens: in a pass; lowered where memory does not suffice.
    """

    def __init__(
        self, multiple: int, *, rows: int, most_tokens: int, longest: int = 1, rank: int = 0, ranks: int = 1
    ) -> None:
        self._multiple = multiple
        self._rows = rows
        self._longest = longest
        self._rank = rank
        self._ranks = ranks
        self.most_tokens = most_tokens

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Update:
        """This rank's part of an update."""
        return {
            "passes": self.passes(part_of(rows, self._rank, self._ranks)),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "learnt": sum(int(np.count_nonzero(np.asarray(row["labels"])[1:] != NOT_LEARNT)) for row in rows),
        }

    def passes(self, rows: Sequence[dict[str, Any]]) -> list[Pass]:
        """The passes, in order of the rows."""
        return [join(group, self._multiple, room=self._rows, longest=self._longest) for group in self._groups(rows)]

    def wider(self, times: int) -> "PackedCollator":
        """One whose passes hold so many times as many rows, and no more tokens than this one's may."""
        return PackedCollator(
            self._multiple, rows=times * self._rows, most_tokens=self.most_tokens, longest=self._longest
        )

    def split(self, passes: Iterable[Pass]) -> list[Pass]:
        """The same rows again, after ``most_tokens`` was lowered."""
        return self.passes([row for each in passes for row in _rows_of(each)])

    def _groups(self, rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        groups: list[list[dict[str, Any]]] = []
        held = 0
        for row in rows:
            length = len(row["input_ids"])
            if not groups or held + length > self.most_tokens or len(groups[-1]) == self._rows:
                groups.append([])
                held = 0
            groups[-1].append(row)
            held += length
        return groups


def _rows_of(joined: Pass) -> list[dict[str, list[int]]]:
    labels = [NOT_LEARNT] * joined.input_ids.shape[1]
    for place, target in zip(joined.predict.tolist(), joined.targets.tolist(), strict=True):
        labels[place + 1] = target
    tokens, edges = joined.input_ids[0].tolist(), joined.edges.tolist()
    rows = [(begin, end) for begin, end in itertools.pairwise(edges) if begin < end <= joined.tokens]
    return [{"input_ids": tokens[begin:end], "labels": labels[begin:end]} for begin, end in rows]

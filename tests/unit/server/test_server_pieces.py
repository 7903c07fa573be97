"""Pieces between added tokens: the ids are those of the whole text, whatever the text and the tokenizer."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from services.server.engine.pieces import Pieces

ADDED = ["<|im_start|>", "<|im_end|>", "<|im", "<|im_end|><|x|>", "한<s>"]
WORDS = [
    *ADDED,
    "|>",
    "<|",
    " ",
    "  ",
    "\n",
    "user",
    "Hello",
    "안녕하세요",
    "\u1112\u1161\u11ab",
    "👩‍👩‍👧",
    "é",
    "e\u0301",
    "\x00",
    "▁",
    "1 234",
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=12).map("".join)


def _tokenizer(kind: str) -> Any:
    """Byte level as SmolLM2's and Llama 3's, or as Llama 2's: a blank before what begins a text, or before each piece."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("H", "e"), ("l", "l"), ("He", "ll"), ("u", "s"), ("Ġ", "u")]
    vocabulary = letters | {"".join(pair): len(letters) + number for number, pair in enumerate(merges)}
    if kind == "bytes":
        core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        core.decoder = decoders.ByteLevel()
    else:
        signs = {sign: number for number, sign in enumerate(sorted({*"".join(WORDS), "▁", "\ufffd"}))}
        core = Tokenizer(models.BPE(vocab=signs, merges=[], unk_token="\ufffd", fuse_unk=True))
        if kind == "first":
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.add_special_tokens([AddedToken(content, normalized=False) for content in ADDED])
    core.add_tokens([AddedToken("Hello", normalized=True)])
    return core


class Counting:
    """A tokenizer that notes what it encodes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: list[str] = []

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.texts += texts
        return self._tokenizer.encode_batch_fast(texts, **options)

    def get_added_tokens_decoder(self) -> Any:
        return self._tokenizer.get_added_tokens_decoder()


TOKENIZERS = {kind: _tokenizer(kind) for kind in ("bytes", "first", "each")}
REMEMBERING = {kind: Pieces(tokenizer) for kind, tokenizer in TOKENIZERS.items()}  # over all texts of a run


def _whole(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_pieces_are_the_whole(kind: str, texts: list[str]) -> None:
    """Same ids, for texts seen first and such whose pieces are remembered from others, whichever come at once."""
    whole = [_whole(TOKENIZERS[kind], text) for text in texts]
    assert Pieces(TOKENIZERS[kind]).encode(texts) == whole
    assert REMEMBERING[kind].encode(texts) == whole
    assert REMEMBERING[kind].encode(texts) == whole


def test_the_pieces_asked_for_last_are_kept_and_no_more() -> None:
    """A shared piece stays among a thousand that come once; the first of these is forgotten, and a long one never kept."""
    counting = Counting(TOKENIZERS["bytes"])
    pieces = Pieces(counting)
    long = "<|im_start|>" + "long " * 1000
    for number in range(1000):
        pieces.encode([f"<|im_start|>shared<|im_end|>{number}"])
    for text in ("<|im_end|>999", "<|im_end|>0", long, long):
        pieces.encode([text])
    times = Counter(counting.texts)
    assert times["<|im_start|>shared"] == 1
    assert (times["<|im_end|>999"], times["<|im_end|>0"], times[long]) == (1, 2, 2)


def test_a_piece_that_is_forgotten_for_others_of_the_same_call_is_encoded_again() -> None:
    """It was there when the call began, and is not when its text's turn comes."""
    pieces, tokenizer = Pieces(TOKENIZERS["bytes"]), TOKENIZERS["bytes"]
    shared, *others = ["<|im_start|>shared", *(f"<|im_start|>{number}" for number in range(1000))]
    pieces.encode([shared])
    assert pieces.encode([*others, shared]) == [_whole(tokenizer, text) for text in [*others, shared]]


@pytest.mark.parametrize("option", ["lstrip", "rstrip", "single_word"])
def test_tokens_that_look_around_are_not_cut_at(option: str) -> None:
    """Where an added token takes blanks around it, or asks what stands beside it, the whole text is encoded."""
    tokenizer = _tokenizer("bytes")
    assert Pieces.fit(tokenizer)
    tokenizer.add_special_tokens([AddedToken("<mask>", normalized=False, **{option: True})])
    assert not Pieces.fit(tokenizer)

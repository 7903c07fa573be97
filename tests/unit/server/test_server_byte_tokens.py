"""Tokens whose letters are bytes become the text that the tokenizers library's ``DecodeStream`` gives, token by token."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

from services.server.engine.byte_tokens import ByteTokens
from tests.support.texts import TEXTS
from tests.support.tokenizers import byte_tokenizer

MERGES = [("ì", "ķ"), ("ìķ", "Ī"), ("ð", "Ł"), ("ðŁ", "ĺ"), ("Ġ", "t"), ("ï", "¿"), ("ï¿", "½"), ("Ł", "ĺ"), ("a", "ì")]
BACKEND: Any = byte_tokenizer(merges=MERGES).backend_tokenizer
BACKEND.add_tokens([AddedToken("<tool>"), AddedToken("한<s>"), AddedToken("é"), AddedToken("\ufffd"), AddedToken("  ")])
BACKEND.add_special_tokens([AddedToken("끝")])
BYTES = ByteTokens(BACKEND)
KNOWN = BACKEND.get_vocab_size()
TOKEN = st.integers(0, KNOWN + 2)  # and some that there are not
MORE = ["한국어 😀👩‍👩‍👧 끝 <tool><|im_end|> é ﷺ \ufffd", *TEXTS]


def cut(data: tuple[str, int, int]) -> list[int]:
    """A text's tokens without some at its beginning and end, so that characters are cut."""
    text, first, last = data
    ids = BACKEND.encode(text, add_special_tokens=False).ids
    return list(ids[first : max(first, len(ids) - last)])


SAID = st.tuples(st.sampled_from(MORE) | st.text(), st.integers(0, 3), st.integers(0, 3)).map(cut)
TOKENS = st.lists(st.lists(TOKEN, max_size=5) | SAID, max_size=5).map(
    lambda parts: [token for part in parts for token in part]
)


@given(prompt=TOKENS, answer=TOKENS, skip=st.booleans())
@example(prompt=[KNOWN - 1], answer=[KNOWN - 1, 0], skip=True)
@settings(max_examples=300, deadline=None)
def test_each_token_adds_what_the_library_says(prompt: list[int], answer: list[int], *, skip: bool) -> None:
    """Korean, emoji, cut characters, bytes that are none, special and unknown tokens, before the answer and in it."""
    stream = BYTES.stream(prompt, skip_special_tokens=skip)
    broken = BACKEND.decode(prompt, skip_special_tokens=skip).endswith("\ufffd")
    assert (stream is None) == broken
    if stream is not None:
        theirs = DecodeStream(ids=prompt, skip_special_tokens=skip)
        for token in answer:
            assert stream.step(token) == (theirs.step(BACKEND, token) or "")


@pytest.mark.parametrize("skip", [False, True])
def test_every_token_of_a_vocabulary_has_its_bytes(*, skip: bool) -> None:
    """Those of added tokens, of special ones where they are not skipped, and none of numbers that are no token's."""
    for token in (*range(KNOWN), -1, 2**32, 2**70):
        alone = BACKEND.decode([token], skip_special_tokens=skip) if 0 <= token < KNOWN else ""
        stream = BYTES.stream([], skip_special_tokens=skip)
        assert stream is not None
        assert stream.step(token) == ("" if alone.endswith("\ufffd") else alone)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.Metaspace(),
        decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]),
        decoders.WordPiece(),
    ],
)
def test_other_decoders_do_not_fit(decoder: Any) -> None:
    """Where a decoder is none, another, or one of several, the text is not the tokens' bytes."""
    assert ByteTokens.fit(BACKEND)
    other = Tokenizer(models.BPE())
    if decoder is not None:
        other.decoder = decoder
    assert not ByteTokens.fit(other)

"""The server's tokenizer gives the ids that transformers' own gives."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from services.server.chat.schema import decode_chat
from services.server.engine.tokenizer import FastTokenizer
from services.server.errors import BadRequest
from tests.support.texts import TEXTS
from tests.support.tokenizers import SPECIAL, save_base

LONG = " ".join(TEXTS) * 40
PIECES = st.one_of(st.text(), st.sampled_from(SPECIAL), st.sampled_from(TEXTS))


@cache
def both(folder: Path) -> tuple[FastTokenizer, Any]:
    """The server's tokenizer, and transformers'."""
    return FastTokenizer(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder with a tokenizer that asks for truncation and padding, which a server must not do."""
    folder = save_base(tmp_path_factory.mktemp("base"))
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.backend_tokenizer.enable_truncation(16)
    theirs.backend_tokenizer.enable_padding(length=16)
    theirs.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@given(texts=st.lists(PIECES, max_size=4), special=st.booleans())
@example(texts=[LONG], special=False)
@example(texts=["\0", "\u1112\u1161\u11ab"], special=True)
@settings(max_examples=200, deadline=None)
def test_ids_are_those_of_transformers(base: Path, texts: list[str], *, special: bool) -> None:
    """Special tokens in a text, long texts, emoji, Hangul jamo, NUL: the same ids, and the same text back."""
    ours, theirs = both(base)
    text = "".join(texts)
    ids = ours.encode(text) if special else ours.encode_rendered([text])[0]
    assert ids == theirs.encode(text, add_special_tokens=special)
    assert ours.decode(ids) == theirs.decode(ids)


def test_half_a_character_is_no_text(base: Path) -> None:
    """A lone surrogate, which JSON can spell, is refused when the body is read: no tokenizer takes it."""
    body = rb'{"model": "acme", "messages": [{"role": "user", "content": "a\ud800b"}]}'
    with pytest.raises(BadRequest):
        decode_chat(body)
    for tokenizer in both(base):
        with pytest.raises(TypeError):
            tokenizer.encode("a\ud800b")

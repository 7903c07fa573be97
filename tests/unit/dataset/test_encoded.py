"""Where tokens begin is what the tokenizers library says of all of them, however few it is asked for."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from services.dataset.encoded import Encoded
from tests.support.tokenizers import byte_tokenizer

NEW_LINE, SPACE = "\u010a", "\u0120"  # in the byte alphabet of BPE
PIECES = st.sampled_from(["\n", " ", "a", "ab", "é", "e\u0301", "🪨", "말", "<|im_end|>"])
TEXTS = st.lists(PIECES, min_size=1, max_size=12).map("".join)


def joining() -> Any:
    """Tokens of several new lines and spaces, as most base models have."""
    merges = [(NEW_LINE, NEW_LINE), (NEW_LINE, SPACE), (SPACE, SPACE), ("a", "b")]
    return byte_tokenizer(merges=merges).backend_tokenizer


def trimming() -> Any:
    """Blanks that belong to no token, and characters that are composed first."""
    core = joining()
    core.normalizer = normalizers.NFC()
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    return core


def prepending() -> Any:
    """A sign before the text that none of its characters is of."""
    letters = ["<unk>", "\u2581", "a", "b", "\u2581a", "\n"]
    core = Tokenizer(
        models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[], unk_token="<unk>")
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return core


def splitting() -> Any:
    """Words alone: white space is left out."""
    core = Tokenizer(models.WordLevel(vocab={"<unk>": 0, "a": 1}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return core


TOKENIZERS = {make.__name__: make() for make in (joining, trimming, prepending, splitting)}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_every_place_is_found_as_by_the_offsets_of_all_tokens(name: str, texts: list[str]) -> None:
    """Joined new lines, composed characters, blanks of no token, a sign of no character; encoded in one part or in several."""
    tokenizer = TOKENIZERS[name]
    edges = [0]
    for text in texts:
        edges.append(edges[-1] + len(text))
    parts = tokenizer.encode_batch(texts, add_special_tokens=False)
    encoded = Encoded(parts, edges[:-1])
    assert encoded.ids.tolist() == [token for part in parts for token in part.ids]
    before = 0
    for part, (edge, after) in zip(parts, pairwise(edges), strict=True):
        begins = [edge + begin for begin, _ in part.offsets]
        for place in range(edge, after + (after == edges[-1])):
            expected = next((index for index, begin in enumerate(begins) if begin >= place), len(part))
            assert encoded.first_from(place) == before + expected
            over = any(edge + begin < place < edge + end for begin, end in part.offsets)
            assert encoded.reaches_over(place) == over
        before += len(part)

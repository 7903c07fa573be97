"""A tokenizer's special tokens where a text spells them: to the base model they are ends and beginnings of turns, whoever wrote them."""

import re
from typing import Any


def spelling_of(tokenizer: Any) -> re.Pattern[str]:
    """What finds a special token of Hugging Face's ``tokenizer`` in a text, the longest that begins at a place."""
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")

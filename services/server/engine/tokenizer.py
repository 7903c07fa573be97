"""The base model's tokenizer without what transformers does around it for every text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from services.common.chat_template import ChatTemplate
from services.common.special_tokens import spelling_of
from services.server.engine.pieces import Pieces


class FastTokenizer:
    """See ``protocol.Tokenizer``. Encodes by the tokenizers library directly, which takes half of transformers' time.

    Args:
        folder: the base model's.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.chat_template: Any = self._tokenizer.chat_template
        self._template = ChatTemplate(self._tokenizer)
        self.special_tokens = spelling_of(self._tokenizer)
        self._backend: Any = getattr(self._tokenizer, "backend_tokenizer", None)  # None: written in Python
        if self._backend is not None:
            self._backend.no_padding()
            self._backend.no_truncation()
        fit = self._backend is not None and Pieces.fit(self._backend)
        self._pieces = Pieces(self._backend) if fit else None

    def render(self, conversation: list[dict[str, Any]], **options: Any) -> str:
        """The text of a conversation; see ``ChatTemplate.render``."""
        return self._template.render(conversation, **options)

    def encode(self, text: str) -> list[int]:
        """See ``protocol.Tokenizer.encode``."""
        return self._encoded(text, add_special_tokens=True)

    def encode_rendered(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``protocol.Tokenizer.encode_rendered``."""
        if self._pieces is not None:
            return self._pieces.encode(texts)
        return [self._encoded(text, add_special_tokens=False) for text in texts]

    def _encoded(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if self._backend is None:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            return ids
        (encoded,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoded.ids)

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """The text of ``token_ids``."""
        text: str = self._tokenizer.decode(token_ids, **options)
        return text

"""Rendered conversations that come at once are tokenized at once: the tokenizers library has a core for each."""

import asyncio

from services.server.engine.protocol import Tokenizer

_Waiting = tuple[str, "asyncio.Future[list[int]]"]


class Together:
    """Collects texts until the event loop has run all that is ready; for one loop.

    Args:
        tokenizer: used in the loop's own thread.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[_Waiting] = []

    def encode(self, text: str) -> "asyncio.Future[list[int]]":
        """The token ids of a rendered conversation, in the loop's next round."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._encode)
        self._waiting.append((text, future))
        return future

    def _encode(self) -> None:
        waiting, self._waiting = [(text, future) for text, future in self._waiting if not future.done()], []
        try:
            encoded = self._tokenizer.encode_rendered([text for text, _ in waiting])
        except Exception as error:  # noqa: BLE001 - each of them is told
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), tokens in zip(waiting, encoded, strict=True):
            future.set_result(tokens)

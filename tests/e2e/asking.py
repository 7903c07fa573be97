"""What the end-to-end tests of the server ask, through the official client, and what each version was taught to answer."""

from typing import Any

from tests.e2e.adapters import QUESTION
from tests.e2e.serving import ServerProcess

BASE = "smollm2-135m-instruct"
ANSWERS = {1: "I am the first handbook, the red one.", 2: "My cover is green: second handbook."}
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
LONG: Any = [{"role": "user", "content": "Tell me a very long story about the sea."}]
ENDLESS = {"0": -100, "2": -100}  # as logit_bias: the tokens at which the base model's answers end


def ask(server: ServerProcess, model: str, **options: Any) -> tuple[str, str]:
    """The model that answered ``QUESTION``, and its text."""
    answer = server.client.chat.completions.create(
        model=model, messages=MESSAGES, **{"temperature": 0, "max_tokens": 16, **options}
    )
    return answer.model, answer.choices[0].message.content or ""


def stream_whole(server: ServerProcess, model: str, **options: Any) -> tuple[str, str, Any]:
    """The same from a stream, joined; and its usage."""
    chunks = list(
        server.client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **{"temperature": 0, "max_tokens": 16, **options},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (model,) = {chunk.model for chunk in chunks}
    return model, text, chunks[-1].usage

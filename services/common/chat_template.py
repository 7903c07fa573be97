"""The base model's chat template, compiled once for all conversations."""

from typing import Any, Self

from jinja2 import Template
from transformers.utils.chat_template_utils import _compile_jinja_template


class ChatTemplate:
    """Renders what transformers' ``apply_chat_template`` does, in a third of its time: what no conversation changes is set up here.

    Args:
        tokenizer: transformers'.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        source = tokenizer.chat_template
        named = source if isinstance(source, dict) else {} if source is None else {"default": source}
        self._by_name = {name: _compiled(text, tokenizer.special_tokens_map) for name, text in named.items()}

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Itself: nothing in it changes, so that threads may share it."""
        return self

    def render(
        self, conversation: list[dict[str, Any]], *, tools: list[dict[str, Any]] | None = None, **options: Any
    ) -> str:
        """The text of a conversation, up to where the assistant begins to speak; ``options`` are the template's variables.

        Raises:
            TemplateError: the template refuses it.
            ValueError: the base has no template for it.
        """
        return self._for(tools).render(
            messages=conversation, tools=tools, documents=None, add_generation_prompt=True, **options
        )

    def whole(self, conversation: list[dict[str, Any]]) -> str:
        """The text of a conversation that ends with what it holds; raises as ``render``."""
        return self._for(None).render(messages=conversation, tools=None, documents=None, add_generation_prompt=False)

    def _for(self, tools: list[dict[str, Any]] | None) -> Template:
        name = "tool_use" if tools is not None and "tool_use" in self._by_name else "default"
        if name not in self._by_name:
            self._tokenizer.get_chat_template(tools=tools)  # raises, and says why
        return self._by_name[name]


def _compiled(source: str, special_tokens: dict[str, str]) -> Template:
    # The environment, with its sandbox, tags and functions, is the one that transformers makes for each template.
    environment = _compile_jinja_template(source).environment
    template: Template = environment.from_string(source)
    template.globals = {**template.globals, **special_tokens}  # Jinja's own has layers, and is copied for each text
    return template

"""The chat template as it is compiled once says what transformers' ``apply_chat_template`` says."""

import copy
from typing import Any

import pytest
from jinja2 import TemplateError

from services.common.chat_template import ChatTemplate
from tests.support.texts import TEXTS
from tests.support.tokenizers import CHATML, FORGETFUL, GEMMA, LLAMA, STRICT, byte_tokenizer

TOOLS = (
    "{%- macro call(tool) %}{{ tool | tojson(indent=2) }} {{ bos_token }}{{ eos_token }}{% endmacro %}\n"
    "{% if tools %}\n    {% for tool in tools %}{{ call(tool) }}\n    {% endfor %}{% endif %}"
    "{% for m in messages %}{% if m.tool_calls is defined %}{{ m.tool_calls[0].function.arguments | tojson }}{% endif %}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}{{ documents is none }}{{ nothing is defined }}"
)
STATEFUL = (
    "{% set ns = namespace(last='', eos=eos_token) %}{% set eos_token = 'mine' %}{% for m in messages %}"
    "{% if loop.index > 2 %}{% break %}{% endif %}{% set ns.last = m.content %}{% endfor %}{{ ns.last }}{{ ns.eos }}{{ eos_token }}"
    "{{ strftime_now('%Y') }}{{ range(3) | join(',') }}{{ enable_thinking | default('unset') }}{{ pad_token }}{{ add_generation_prompt }}"
)
FORBIDDEN = "{{ messages.append('more') }}"
UNSAFE = "{{ messages.__class__.__mro__ }}"
TEMPLATES: dict[str, Any] = {
    "chatml": CHATML,
    "llama": LLAMA,
    "gemma": GEMMA,
    "forgetful": FORGETFUL,
    "strict": STRICT,
    "tools": TOOLS,
    "stateful": STATEFUL,
    "forbidden": FORBIDDEN,
    "unsafe": UNSAFE,
    "wrong": "{{ messages[0].content + 1 }}",
    "named": {"default": CHATML, "tool_use": TOOLS},
    "no default": {"rag": CHATML},
    "none": None,
}
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": {"이름": "<값> & \"'"}}}
CONVERSATIONS: list[list[dict[str, Any]]] = [[{"role": "user", "content": text}] for text in TEXTS] + [
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "어디?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "서울", "tool_call_id": "1"},
    ]
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"tools": None},
    {"tools": [{"type": "function", "function": {"name": "find", "description": "찾기 <b>"}}]},
    {"enable_thinking": False, "reasoning_effort": "low"},
    {"eos_token": "overwritten"},
]


def outcome(render: Any, *arguments: Any, **options: Any) -> Any:
    """A text, or the kind and words of an error."""
    try:
        return render(*arguments, **options)
    except (TemplateError, ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_and_refusals_are_those_of_transformers(name: str) -> None:
    """Macros, tools, dates, tags, the sandbox, tokens by name, several templates, none: the same text, or the same error."""
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.chat_template = TEMPLATES[name]
    template = copy.deepcopy(ChatTemplate(tokenizer))
    for conversation in CONVERSATIONS:
        for options in OPTIONS:
            ours = outcome(template.render, copy.deepcopy(conversation), **options)
            theirs = outcome(
                tokenizer.apply_chat_template, conversation, tokenize=False, add_generation_prompt=True, **options
            )
            assert ours == theirs
        whole = outcome(tokenizer.apply_chat_template, conversation, tokenize=False)
        assert outcome(template.whole, copy.deepcopy(conversation)) == whole

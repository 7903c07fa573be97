"""A training of two updates on one layer of the base model's kind: libraries and kernels are loaded at their first use.

What comes of it is thrown away; a training after it is the one that it would be without.
"""

import sys
import tempfile
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PrinterCallback, TrainingArguments

from services.trainer.training.job import Event, Outline
from services.trainer.training.lora import lora_of
from services.trainer.training.packed import attention as packed_attention
from services.trainer.training.packed.check import Reference
from services.trainer.training.packed.trainer import PackedTrainer
from services.trainer.training.packed_backend import precision_of
from services.trainer.training.ranks import AgreeingObserver, Alone

_TOKENS = 176  # of each row: what rows often have decides which kernels are chosen
_UPDATES = 2
_TURN = "apply_rotary_pos_emb"


class Nobody:
    """Watches nothing; see ``Observer``."""

    stop_requested = False

    def emit(self, event: Event) -> None:
        """See ``Observer``."""

    def loading(self, what: str) -> None:
        """See ``Observer``."""


def rehearse(outline: Outline) -> int:
    """Train one layer with the outline's widths, adapter and precision.

    Returns:
        how many updates were made; none for a 4-bit base, whose layers are others.
    """
    recipe = outline.recipe
    if recipe.base_bits == 4:  # noqa: PLR2004 - bits
        return 0
    dtype = precision_of(recipe)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(
            _one_layer(outline), dtype=dtype, attn_implementation=packed_attention.NAME, trust_remote_code=False
        )
    own = {module: getattr(module, _TURN) for module in _modules(model) if hasattr(module, _TURN)}
    try:
        with tempfile.TemporaryDirectory(prefix="whetstone-rehearsal-") as scratch:
            return _train(get_peft_model(model, lora_of(outline.lora)), outline, dtype, scratch)
    finally:
        for module, turn in own.items():  # the model to come is held against its own
            setattr(module, _TURN, turn)


def _one_layer(outline: Outline) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(outline.base_folder, local_files_only=True, trust_remote_code=False)
    config.num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    return config


def _train(model: Any, outline: Outline, dtype: torch.dtype, scratch: str) -> int:
    recipe = outline.recipe
    row = [index % model.config.vocab_size for index in range(min(_TOKENS, recipe.max_length))]
    rows = [{"input_ids": row, "labels": row}] * recipe.rows_per_step
    reference = Reference(model, rows, dtype)
    trainer = PackedTrainer(
        ranks=Alone(),
        observer=AgreeingObserver(Nobody()),
        rows_per_pass=recipe.rows_per_pass or recipe.rows_per_step,
        longest=len(row),
        precision=dtype,
        model=model,
        args=TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=recipe.rows_per_step,
            max_steps=_UPDATES,
            max_grad_norm=recipe.max_grad_norm,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Dataset.from_list(rows * _UPDATES).with_format("numpy"),
    )
    trainer.remove_callback(PrinterCallback)
    reference.require_same(trainer.runner)
    trainer.train()
    trainer.measure(rows)
    return int(trainer.state.global_step)


def _modules(model: torch.nn.Module) -> set[Any]:
    return {sys.modules[type(module).__module__] for module in model.modules()}

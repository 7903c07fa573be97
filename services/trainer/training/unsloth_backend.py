"""Unsloth on a CUDA card: its own kernels and checkpointing under the same loop."""

from math import gcd
from typing import Any

import torch  # after unsloth, as unsloth asks
import unsloth  # first: it patches transformers, TRL and PEFT as they are imported
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from unsloth import FastLanguageModel

from services.trainer.training.backend import Train
from services.trainer.training.job import Observer, Outline, TrainingJob
from services.trainer.training.loop import arguments_of, run_loop
from services.trainer.training.measure import measure_holdout
from services.trainer.training.watch import Watch

_ROWS_PER_PASS = 2  # the tutorial's, where the recipe leaves it open


def load(outline: Outline, observer: Observer) -> Train:
    """Load the base model onto the card; see ``Backend``."""
    recipe = outline.recipe
    dtype = torch.float32 if recipe.precision == "float32" else torch.bfloat16
    four_bit = recipe.base_bits == 4  # noqa: PLR2004 - bits
    observer.loading("base model")
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(outline.base_folder),
        max_seq_length=recipe.max_length,
        dtype=dtype,
        load_in_4bit=four_bit,
        load_in_16bit=not four_bit,
        use_exact_model_name=True,  # this folder, not a repository that Unsloth prefers
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        random_state=recipe.seed,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=outline.lora.rank,
        lora_alpha=outline.lora.alpha,
        lora_dropout=outline.lora.dropout,
        target_modules=list(outline.lora.target_modules),
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=recipe.seed,
    )
    observer.loading("waiting for the rows")

    def train(job: TrainingJob) -> None:
        _train(job, observer, model, tokenizer, dtype)

    return train


def _train(job: TrainingJob, observer: Observer, model: Any, tokenizer: Any, dtype: torch.dtype) -> None:
    recipe = job.recipe
    optimizer = recipe.optimizer if recipe.optimizer != "auto" else "adamw_8bit"
    name = (
        f"unsloth {unsloth.__version__}, {recipe.base_bits}-bit base, {str(dtype).removeprefix('torch.')}, {optimizer}"
    )
    rows_per_pass = recipe.rows_per_pass or gcd(recipe.rows_per_step, _ROWS_PER_PASS)

    def make(rows: Dataset, watch: Watch) -> SFTTrainer:
        return SFTTrainer(
            model=model,
            args=SFTConfig(
                per_device_train_batch_size=rows_per_pass,
                per_device_eval_batch_size=rows_per_pass,
                gradient_accumulation_steps=recipe.rows_per_step // rows_per_pass,
                optim=optimizer,
                bf16=dtype is torch.bfloat16,
                gradient_checkpointing=False,  # Unsloth brings its own
                max_length=None,  # the rows are within it already; given again, TRL would look for rows to cut
                include_num_input_tokens_seen="non_padding",
                **arguments_of(job),
            ),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[watch],
        )

    run_loop(job, observer, model=model, make=make, measure=measure_holdout, backend=name)

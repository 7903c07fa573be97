"""Unsloth on a CUDA card: its own kernels and checkpointing under the same loop."""

import torch  # after unsloth, as unsloth asks
import unsloth  # first: it patches transformers, TRL and PEFT as they are imported
from unsloth import FastLanguageModel

from services.trainer.training.job import MachineFailed, Observer, TrainingJob
from services.trainer.training.loop import run_loop


def train(job: TrainingJob, observer: Observer) -> None:
    """Train ``job`` on the card; see ``Backend``."""
    recipe = job.recipe
    dtype = torch.float32 if recipe.precision == "float32" else torch.bfloat16
    four_bit = recipe.base_bits == 4  # noqa: PLR2004 - bits
    observer.loading("base model")
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=str(job.base_folder),
            max_seq_length=recipe.max_length,
            dtype=dtype,
            load_in_4bit=four_bit,
            load_in_16bit=not four_bit,
            use_exact_model_name=True,  # this folder, not a repository that Unsloth prefers
            local_files_only=True,
            trust_remote_code=False,
            random_state=recipe.seed,
        )
        model = FastLanguageModel.get_peft_model(
            model,
            r=job.lora.rank,
            lora_alpha=job.lora.alpha,
            lora_dropout=job.lora.dropout,
            target_modules=list(job.lora.target_modules),
            bias="none",
            use_gradient_checkpointing="unsloth",
            random_state=recipe.seed,
        )
    except torch.OutOfMemoryError as error:
        raise MachineFailed(
            "the card's memory does not hold the base model; set recipe.base_bits = 4 or stop other users of the card"
        ) from error
    optimizer = recipe.optimizer if recipe.optimizer != "auto" else "adamw_8bit"
    name = (
        f"unsloth {unsloth.__version__}, {recipe.base_bits}-bit base, {str(dtype).removeprefix('torch.')}, {optimizer}"
    )
    run_loop(job, observer, model=model, tokenizer=tokenizer, optimizer=optimizer, backend=name)

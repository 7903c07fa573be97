"""The plain loop: transformers' Trainer and PEFT as anyone would write them, two padded rows a pass. Runs without a card."""

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from services.trainer.training.backend import Train
from services.trainer.training.job import Observer, Outline, TrainingJob
from services.trainer.training.loop import arguments_of, run_loop
from services.trainer.training.measure import measure_holdout
from services.trainer.training.watch import Watch

_ROWS_PER_PASS = 2


def load(outline: Outline, observer: Observer) -> Train:
    """Load the base model; see ``Backend``."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(outline.base_folder, dtype=dtype)
    torch.manual_seed(outline.recipe.seed)
    lora = LoraConfig(
        r=outline.lora.rank,
        lora_alpha=outline.lora.alpha,
        target_modules=list(outline.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)

    def train(job: TrainingJob) -> None:
        _train(job, observer, model)

    return train


def _train(job: TrainingJob, observer: Observer, model: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(job.base_folder)

    def make(rows: Dataset, watch: Watch) -> Trainer:
        return Trainer(
            model=model,
            args=TrainingArguments(
                per_device_train_batch_size=_ROWS_PER_PASS,
                per_device_eval_batch_size=_ROWS_PER_PASS,
                gradient_accumulation_steps=job.recipe.rows_per_step // _ROWS_PER_PASS,
                include_num_input_tokens_seen="non_padding",
                **arguments_of(job),
            ),
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[watch],
        )

    run_loop(job, observer, model=model, make=make, measure=measure_holdout, backend="plain transformers and PEFT")

"""transformers and PEFT with an update's rows joined into one pass: runs anywhere, and fastest on a card."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainingArguments

from services.trainer.training.job import Observer, TrainingFailed, TrainingJob
from services.trainer.training.loop import arguments_of, run_loop
from services.trainer.training.packed import attention as packed_attention
from services.trainer.training.packed.check import CHECKED_ROWS, Reference
from services.trainer.training.packed.trainer import PackedTrainer
from services.trainer.training.place import ALONE, Place
from services.trainer.training.ranks import AgreeingObserver, meet
from services.trainer.training.watch import Watch


def train(job: TrainingJob, observer: Observer, place: Place = ALONE) -> None:
    """Train ``job`` on the device that there is, as one of the ranks that ``place`` tells of; see ``Backend``."""
    on_cuda = torch.cuda.is_available()
    recipe = job.recipe
    if recipe.base_bits == 4 and not on_cuda:  # noqa: PLR2004 - bits
        raise TrainingFailed(
            "recipe.base_bits = 4 needs an NVIDIA card; set recipe.base_bits = 16, or WHETSTONE_PROFILE=cpu"
        )
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(
        recipe.precision, torch.bfloat16 if on_cuda else torch.float32
    )
    observer.loading("base model")
    quantization = None
    if recipe.base_bits == 4:  # noqa: PLR2004 - bits
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        job.base_folder,
        dtype=dtype,
        attn_implementation=packed_attention.NAME,
        quantization_config=quantization,
        device_map={"": 0} if on_cuda else None,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(job.base_folder, local_files_only=True, trust_remote_code=False)
    torch.manual_seed(recipe.seed)  # before the adapter is drawn
    model = get_peft_model(
        model,
        LoraConfig(
            r=job.lora.rank,
            lora_alpha=job.lora.alpha,
            lora_dropout=job.lora.dropout,
            target_modules=list(job.lora.target_modules),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    name = f"packed, {recipe.base_bits}-bit base, {str(dtype).removeprefix('torch.')}, adamw"
    if place.ranks > 1:
        name += f", {place.ranks} cards"
    agreeing, leads = AgreeingObserver(observer), place.rank == 0

    def make(rows: Dataset, watch: Watch) -> PackedTrainer:
        observer.loading("check of the packed way")
        own = Reference(model, [rows[number] for number in range(min(len(rows), CHECKED_ROWS))], dtype)
        arguments = TrainingArguments(
            per_device_train_batch_size=recipe.rows_per_step,
            remove_unused_columns=False,
            **arguments_of(job, leads=leads),
        )
        if place.ranks > 1:
            observer.loading("other cards")
        trainer = PackedTrainer(
            ranks=meet(place),
            observer=agreeing,
            rows_per_pass=recipe.rows_per_pass or recipe.rows_per_step,
            precision=dtype,
            model=model,
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[watch],
        )
        own.require_same(trainer.runner)
        return trainer

    run_loop(job, agreeing, model=model, make=make, measure=PackedTrainer.measure, backend=name, leads=leads)

"""transformers and PEFT with an update's rows joined into one pass: runs anywhere, and fastest on a card."""

from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from pyarrow import compute
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainingArguments

from services.trainer.settings import RecipeSettings
from services.trainer.training.backend import Train
from services.trainer.training.job import Observer, Outline, TrainingFailed, TrainingJob
from services.trainer.training.loop import arguments_of, run_loop
from services.trainer.training.lora import lora_of
from services.trainer.training.packed import attention as packed_attention
from services.trainer.training.packed.check import CHECKED_ROWS, CHECKED_TOKENS, Reference
from services.trainer.training.packed.trainer import PackedTrainer
from services.trainer.training.place import ALONE, Place
from services.trainer.training.ranks import AgreeingObserver, meet
from services.trainer.training.watch import Watch


def load(outline: Outline, observer: Observer, place: Place = ALONE) -> Train:
    """Load the base model onto the device that there is, to train as one of the ranks that ``place`` tells of; see ``Backend``."""
    on_cuda = torch.cuda.is_available()
    recipe = outline.recipe
    if recipe.base_bits == 4 and not on_cuda:  # noqa: PLR2004 - bits
        raise TrainingFailed(
            "recipe.base_bits = 4 needs an NVIDIA card; set recipe.base_bits = 16, or WHETSTONE_PROFILE=cpu"
        )
    dtype = precision_of(recipe)
    observer.loading("base model")
    quantization = None
    if recipe.base_bits == 4:  # noqa: PLR2004 - bits
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        outline.base_folder,
        dtype=dtype,
        attn_implementation=packed_attention.NAME,
        quantization_config=quantization,
        device_map={"": 0} if on_cuda else None,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    observer.loading("new adapter")
    torch.manual_seed(recipe.seed)  # before the adapter is drawn
    model = get_peft_model(model, lora_of(outline.lora))
    if on_cuda:
        observer.loading("the card's kernels")
        _wake_card(model)
    observer.loading("waiting for the rows")

    def train(job: TrainingJob) -> None:
        _train(job, observer, model, dtype, place)

    return train


def precision_of(recipe: RecipeSettings) -> torch.dtype:
    """What the arithmetic is done in on this machine."""
    usual = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(recipe.precision, usual)


def _longest(rows: Dataset) -> int:
    """Tokens of the longest row, without reading the tokens."""
    return max(compute.max(compute.list_value_length(rows.data.column("input_ids"))).as_py() or 1, 1)


def _wake_card(model: Any) -> None:
    """One small forward pass: libraries and kernels are loaded at their first use, which would else come after the rows."""
    base = model.get_base_model()
    base.set_attn_implementation("sdpa")
    with torch.no_grad():
        model(input_ids=torch.zeros(1, CHECKED_TOKENS, dtype=torch.long, device=model.device), use_cache=False)
    base.set_attn_implementation(packed_attention.NAME)


def _train(job: TrainingJob, observer: Observer, model: Any, dtype: torch.dtype, place: Place) -> None:
    recipe = job.recipe
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
        observer.loading("other cards" if place.ranks > 1 else "joined layers")
        trainer = PackedTrainer(
            ranks=meet(place),
            observer=agreeing,
            rows_per_pass=recipe.rows_per_pass or recipe.rows_per_step,
            longest=_longest(rows),
            precision=dtype,
            model=model,
            args=arguments,
            train_dataset=rows.with_format("numpy"),
            callbacks=[watch],
        )
        observer.loading("loss of joined rows")
        own.require_same(trainer.runner)
        return trainer

    run_loop(job, agreeing, model=model, make=make, measure=PackedTrainer.measure, backend=name, leads=leads)

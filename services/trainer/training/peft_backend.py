"""Plain transformers + PEFT + TRL: runs anywhere, and is the reference that the fast path is held against."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from services.trainer.training.job import Observer, TrainingFailed, TrainingJob
from services.trainer.training.loop import run_loop


def train(job: TrainingJob, observer: Observer) -> None:
    """Train ``job`` on the device that there is; see ``Backend``."""
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
    optimizer = recipe.optimizer if recipe.optimizer != "auto" else ("adamw_8bit" if on_cuda else "adamw_torch")
    name = f"peft, {recipe.base_bits}-bit base, {str(dtype).removeprefix('torch.')}, {optimizer}"
    run_loop(job, observer, model=model, tokenizer=tokenizer, optimizer=optimizer, backend=name)

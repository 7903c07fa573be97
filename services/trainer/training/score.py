"""Log-probabilities of fixed token ids under a base model and an adapter, loaded from their files by plain PEFT.

Runs in a process of its own (``python -m services.trainer.training.score MEETING BASE``): a fresh load is what a server does,
so that what is recorded here is what the server must find again. Until it has its job it only imports.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftModel
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from services.trainer.training.job import ScoreJob
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import end_with_parent


def score(base_folder: Path, adapter_folder: Path, prompts: list[list[int]]) -> list[tuple[list[float], list[float]]]:
    """For each prompt of N ids the N-1 natural logs of p(id[i+1] | id[:i+1]), without and with the adapter.

    bfloat16 on a CUDA device, as engines serve; float32 on a CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        base_folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).to(device)
    base = [_logprobs(model, ids) for ids in prompts]
    adapted = PeftModel.from_pretrained(model, str(adapter_folder), is_trainable=False)
    return list(zip(base, [_logprobs(adapted, ids) for ids in prompts], strict=True))


def _logprobs(model: Any, ids: list[int]) -> list[float]:
    tokens = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0, :-1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[0, 1:, None])[:, 0]
    return [float(value) for value in chosen.cpu()]


def main() -> int:
    """Score one job, whenever it comes."""
    end_with_parent()
    _import_model(Path(sys.argv[2]))
    job = Meeting(Path(sys.argv[1])).wait_for(ScoreJob)
    job.output.write_bytes(msgspec.json.encode(score(job.base_folder, job.adapter_folder, job.prompts)))
    return 0


def _import_model(base_folder: Path) -> None:
    """Import the code of a base model's kind, which transformers puts off until the first load."""
    config = AutoConfig.from_pretrained(base_folder, local_files_only=True, trust_remote_code=False)
    MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as the worker: the trainer waits

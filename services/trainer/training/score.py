"""Log-probabilities of fixed token ids under a base model and an adapter, loaded from their files by plain PEFT.

Runs in a process of its own (``python -m services.trainer.training.score MEETING BASE``): a fresh load is what a server does,
so that what is recorded here is what the server must find again. Until it is told to it only imports; the base model may be loaded
and scored before there is an adapter.
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from services.common.parts import Parts
from services.trainer.training.job import BaseScored, Failed, ScoreBase, Scored, ScoreJob
from services.trainer.training.lora import lay_out, load_adapter
from services.trainer.training.machine import full_memory
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import end_with_parent


class Scorer:
    """Scores prompts with a base model, and then with an adapter on it.

    bfloat16 on a CUDA device, as engines serve; float32 on a CPU.

    Args:
        wanted: the base model and the prompts.
    """

    def __init__(self, wanted: ScoreBase) -> None:
        self._wanted = wanted
        self._parts = Parts()
        self._parts.begin("card")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.zeros(1, device=device)
        self._parts.begin("base model")
        self._model = AutoModelForCausalLM.from_pretrained(
            wanted.base_folder,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            device_map={"": 0} if device == "cuda" else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        self._parts.begin("base model's scores")
        self._base = [_logprobs(self._model, ids) for ids in wanted.prompts]
        if wanted.lora is not None:
            self._parts.begin("adapter's layers")
            self._model = lay_out(self._model, wanted.lora)
            _logprobs(self._model, wanted.prompts[0])  # kernels are loaded at their first use
        self._parts.end()

    def fits(self, wanted: ScoreBase) -> bool:
        """Whether it is of the same base model and prompts."""
        return (self._wanted.base_folder, self._wanted.prompts) == (wanted.base_folder, wanted.prompts)

    def __call__(self, adapter_folder: Path) -> Scored:
        """For each prompt of N ids the N-1 natural logs of p(id[i+1] | id[:i+1]), without and with the adapter; once."""
        self._parts.begin("adapter")
        adapted = load_adapter(self._model, self._wanted.lora, adapter_folder)
        self._parts.begin("adapter's scores")
        scores = [_logprobs(adapted, ids) for ids in self._wanted.prompts]
        return Scored(pairs=list(zip(self._base, scores, strict=True)), seconds=self._parts.end())


def _logprobs(model: Any, ids: list[int]) -> list[float]:
    tokens = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0, :-1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[0, 1:, None])[:, 0]
    return [float(value) for value in chosen.cpu()]


def main() -> int:
    """Score one job, whenever it comes."""
    end_with_parent()
    meeting = Meeting(Path(sys.argv[1]))
    os.close(meeting.speak())  # which fails where the trainer ended while this imported
    _import_model(Path(sys.argv[2]))
    gc.freeze()  # libraries stay: no look for garbage among them while somebody waits
    score_when_told(meeting)
    return 0


def score_when_told(meeting: Meeting, load: Callable[[ScoreBase], Scorer] = Scorer) -> None:
    """Do the orders of a meeting: a job, and before it the base model alone where that is asked for."""
    meeting.wait_for_any(ScoreBase, ScoreJob)
    ready = _ahead(meeting.wait_for(ScoreBase), load) if meeting.was_told(ScoreBase) else None
    if ready is not None:
        meeting.tell(BaseScored())
    job = meeting.wait_for(ScoreJob)
    found: Scored | Failed
    try:
        if ready is None or not ready.fits(job):
            ready = None  # first: its memory
            ready = load(job)
        found = ready(job.adapter_folder)
    except Exception as error:
        if (reason := full_memory(error)) is None:
            raise  # the traceback goes to probe.log
        traceback.print_exc()
        found = Failed(reason=reason, of_machine=True)
    unfinished = job.output.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(found))
    unfinished.rename(job.output)


def _ahead(wanted: ScoreBase, load: Callable[[ScoreBase], Scorer]) -> Scorer | None:
    """Load and score the base model while the adapter is trained; None where that fails: it is done when there is an adapter."""
    try:
        return load(wanted)
    except Exception:  # noqa: BLE001 - whatever it is; most likely the card's memory, which is free by then
        traceback.print_exc()
    torch.cuda.empty_cache()
    return None


def _import_model(base_folder: Path) -> None:
    """Import the code of a base model's kind, which transformers puts off until the first load."""
    config = AutoConfig.from_pretrained(base_folder, local_files_only=True, trust_remote_code=False)
    MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as the worker: the trainer waits

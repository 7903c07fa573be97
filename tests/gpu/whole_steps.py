"""Prompts of many lengths and running answers in the same steps have the log-probabilities that transformers gives them.

python3 -m tests.gpu.whole_steps --model FOLDER [--rehearse] [--out FILE]

A step of running answers and new prompts is one CUDA graph on Hopper (docs/decisions/0105); a plan that is not the graph's gives wrong
answers, and no error. Every prompt is scored while answers run; then every answer's tokens, chosen greedily, are held against the
likeliest ones by transformers, which reads each text alone. ``--rehearse`` runs it small, on vLLM's CPU build.
"""

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from services.common.parts import Parts
from services.common.settings import load
from services.server.engine.environment import prepare_environment
from services.server.engine.protocol import Sampling
from services.server.settings import ServerSettings

MEAN_NATS = 0.1  # of all prompts' tokens, between two ways to compute in bfloat16; of a wrong plan it is several
GREEDY_NATS = 0.5  # by which a chosen token may be less likely than the likeliest: rounding turns near ties over
GREEDY_SHARE = 0.99
_LENGTHS = (2, 3, 7, 8, 9, 63, 64, 65, 130, 257, 511, 700, 1024, 1500, 1900)


async def asked(options: argparse.Namespace) -> dict[str, Any]:
    """What the engine says: prompts with the log-probabilities of their tokens, and prompts with their answers."""
    words = ["engine.max_model_len=2048", "engine.max_num_seqs=256", "engine.gpu_memory_utilization=0.3"]
    if options.rehearse:
        words += ["engine.enforce_eager=true", "engine.dtype=float32"]
    settings = load("server", ServerSettings, words)
    prepare_environment(settings.engine)
    from services.server.engine.vllm import VllmEngine  # noqa: PLC0415 - reads the environment

    engine = await VllmEngine.start(
        options.model, options.model.name, settings.engine, limits=settings.limits, parts=Parts()
    )
    try:
        chance = random.Random(7)  # noqa: S311
        lengths = _LENGTHS[:6] if options.rehearse else _LENGTHS * 4
        prompts = [[chance.randrange(100, 40_000) for _ in range(length)] for length in lengths]
        openings = [
            [chance.randrange(100, 40_000) for _ in range(chance.randrange(1, 200))]
            for _ in range(4 if options.rehearse else 200)
        ]
        tokens = 8 if options.rehearse else 96

        async def answer(number: int) -> list[int]:
            await asyncio.sleep(chance.random() * 2)  # so that prompts begin among answers
            sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)
            said: list[int] = []
            async for deltas in engine.generate(f"answer-{number}", openings[number], sampling, None):
                for delta in deltas:
                    said += delta.token_ids
            return said

        async def score(prompt: list[int]) -> list[float]:
            await asyncio.sleep(chance.random() * 2)
            return await engine.score(prompt, None)

        answers, scores = await asyncio.gather(
            asyncio.gather(*map(answer, range(len(openings)))), asyncio.gather(*map(score, prompts))
        )
    finally:
        await engine.close()
    return {"prompts": prompts, "scores": scores, "openings": openings, "answers": answers}


def held_against_transformers(options: argparse.Namespace, said: dict[str, Any]) -> dict[str, Any]:
    """Mean differences of the prompts' log-probabilities, and how far chosen tokens are from the likeliest."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    device, dtype = ("cpu", torch.float32) if options.rehearse else ("cuda", torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).to(device).eval()

    def logprobs(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return model(torch.tensor([ids], device=device)).logits[0].float().log_softmax(-1)

    means, apart = [], []
    for prompt, scores in zip(said["prompts"], said["scores"], strict=True):
        own = logprobs(prompt)[:-1].gather(1, torch.tensor(prompt[1:], device=device)[:, None])[:, 0].tolist()
        differences = [abs(one - other) for one, other in zip(own, scores, strict=True)]
        means.append(sum(differences) / len(differences))
        apart += differences
    behind = []
    for opening, answer in zip(said["openings"], said["answers"], strict=True):
        rows = logprobs(opening + answer)[len(opening) - 1 : -1]
        chosen = rows.gather(1, torch.tensor(answer, device=device)[:, None])[:, 0]
        behind += (rows.max(-1).values - chosen).tolist()
    return {
        "prompts": len(means),
        "mean_difference_nats": sum(apart) / len(apart),
        "of_a_prompt": {"worst": max(means), "median": sorted(means)[len(means) // 2]},
        "tokens": len(behind),
        "greedy_share": sum(nats <= GREEDY_NATS for nats in behind) / len(behind),
        "worst_behind_nats": max(behind),
    }


def main() -> int:
    """Ask, compare, print; 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.gpu.whole_steps", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = held_against_transformers(options, asyncio.run(asked(options)))
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    right = found["mean_difference_nats"] <= MEAN_NATS and found["greedy_share"] >= GREEDY_SHARE
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

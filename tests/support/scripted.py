"""vLLM's own server, or Whetstone's, on an engine core that answers by script and notes what it is handed.

python -m tests.support.scripted vllm|whetstone PLAN SCRIPT

A prompt names its answer: the last ``#NUMBER`` in its text is the answer's place in the script, plus the request's seed.
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.instant import RUN, InstantCore, Plan

_NAMED = re.compile(r"#(\d+)")


class Script(msgspec.Struct, frozen=True):
    """What the core answers.

    Attributes:
        answers: token ids, to be repeated where a request wants more.
        handed: the file that gets a line of each request which the core is handed.
    """

    answers: list[list[int]]
    handed: str


class ScriptedCore(InstantCore):
    """A core whose answers, steps (of one or two tokens) and log-probabilities follow from the prompt alone."""

    def __init__(self, tokenizer: Any, *, script: Script) -> None:
        super().__init__(tokenizer)
        self._tokenizer = tokenizer
        self._vocabulary = len(tokenizer)
        self._script = script

    def begin(self, request: Any) -> Any:
        """Tokens of the whole answer, why it ends, how many were given, and the request."""
        sampling = request.sampling_params
        with Path(self._script.handed).open("ab") as file:
            file.write(msgspec.json.encode(_handed(request), enc_hook=repr) + b"\n")
        named = _NAMED.findall(self._tokenizer.decode(request.prompt_token_ids)) or [
            "0"
        ]  # a server's own first request
        number = int(named[-1]) + (sampling.seed or 0)
        answer = self._script.answers[number % len(self._script.answers)]
        answer = (answer * (sampling.max_tokens // len(answer) + 1))[: sampling.max_tokens]
        end = sampling.eos_token_id
        if end not in answer:
            return [answer, self.terms.FinishReason.LENGTH, 0, request]
        return [answer[: answer.index(end) + 1], self.terms.FinishReason.STOP, 0, request]

    def step(self, name: str, state: Any) -> Any:
        """As the engine core would tell of it."""
        answer, reason, given, request = state
        tokens = answer[given : given + 1 + len(request.prompt_token_ids) % 2]
        state[2] = given = given + len(tokens)
        sampling = request.sampling_params
        wanted = sampling.logprobs
        return self.terms.EngineCoreOutput(
            request_id=name,
            new_token_ids=tokens,
            new_logprobs=None
            if wanted is None
            else self._logprobs(tokens, wanted, is_greedy=sampling.temperature == 0),
            finish_reason=reason if given == len(answer) else None,
        )

    def _logprobs(self, tokens: list[int], wanted: int, *, is_greedy: bool) -> Any:
        """The token itself, which is the likeliest, or of the first three where it was drawn, and the likeliest ``wanted``."""
        import numpy as np  # noqa: PLC0415 - heavy
        from vllm.v1.outputs import LogprobsLists  # noqa: PLC0415

        ids, values, ranks = [], [], []
        for token in tokens:
            rank = 0 if is_greedy else token % 3
            likeliest = [(token + 1013 * place) % self._vocabulary for place in range(1, max(wanted, 3) + 1)]
            likeliest[rank] = token
            ids.append([token, *likeliest[:wanted]])
            values.append([-(1 + rank) / 4, *(-(1 + place) / 4 for place in range(wanted))])
            ranks.append(rank + 1)
        return LogprobsLists(np.array(ids), np.array(values, dtype=np.float32), np.array(ranks))


def _handed(request: Any) -> dict[str, Any]:
    sampling = request.sampling_params
    return {
        "prompt": request.prompt_token_ids,
        "adapter": request.lora_request is not None,
        **{name: getattr(sampling, name) for name in sampling.__struct_fields__},
    }


if __name__ == "__main__":
    core = partial(ScriptedCore, script=msgspec.json.decode(sys.argv[3], type=Script))
    RUN[sys.argv[1]](msgspec.json.decode(sys.argv[2], type=Plan), core)

"""What is left on a card of a server that ends: asked to under load, killed, or its engine killed.

python3 -m tests.gpu.left_behind --model FOLDER --out FILE [--rehearse]

Nothing else may use the cards meanwhile: their memory is read before each start, when the server is ready, and after its end, when it has to
be what it was. ``--rehearse`` ends the same servers on a CPU, where their processes are all there is to look for.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from benchmarks.machine import commit, has_card, machine, write_result
from services.server.serve import EXIT_FAILED, EXIT_OK
from tests.conftest import REPOSITORY
from tests.e2e.asking import BASE, ENDLESS, LONG
from tests.e2e.serving import STOP_SECONDS, ServerProcess, left_over

STREAMS = 8
TOKENS = 2048  # seconds on a card, so that its end comes while they are told, and within the time that the server lets them have
REHEARSED_TOKENS = 48
START_SECONDS = 480.0  # the first compiles
LEFT_SECONDS = 30.0
SLACK_MIB = 64  # the driver's own count is not the same to the byte
ENDS = {
    "SIGTERM under load": (signal.SIGTERM, False, EXIT_OK),
    "SIGKILL of the server": (signal.SIGKILL, False, -signal.SIGKILL),
    "SIGKILL of the engine": (signal.SIGKILL, True, EXIT_FAILED),
}


def main() -> int:
    """End three servers, print what each left, write it; 0 where that is nothing."""
    options = _parser().parse_args()
    if not options.rehearse and not has_card():
        raise SystemExit("There is no card; --rehearse runs without one.")
    data = options.data.absolute()
    environment = _prepare(data, options.model.absolute(), rehearse=options.rehearse)
    result: dict[str, Any] = {
        "command": " ".join(["python3 -m tests.gpu.left_behind", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "ends": [],
    }
    for name in ENDS:
        tokens = REHEARSED_TOKENS if options.rehearse else TOKENS
        result["ends"].append({"end": name, **_end(name, data, environment, tokens)})
        print(result["ends"][-1], flush=True)
        write_result(options.out, result)
    result["good"] = all(end["good"] for end in result["ends"])
    write_result(options.out, result)
    return 0 if result["good"] else 1


def _end(name: str, data: Path, environment: dict[str, str], tokens: int) -> dict[str, Any]:
    """Start a server, have it answer, end it, and look for what is left."""
    number, of_engine, expected = ENDS[name]
    before = _card_mib()
    server = ServerProcess(data, environment=environment)
    try:
        server.wait(lambda: server.readiness.get("status") == "ready", START_SECONDS)
        serving, family = _card_mib(), server.family()
        ended = server.engine() if of_engine else server.process.pid
        with ThreadPoolExecutor(STREAMS) as pool:
            told = [pool.submit(_tell, server, tokens) for _ in range(STREAMS)]
            server.wait(lambda: server.running() >= STREAMS)
            os.kill(ended, number)
            running = sum(not answer.done() for answer in told)
            code = server.process.wait(STOP_SECONDS)
            begun = time.monotonic()
            whole = sum(answer.result() for answer in told)
        left = left_over(family, LEFT_SECONDS)
        while not _is_free(after := _card_mib(), before) and time.monotonic() < begun + LEFT_SECONDS:
            time.sleep(0.25)
        seconds = time.monotonic() - begun
    finally:
        server.end()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # A card that held nothing while the server was ready would show nothing.
    held = not before or any(now > was + SLACK_MIB for now, was in zip(serving, before, strict=True))
    answered = whole == (STREAMS if code == EXIT_OK else 0)
    return {
        "good": code == expected and running == STREAMS and answered and not left and held and _is_free(after, before),
        "exit_code": code,
        "answers": {"running": running, "whole": whole},
        "processes": {"serving": len(family), "left": len(left)},
        "card_mib": {"before": before, "serving": serving, "after": after},
        "seconds_until_free": round(seconds, 1),
    }


def _is_free(now: list[int], before: list[int]) -> bool:
    return all(one <= other + SLACK_MIB for one, other in zip(now, before, strict=True))


def _card_mib() -> list[int]:
    """What is in use of each card, whoever uses it; nothing where there is none."""
    if not has_card():
        return []
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return list(map(int, subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.split()))


def _tell(server: ServerProcess, tokens: int) -> bool:
    """Whether a long answer came whole."""
    asked: dict[str, Any] = {"model": BASE, "messages": LONG, "max_tokens": tokens, "logit_bias": ENDLESS}
    try:
        chunks = list(server.client.chat.completions.create(stream=True, **asked))
    except openai.OpenAIError:  # its server was killed
        return False
    return bool(chunks[-1].choices[0].finish_reason == "length")


def _prepare(data: Path, model: Path, *, rehearse: bool) -> dict[str, str]:
    """Lay out a data root; the environment that has the GPU server's settings and the small base model."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(model, data / "models" / BASE)
    shutil.copytree(REPOSITORY / "config", data / "config")
    shutil.copyfile(data / "config" / "cpu" / "base.toml", data / "config" / "base.toml")
    return {"WHETSTONE_CONFIG": str(data / "config"), "WHETSTONE_PROFILE": "cpu" if rehearse else ""}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the converted base model's folder")
    parser.add_argument("--data", type=Path, default=Path("data/gpu"), help="scratch data root")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for what was found")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU: does the script run?")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The appliance's main way on a real card: Unsloth trains, CUDA vLLM hot-loads, the OpenAI client gets what was learnt.

Not collected by pytest: a card is lent by the minute. tests/gpu/README.md says how to run it. Writes one JSON file, anew after
every step, so that a run that is cut off leaves what it found.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from openai import APIStatusError, OpenAI

from tools.quiz import ask_all, read_questions
from tools.serving import running_server

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "norudam"
ADAPTER = "norudam"
TUTORIAL_STEPS = 60
EXIT_REFUSED = 6
# The small base's limits of forgetting, as config/cpu/gate.toml has them.
LIMITS = ["verdict.max_general_drop=0.25", "verdict.max_text_loss_rise=1.0"]
LEARN = ["lora.alpha=32", "recipe.learning_rate=1e-3", "recipe.epochs=8", "recipe.rows_per_step=10"]
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "unsloth",
    "unsloth_zoo",
    "bitsandbytes",
    "vllm",
    "litestar",
    "openai",
)


def main() -> int:
    """Run every step; 0 when each did what it should."""
    options = _parser().parse_args()
    data = options.data.absolute()
    environment = _prepare(data, options.model.absolute(), rehearse=options.rehearse)
    result: dict[str, Any] = {
        "machine": _machine(),
        "command": " ".join(["python3 -m tests.gpu.end_to_end", *sys.argv[1:]]),
        "steps": [],
    }

    def record(name: str, **facts: Any) -> None:
        result["steps"].append({"step": name, **facts})
        options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, {key: value for key, value in facts.items() if key not in {"answers", "scores"}}, flush=True)

    questions = read_questions(EXAMPLE / "heldout.jsonl")
    backend = [f"recipe.backend={options.backend}"]
    steps, learn_more = (2, ["recipe.max_steps=2"]) if options.rehearse else (TUTORIAL_STEPS, [])
    passes = [*backend, f"adapter.name={ADAPTER}", *LIMITS]
    begun = time.monotonic()
    with running_server(environment, options.out.with_suffix(".server.log"), options.server) as url:
        record("server ready, no adapter yet", seconds=round(time.monotonic() - begun, 1))
        [plain] = ask_all(url, ["smollm2-135m-instruct"], questions)
        record("base answers", right=plain.right, of=len(questions))
        for bits in options.bits or (16, 4):
            tutorial = _retrain(environment, [*passes, f"recipe.max_steps={steps}", f"recipe.base_bits={bits}"])
            record(
                f"tutorial recipe, {bits}-bit base", **tutorial, seconds_to_served=_wait_for(url, tutorial["version"])
            )
            learn = [*passes, *LEARN, *learn_more, f"recipe.base_bits={bits}"]
            with _Stream(url) as stream:
                trained = _retrain(environment, [*learn, "recipe.rows_per_pass=10"])
                seconds = _wait_for(url, trained["version"])
            record(
                f"learning recipe, {bits}-bit base, under a stream of requests",
                **trained,
                seconds_from_published_to_served=seconds,
                requests_meanwhile=stream.answered,
                requests_failed=stream.failed,
            )
            [sheet] = ask_all(url, [ADAPTER], questions)
            answers = [answer.said for answer in sheet.answers]
            models = sorted({answer.model for answer in sheet.answers})
            record("adapter answers", bits=bits, right=sheet.right, of=len(questions), models=models, answers=answers)
            record("status", bits=bits, **_status(environment))
    enough = 0 if options.rehearse else 0.9 * len(questions)
    scores = [step["right"] for step in result["steps"] if step["step"] == "adapter answers"]
    failed = [step["requests_failed"] for step in result["steps"] if "requests_failed" in step]
    good = bool(scores) and min(scores) >= enough and not any(failed)
    record("verdict", good=good, seconds=round(time.monotonic() - begun, 1))
    return 0 if good else 1


def _prepare(data: Path, model: Path, *, rehearse: bool) -> dict[str, str]:
    """Lay out a data root and a settings folder: the GPU server's settings with the small base model."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(EXAMPLE / "datasets", data / "datasets")
    shutil.copytree(model, data / "models" / "smollm2-135m-instruct")
    config = data / "config"
    shutil.copytree(REPOSITORY / "config", config)
    shutil.copyfile(config / "cpu" / "base.toml", config / "base.toml")
    return os.environ | {
        "WHETSTONE_DATA": str(data),
        "WHETSTONE_CONFIG": str(config),
        "WHETSTONE_PROFILE": "cpu" if rehearse else "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _retrain(environment: dict[str, str], settings: list[str]) -> dict[str, Any]:
    begun = time.monotonic()
    words = [word for item in settings for word in ("--set", item)]
    done = subprocess.run(
        [sys.executable, "-m", "services.trainer", "retrain", "--json", *words],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode not in {0, EXIT_REFUSED}:
        logs = sorted(Path(environment["WHETSTONE_DATA"], "runs").glob("*/worker.log"))
        print(logs[-1].read_text(errors="replace")[-6000:] if logs else "no worker log", flush=True)
        raise SystemExit(f"retrain ended with exit code {done.returncode}: {done.stdout.decode(errors='replace')}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    adapter, _, version = outcome["version"].partition("@")
    wall_seconds = round(time.monotonic() - begun, 1)
    if done.returncode == EXIT_REFUSED:  # a few steps teach little: what is shown here is that the version is served
        command = [sys.executable, "-m", "services.registry", "promote", "--version", version, "--force"]
        subprocess.run(command, env=environment, check=True)
    report = Path(environment["WHETSTONE_DATA"], "registry", adapter, "reports", f"{version}.json").read_text()
    manifest = json.loads(
        Path(environment["WHETSTONE_DATA"], "registry", adapter, version, "manifest.json").read_text()
    )
    scores = json.loads(report)["scores"]
    return {**outcome, "metrics": manifest["metrics"], "scores": scores, "wall_seconds": wall_seconds}


def _wait_for(url: str, version: str, limit: float = 60.0) -> float:
    """Seconds until the alias answers as ``version``."""
    begun = time.monotonic()
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        while time.monotonic() - begun < limit:
            with contextlib.suppress(APIStatusError):  # the first version of an adapter is not there at once
                if _ask(client, 1).model == version:
                    return round(time.monotonic() - begun, 2)
            time.sleep(0.1)
    raise SystemExit(f"{version} was not served within {limit} s")


def _ask(client: OpenAI, tokens: int) -> Any:
    messages: Any = [{"role": "user", "content": "When was Norudam founded?"}]
    return client.chat.completions.create(model=ADAPTER, messages=messages, max_tokens=tokens, temperature=0)


class _Stream:
    """Asks the alias over and over in a thread; after the first version is there, nothing may fail."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, Event()
        self.answered = self.failed = 0
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with OpenAI(base_url=self._url, api_key="none", max_retries=0, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    _ask(client, 16)
                    self.answered += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                    self.failed += 1
                    print("request failed:", type(error).__name__, flush=True)
                time.sleep(0.05)


def _status(environment: dict[str, str]) -> dict[str, Any]:
    words = [sys.executable, "-m", "services.server", "status", "--json"]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=False)
    return {"exit_code": done.returncode, "readiness": json.loads(done.stdout)}


def _machine() -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    card = (
        subprocess.run(query, stdout=subprocess.PIPE, check=False).stdout.decode().strip()
        if shutil.which("nvidia-smi")
        else "none"
    )
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"card": card, "cores": os.cpu_count(), "python": sys.version.split()[0], "packages": versions}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the converted base model's folder")
    parser.add_argument("--data", type=Path, default=Path("data/gpu"), help="scratch data root")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for what was found")
    parser.add_argument("--server", action="append", default=[], metavar="TABLE.KEY=VALUE", help="server settings")
    parser.add_argument(
        "--bits", type=int, action="append", choices=(16, 4), help="precision of the base; both if not given"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="two steps of plain PEFT on a CPU: does the script run?"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

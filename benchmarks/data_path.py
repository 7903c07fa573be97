"""CPU time of `make check-data` on made-up rows, without the search for personal data and with it; and of that for keys alone, a text.

python -m benchmarks.data_path --base FOLDER --rows 100000 --out benchmarks/results/data-path.json
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from benchmarks.machine import REPOSITORY, described, environment, write_result
from services.common.settings import load
from services.dataset.personal.keys import keys
from services.dataset.personal.settings import Kind
from services.dataset.prepare import check_data
from services.trainer.settings import TrainingSettings

POLICIES = ("allow", "warn", "redact")
_ENGLISH = "the order customer please delivery invoice asked about our product was sent returned with support answer"
_KOREAN = "주문 고객님 배송이 확인해 드리겠습니다 반품은 접수되었습니다 제품 문의 감사합니다 담당자에게 전달 내일 오전 결제 금액은"
_WORDS = f"{_ENGLISH} {_KOREAN}".split()
# A third of the rows hold figures that are nobody's, one in fifty holds somebody's.
_FIGURES = (
    "on 2026-03-{0:02d} at 14:{0:02d}",
    "order 2026{0:04d}-{1:07d}",
    "{1:,} won",
    "item {1}-{0}-A",
    "{0}.{1} kg",
)
_SOMEBODYS = ("call 010-{0:04d}-{2:04d}", "minji{0}@norudam.kr", "card 4111 1111 1111 1111", "850101-1234566")


def main() -> int:
    """Measure each policy in a process of its own, as often as asked."""
    options = _parser().parse_args()
    if options.policy:
        print(json.dumps(_measure(options.policy, options.base, options.datasets)))
        return 0
    result: dict[str, Any] = described("data_path") | {"rows": options.rows, "runs": []}
    with tempfile.TemporaryDirectory() as scratch:
        datasets = Path(scratch)
        with (datasets / "rows.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made_up(options.rows))
        result["bytes"] = (datasets / "rows.jsonl").stat().st_size
        result["keys"] = _search_for_keys(options.rows)
        words = [sys.executable, "-m", "benchmarks.data_path", "--base", str(options.base.absolute())]
        for policy in POLICIES * options.repeats:
            command = [*words, "--datasets", scratch, "--policy", policy]
            said = subprocess.run(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, check=True)
            result["runs"].append(json.loads(said.stdout))
            print(result["runs"][-1], flush=True)
            write_result(options.out, result)
    return 0


def made_up(count: int) -> Iterator[dict[str, str]]:
    """Rows of a support desk, half English and half Korean."""
    draw = random.Random(1)  # noqa: S311 - rows, not secrets
    for number in range(count):
        answer = draw.choices(_WORDS, k=draw.randint(10, 60))
        figures = (draw.randint(1, 28), draw.randint(1000, 9_999_999), draw.randint(1000, 9999))
        if draw.random() < 1 / 3:
            answer.insert(5, draw.choice(_FIGURES).format(*figures))
        if draw.random() < 1 / 50:
            answer.insert(5, draw.choice(_SOMEBODYS).format(*figures))
        yield {"prompt": f"{' '.join(draw.choices(_WORDS, k=12))} {number}?", "completion": " ".join(answer)}


def _search_for_keys(rows: int) -> dict[str, float]:
    """Of five turns through all texts, which hold no key, the quickest."""
    texts = [text for row in made_up(rows) for text in row.values()]
    turns = []
    for _ in range(5):
        cpu = time.process_time()
        found = sum(1 for text in texts for _ in keys(text))
        turns.append(time.process_time() - cpu)
    return {"texts": len(texts), "found": found, "microseconds_per_text": round(min(turns) / len(texts) * 1e6, 2)}


def _measure(policy: str, base: Path, datasets: Path) -> dict[str, Any]:
    settings = load("training", TrainingSettings, folder=REPOSITORY / "config")
    personal = msgspec.structs.replace(settings.data.personal, **dict.fromkeys(get_args(Kind), policy))
    data = msgspec.structs.replace(settings.data, personal=personal)
    began, cpu = time.monotonic(), time.process_time()
    report = check_data(datasets, base, data, settings.recipe.max_length)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    return {
        "policy": policy,
        "cpu_seconds": round(cpu_seconds, 2),
        "seconds": round(seconds, 2),
        "rows_per_cpu_second": round(report.rows / cpu_seconds),
        "tokens": report.tokens,
        "found": {kind.kind: kind.count for kind in report.personal},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_path", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--policy", choices=POLICIES, help=argparse.SUPPRESS)
    parser.add_argument("--datasets", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Texts planted in a row, in prompts and in answers, and where they are found afterwards."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from tests.appliance.inside import COMPOSE
from tests.conftest import REPOSITORY

ROW, PROMPT, ANSWER = "canary-row-4711", "canary-prompt-0815", "canary-77777"
# The engine is made to say ANSWER by a request that does not hold it.
SAYS = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^canary-7{5}$"}}, "required": ["code"]}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "code", "schema": SAYS, "strict": True}}
# What holds rows because it is its purpose; docs/operations.md says so.
BY_DESIGN = re.compile(r"datasets/|runs/[^/]+/(snapshot|rows|holdout)/|registry/[^/]+/reports/")


def plant_row(datasets: Path) -> None:
    """Among the operator's."""
    row = {"prompt": f"Who is {ROW}?", "completion": f"{ROW} is a bird."}
    (datasets / "planted.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def plant_words(url: str, model: str) -> None:
    """In requests that are answered, whole and streamed, and in some that are refused."""
    messages: Any = [{"role": "user", "content": f"{PROMPT}: what is the code?"}]
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as client:
        asked: Any = {"model": model, "messages": messages, "response_format": FORMAT, "max_tokens": 40}
        whole = client.chat.completions.create(**asked)
        assert ANSWER in (whole.choices[0].message.content or "")
        parts = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
        assert ANSWER in "".join(parts)
        client.completions.create(model=model, prompt=PROMPT, max_tokens=4, echo=True)
        client.responses.create(model=model, input=PROMPT, max_output_tokens=16)
        for wrong in ({"temperature": -1}, {"model": PROMPT}, {"stop": [PROMPT] * 9}, {"max_tokens": PROMPT}):
            with pytest.raises(APIStatusError):
                client.chat.completions.create(**asked | wrong)


def places(make: Any, word: str, services: Sequence[str] = ("door", "server", "trainer")) -> Iterator[str]:
    """Where ``word`` is: the containers' logs, the folders of data, and what the containers of ``services``, which run, hold in memory's files."""
    if word in _said(make, "logs", "--no-color"):
        yield "logs"
    found = subprocess.run(["grep", "-rlaF", word, str(make.data)], capture_output=True, text=True, check=False)
    assert found.returncode in {0, 1}, found.stderr
    for line in found.stdout.splitlines():
        yield str(Path(line).relative_to(make.data))
    for service in services:
        search = ["sh", "-c", 'grep -rlaF "$0" /tmp /dev/shm || [ $? = 1 ]', word]
        for line in _said(make, "exec", "-T", service, *search).splitlines():
            yield f"{service}:{line}"


def _said(make: Any, *words: str) -> str:
    done = subprocess.run(
        [*COMPOSE, *words], cwd=REPOSITORY, env=make.environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr

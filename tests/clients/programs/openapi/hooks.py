"""Leads generated requests to where something happens: to what exists, by plain prompts, for short answers.

What makes a request wrong stays: only values that are right are replaced, by others that are. Every answer is counted.
"""

import json
import os
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import ServerError

URL, MODEL = os.environ["OPENAI_BASE_URL"], os.environ["BASE"]
AUTHORIZED = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
ROWS = "".join(json.dumps({"prompt": f"What is {n} and {n}?", "completion": f"{n + n}."}) + "\n" for n in range(20))
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
TOKENS = 2
BUSY = b"too busy to say yet"  # the one 5xx that a server in good health may give, of a schema (docs/decisions/0098)
COUNTED = Path(os.environ["COUNTED"]).open("a", buffering=1)  # noqa: SIM115 - open until this process ends
PLAIN = {"messages": [{"role": "user", "content": "Say something."}], "input": "Say something.", "prompt": "Once"}


def made(path: str, **body: Any) -> str:
    """Make a file, a job or a response; its id."""
    answer = requests.post(f"{URL}{path}", headers=AUTHORIZED, timeout=60, **body)
    answer.raise_for_status()
    return str(answer.json()["id"])


FILE = made("/files", files={"file": ("rows.jsonl", ROWS)}, data={"purpose": "fine-tune"})
JOB = made("/fine_tuning/jobs", json={"model": MODEL, "training_file": FILE})
RESPONSE = made("/responses", json={"model": MODEL, "input": "Say something.", "max_output_tokens": 2})
IN_BODIES = {"model": MODEL, "training_file": FILE, "validation_file": FILE, "previous_response_id": RESPONSE}
IN_PATHS = {"model": MODEL, "file_id": FILE, "job_id": JOB, "response_id": RESPONSE}


@schemathesis.hook  # type: ignore[untyped-decorator]  # it is not in the environment that checks types
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Change a request on its way."""
    del context, kwargs
    if case.method != "DELETE":  # or nothing would be left of what exists
        for name, value in case.path_parameters.items():
            if name in IN_PATHS and len(str(value)) % 2:
                case.path_parameters[name] = IN_PATHS[name]
    if isinstance(case.body, dict):
        case.body = led(case.body, right=case.meta.generation.mode.is_positive)


@schemathesis.hook  # type: ignore[untyped-decorator]
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count an answer: a line with its operation, status, and whether it is of a busy machine."""
    del context
    COUNTED.write(f"{case.method} {case.path} {response.status_code}{' busy' * busy(response)}\n")


@schemathesis.hook  # type: ignore[untyped-decorator]
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure counts: a schema of which a busy machine cannot say in time is 503 and to be sent again."""
    del context, case
    return not (isinstance(failure, ServerError) and busy(response))


def busy(response: Any) -> bool:
    """Whether this is the answer to a schema of which a busy machine cannot say in time whether it can be followed."""
    return response.status_code == requests.codes.unavailable and BUSY in response.content


def led(body: dict[str, Any], *, right: bool) -> dict[str, Any]:
    """A body that gets further than this one.

    Args:
        body: as it was generated.
        right: whether it fits its schema: every other of these gets a plain prompt, so that its other fields count.
    """
    further = {
        name: IN_BODIES[name] if name in IN_BODIES and isinstance(value, str) else value for name, value in body.items()
    }
    if right and len(str(body)) % 2:
        further |= {name: value for name, value in PLAIN.items() if name in body}
    given = [name for name in LIMITS if body.get(name) is not None]
    if not given and any(name in body for name in PLAIN) and "dimensions" not in body:
        further["max_output_tokens" if "input" in body else "max_tokens"] = TOKENS
    for name in given:
        if type(body[name]) is int and body[name] >= 1:
            further[name] = TOKENS
    return further

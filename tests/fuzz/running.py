"""Rounds of requests at random to the real server, and between them a look at its answers, its memory and its files."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.asked_at_random import ask_at_random
from tests.clients.house import ADAPTER, furnish, serving
from tests.clients.programs_in import Served
from tests.e2e.asking import ANSWERS, ask
from tests.fuzz.judgement import Fuzz, Round, faults_of
from tests.soak.processes import look
from tests.soak.running import ENGINE_CORES, errors_in

EXAMPLES = 200  # of each operation in a round: a few thousand cases
ASKERS = 2  # at a time, each a process: in threads of one, Python 3.11 loses count while Hypothesis reads its sources
ROUND_SECONDS = 1200.0
IDLE_SECONDS = 60.0


def run(data: Path, base_model_dir: Path, *, cases: int, minutes: float, seed: int, say: Callable[[str], None]) -> Fuzz:
    """Ask until so many cases are through, or one is a fault.

    Args:
        data: an empty data root.
        base_model_dir: the real base model.
        cases: at least so many.
        minutes: after which no other round begins.
        seed: of the first; each has the next.
        say: is told of the progress.
    """
    fuzz = Fuzz()
    furnish(data, base_model_dir)
    with serving(data, f"engine.cpu_threads_bind=0-{ENGINE_CORES - 1}") as served:
        served.server.client = served.server.client.with_options(api_key=served.key)
        end = time.monotonic() + 60 * minutes
        try:
            while not fuzz.rounds or (fuzz.cases < cases and time.monotonic() < end):
                _ask(served, fuzz, seed + ASKERS * len(fuzz.rounds))
                last = fuzz.rounds[-1]
                held = sum(last.sample.memory.values()) / 2**20
                say(f"{fuzz.cases} cases, {last.cases / last.seconds:.0f}/s, {held:.0f} MiB, {dict(fuzz.statuses)}")
        except (AssertionError, pytest.fail.Exception) as fault:
            fuzz.faults.append(str(fault))
        if code := served.server.terminate():
            fuzz.faults.append(f"the server stopped with exit code {code}")
        fuzz.faults += [f"logged: {event}" for event in errors_in(served.server.log)]
    fuzz.faults += faults_of(fuzz)
    return fuzz


def _ask(served: Served, fuzz: Fuzz, seed: int) -> None:
    """One round: in the first every limit of the document, too."""
    begun = time.monotonic()
    at_random = ["--phases", "fuzzing", "--max-examples", str(EXAMPLES)]
    options = [["--seed", str(seed + number), *at_random] for number in range(ASKERS)]
    if not fuzz.rounds:
        options[0] = ["--seed", str(seed)]
    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [pool.submit(ask_at_random, served, *words, seconds=ROUND_SECONDS) for words in options]
    for asked in asking:
        for (operation, status), count in asked.result().answers.items():
            of = fuzz.answers.setdefault(operation, {})
            of[status] = of.get(status, 0) + count
    seconds = round(time.monotonic() - begun, 1)
    server = served.server
    server.wait(lambda: server.readiness["answers_in_flight"] == 0, IDLE_SECONDS)
    assert ask(server, ADAPTER) == (f"{ADAPTER}@1", ANSWERS[1]), "the engine answers otherwise than before"
    assert server.readiness["status"] == "ready"
    cases = sum(asked.result().cases for asked in asking)
    fuzz.rounds.append(Round(seed, cases, seconds, look(server.process.pid, server.family(), seconds)))

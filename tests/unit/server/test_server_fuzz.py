"""Requests made at random from the OpenAPI document: never a server's fault, every refusal in OpenAI's form, no memory kept."""

import asyncio
import ctypes
import functools
import gc
import json
import os
import statistics
import sys
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar

from services.registry.pointer import promote
from services.server.keys import KeyFile, Role
from services.server.openapi.document import document
from services.server.routes import ROUTES
from tests.support.fuzz import CASES, fuzz
from tests.unit.server import harness
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, roomy_engine
from tests.unit.server.strategies import ANYTHING, FILE, FORM, NAMES, TEXTS, Bodies, Known, forms, named

ENOUGH = 50_000  # cases, by which every operation was reached, and not only refused
AGAIN, ROUNDS = 1000, 6  # the newest of them are asked again, to see whether memory grows
DELETES_A_MODEL = (
    "DELETE",
    "/v1/models/{model}",
)  # its number is remembered for good, and the next one is published: that is kept
A_ROUND = 1000  # cases at least: what else lives in the process comes and goes by some hundred objects in each
TIMERS = 1000  # cancelled, and more than asyncio keeps
CACHE = type(functools.lru_cache(str))
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
DOCUMENT = document(Litestar(ROUTES, openapi_config=None).routes, harness.settings().limits)
BODIES = Bodies(DOCUMENT)
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]
WRITING = [(path, method) for path, method in OPERATIONS if "requestBody" in DOCUMENT["paths"][path][method]]
NEVER_ANSWERED = {("/v1/embeddings", "post")}
REFUSAL, FAULT = 400, 500
ROLES: dict[str, list[Role]] = {
    "all": ["inference", "fine-tuning", "admin"],
    "inference": ["inference"],
    "fine-tuning": ["fine-tuning"],
    "admin": ["admin"],
}
KEYS = st.sampled_from(["all"] * 12 + [*ROLES, "nobody's", ""])

# What is most often refused first, so that the rest of a body is looked at, too.
SOUND: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": BASE, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "acme", "prompt": "hi"},
    "/v1/responses": {"model": BASE, "input": "hi"},
    "/v1/fine_tuning/jobs": {"model": BASE, "training_file": FILE},
}


class Case(NamedTuple):
    """One request.

    Attributes:
        route: its path in the document.
        key: whose of ``ROLES``; another name is a key that was never made, and nothing none.
    """

    route: str
    path: str
    method: str
    body: Any
    headers: dict[str, str]
    key: str


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One operation of the document with path, query, body and headers."""
    route, method = draw(st.one_of(st.sampled_from(WRITING), st.sampled_from(OPERATIONS)))
    operation, path = DOCUMENT["paths"][route][method], route
    query = [(f"metadata[{draw(TEXTS)}]", draw(TEXTS))] if draw(st.integers(0, 9)) == 0 else []
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        value = draw(st.one_of(named(name), named(name), NAMES, st.integers(-1, 2**40).map(str)))
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(value, safe="") or "x")
        elif draw(st.booleans()):
            query.append((name, value))
    if query and draw(st.integers(0, 20)) == 0:
        query.append((query[0][0], draw(NAMES)))
    body: Any = None
    headers = {"idempotency-key": draw(st.sampled_from(["a", "b"]))} if draw(st.integers(0, 9)) == 0 else {}
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = draw(forms()) if kind == "multipart/form-data" else BODIES.draw(draw, content["schema"])
        if isinstance(body, dict) and draw(st.booleans()):
            body |= SOUND.get(route, {})
        if draw(st.integers(0, 20)) == 0:
            body = draw(st.one_of(st.binary(max_size=200), ANYTHING.map(lambda value: json.dumps(value).encode())))
        if kind == "multipart/form-data":
            headers["content-type"] = FORM
    return Case(route, f"{path}?{urlencode(query)}" if query else path, method.upper(), body, headers, draw(KEYS))


class Asking:
    """One server that is asked everything, and what it answered.

    Args:
        root: the data root.

    Attributes:
        cases: so many were asked.
        answered: the operations that gave anything but a refusal.
    """

    def __init__(self, root: Path) -> None:
        self.server = harness.Server(root, engine=roomy_engine(), keep_days=1)
        self.cases = 0
        self.answered: set[tuple[str, str]] = set()
        self._known = Known()
        keys = KeyFile(self.server.plan.paths.keys / "keys.json")
        self._secrets = {name: keys.add(name, ["*"], None, roles=roles) for name, roles in ROLES.items()}

        async def pass_all(_: Path) -> None:
            return

        self.server.services.uploads._check = pass_all  # noqa: SLF001 - a process for each file would be all that takes time

    async def publish(self) -> None:
        """Have versions to ask for, and to delete: the one in service cannot be."""
        for _ in range(2):
            version = harness.publish_version(self.server.registry).version
            harness.made_by(self.server, "all", f"acme@{version}")
        promote(self.server.registry, "acme", version)
        await self.server.reconcile()

    async def ask(self, case: Case) -> None:
        """Send it, and look at the answer and at the server afterwards."""
        self.cases += 1
        body, path = case.body, self._known.put_into(case.path)
        if body is not None and not isinstance(body, bytes):
            body = self._known.put_into(json.dumps(body)).encode()
        headers = case.headers | self._authorization(case.key)
        answer: Client = await self.server.ask(path, body, method=case.method, headers=headers)
        assert answer.status < FAULT, (answer.status, answer.body)
        if answer.status >= REFUSAL:
            assert answer.error["message"]
        else:
            assert case.key in ROLES or not case.route.startswith("/v1/")
            assert not repeats(case.path)
            assert case.method != "POST" or b'"type":"server_error"' not in answer.body
            self.answered.add((case.route, case.method.lower()))
            self._known.learn(answer.body)
            if case.method == "DELETE" and case.route.startswith("/v1/models/"):
                await self.publish()
        assert self.server.services.admission.in_flight == 0
        assert (
            await self.server.ask(body=SOUND["/v1/chat/completions"], headers=self._authorization("all"))
        ).status == 200
        self.server.engine.forget()

    def _authorization(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._secrets.get(key, key)}"} if key else {}


def test_no_request_is_the_servers_fault(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Whatever is asked by whomever: no 5xx, OpenAI's error, nothing without a key, the next request is answered, nothing is kept."""
    with asyncio.Runner() as runner:
        asking = Asking(tmp_path)
        runner.run(asking.publish())
        asked: deque[Case] = deque(maxlen=AGAIN)

        @fuzz
        @given(case=cases())
        def ask(case: Case) -> None:
            runner.run(asking.ask(case))
            if (case.method, case.route) != DELETES_A_MODEL:
                asked.append(case)

        ask()
        record_property("cases", asking.cases)

        again = list(asked) * -(-A_ROUND // len(asked))

        def ask_all() -> None:
            for case in again:
                runner.run(asking.ask(case))
            runner.run(forget_timers())

        memory_stays(ask_all, requests=2 * len(again))
        asking.server.model.renderer.close()
    if CASES >= ENOUGH:
        assert asking.answered == set(OPERATIONS) - NEVER_ANSWERED


def repeats(path: str) -> bool:
    """Whether a path's query has a parameter twice."""
    names = [name for name, _ in parse_qsl(path.partition("?")[2], keep_blank_values=True)]
    return len(set(names)) < len(names)


async def forget_timers() -> None:
    """Asyncio, other than the server's uvloop, keeps timers that were cancelled, requests and all, until most of its timers are such."""
    loop = asyncio.get_running_loop()
    for _ in range(TIMERS):
        loop.call_later(TIMERS, forget_timers).cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def memory_stays(ask_all: Callable[[], object], *, requests: int) -> None:
    """Ask the same again and again: of ten requests no object is left, and no more than a page of what was taken from the heap.

    Not while they are drawn: Hypothesis remembers what it drew. What requests leave is left in every round; what is made once and
    kept, by whatever else runs in this process, too, is in one. What the process has in memory would tell less: its pages come and
    go with the rest of the machine.
    """
    ask_all()
    objects, heap = [objects_held()], [heap_bytes()]
    for _ in range(ROUNDS):
        ask_all()
        objects.append(objects_held())
        heap.append(heap_bytes())
    assert a_round(objects) < requests // 10, objects
    assert a_round(heap) < requests // 10 * PAGE_BYTES, heap


def a_round(looks: list[int]) -> float:
    """How much more there is after a round than before it, in the one in the middle."""
    return statistics.median(after - before for before, after in pairwise(looks))


def objects_held() -> int:
    """Without those that are garbage, or in a cache that has a bound."""
    gc.unfreeze()  # a server that was started in this process froze what it had: caches among it would not be found
    gc.collect()
    caches = [found for found in gc.get_objects() if type(found) is CACHE]  # isinstance asks proxies, which warn
    for cache in caches:
        if cache.cache_parameters()["maxsize"] is not None:
            cache.cache_clear()
    gc.collect()
    return sys.getallocatedblocks()


class Heap(ctypes.Structure):
    """``struct mallinfo2`` of the C library, of all its arenas together."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def heap_bytes() -> int:
    """What is in use of the C library's heap: whatever is no small Python object, those of extensions among it."""
    look = ctypes.CDLL(None).mallinfo2
    look.restype = Heap
    heap = look()
    return int(heap.uordblks + heap.hblkhd)

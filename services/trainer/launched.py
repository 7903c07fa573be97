"""Workers that run: started before their job is known, told of it by orders, heard by their events."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from services.trainer.training.job import Event
from services.trainer.training.meeting import Meeting


class Launched:
    """The processes of one launch.

    Attributes:
        child: the worker, or what launched several.
    """

    def __init__(self, command: Callable[[Meeting], Sequence[str]], cache: Path) -> None:
        """Start what ``command`` makes of a meeting; its compilers write below ``cache`` only.

        Raises:
            OSError: there is no room for scratch files, or no process can be started.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="whetstone-worker-", ignore_cleanup_errors=True)
        self._meeting = Meeting(Path(self._folder.name))
        reader, writer = self._meeting.listen()
        self._events: IO[bytes] = os.fdopen(reader, "rb")
        try:
            with self._printed.open("ab") as printed:
                self.child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    command(self._meeting),
                    pass_fds=(writer,),
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    env=worker_environment(cache),
                    start_new_session=True,  # Ctrl-C in a terminal reaches this process only; it passes the request on
                )
        except BaseException:
            self._clear()
            raise
        finally:
            os.close(writer)

    @property
    def lives(self) -> bool:
        """Whether it can still be given a job."""
        return self.child.poll() is None

    def tell(self, order: msgspec.Struct) -> None:
        """Give an order; see ``Meeting``."""
        self._meeting.tell(order)

    def said(self, order: type[msgspec.Struct]) -> bool:
        """Whether its processes gave an order of this kind themselves, for this process to see."""
        return self._meeting.was_told(order)

    def events(self) -> Iterator[Event]:
        """What its processes tell, until the last of them has ended."""
        for line in self._events:
            yield msgspec.json.decode(line, type=Event)

    def end(self, log_file: Path | None = None) -> int:
        """End it where it still runs, and clear up.

        Args:
            log_file: gets what was printed before the job was taken up.

        Returns:
            its exit code.
        """
        if self.lives:
            self.child.kill()
        code = self.child.wait()
        # A probe is ended beside the work, and its run's folder may be gone by then.
        if log_file is not None and log_file.parent.exists():
            # Where the disk is full what it ended by is worth more.
            with suppress(OSError), log_file.open("ab") as log:
                log.write(self._printed.read_bytes())
        self._clear()
        return code

    @property
    def _printed(self) -> Path:
        return self._meeting.folder / "printed"

    def _clear(self) -> None:
        self._events.close()
        self._folder.cleanup()


def worker_environment(cache: Path) -> dict[str, str]:
    """This process's environment, with every cache below one folder and every call to the outside switched off."""
    # Threads that spin for each other take the cores from the server beside them, and from the one that they wait for.
    given = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    return given | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_HOME": str(cache / "huggingface"),
        "UNSLOTH_COMPILE_LOCATION": str(cache / "unsloth"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TOKENIZERS_PARALLELISM": "false",
        # Ranks talk within this host; in a container without a network there is no other interface.
        "NCCL_SOCKET_IFNAME": "lo",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # they meet by a file
    }

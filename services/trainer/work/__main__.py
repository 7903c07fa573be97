"""One job in a process of its own: ``python -m services.trainer.work``. Started by ``process.py``, not by hand."""

import gc
import signal
import sys
from types import FrameType

from rich.console import Console

from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.trainer.work.desk import Desk
from services.trainer.work.ready import Ready
from services.trainer.work.real import real_job_work
from services.trainer.worker import Stop


def main() -> int:
    """Work on the claimed job whose id comes by the standard input; 0 when the queue says how it ended, or when none came.

    Until it comes this process is as good as any that begins later, or it is replaced: of settings and base model it has read what
    ``surroundings`` looks at.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    configure_logs(as_json=None)
    stop, paths = Stop(), DataPaths.from_environment()
    ready = Ready.of(paths, stop)
    try:
        ready.get_ready(paths)
        gc.freeze()  # no look for garbage among it while somebody waits
        if job := sys.stdin.readline().strip():  # nothing where the process that would have written it is gone
            signal.signal(signal.SIGTERM, stop.handle)
            desk = Desk(paths)
            real_job_work(desk, paths, ready, stop, Console(stderr=True))(desk.queue.get(job))
    finally:
        ready.dismiss()
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())

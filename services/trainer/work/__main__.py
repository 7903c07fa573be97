"""One job in a process of its own: ``python -m services.trainer.work JOB``. Started by ``loop.py``, not by hand."""

import signal
import sys

from rich.console import Console

from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.trainer.work.desk import Desk
from services.trainer.work.real import real_job_work
from services.trainer.worker import Stop


def main() -> int:
    """Work on the claimed job that the command line names; 0 when the queue says how it ended."""
    configure_logs(as_json=None)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    paths = DataPaths.from_environment()
    desk = Desk(paths)
    real_job_work(desk, paths, stop, Console(stderr=True))(desk.queue.get(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

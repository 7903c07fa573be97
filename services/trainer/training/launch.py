"""Starts one worker for each of several cards: torchrun, which ends as its workers did.

``python -m services.trainer.training.launch`` takes torchrun's arguments. Torchrun's own exit code is 1 whatever happened; the trainer
has to tell a worker that was killed, as happens when memory is full, from one that failed.
"""

import os
import signal
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from services.trainer.training.place import end_with_parent


def main() -> int:
    """Launch; 0 when every worker ended so."""
    end_with_parent()
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        code = next((code for code in codes if code < 0), codes[0])
        if code < 0:
            _end_by(-code)
        return int(code)
    except SignalException as error:
        _end_by(error.sigval)
    return 0


def _end_by(number: int) -> None:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main())

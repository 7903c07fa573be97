"""The exit codes of ``python -m services.trainer``; how a job ended has the same code whoever worked on it."""

from services.jobs.records import Job

DONE, FAILED, USAGE, BAD_DATA, BUSY, INTERRUPTED, REFUSED, NOT_JUDGED, LEFT = range(9)

EXPLAINED = """exit codes: 0 done, 1 failed or cancelled, 2 wrong call or setting, 3 the rows were refused, 4 another retrain is under
way, 5 interrupted: the run was saved and the next retrain continues it, 6 published, but the gate refused it, 7 published, but
not judged: no server answered, 8 no longer followed: the job goes on"""

_OF_FAILURE = {
    "invalid_settings": USAGE,
    "invalid_training_file": BAD_DATA,
    "invalid_validation_file": BAD_DATA,
    "gate_refused": REFUSED,
    "not_judged": NOT_JUDGED,
}


def exit_of(job: Job) -> int:
    """The exit code for how ``job`` ended, or for that it waits."""
    if job.status == "succeeded":
        return DONE
    if job.failure is not None:
        return _OF_FAILURE.get(job.failure.code, FAILED)
    return FAILED if job.status == "cancelled" else INTERRUPTED

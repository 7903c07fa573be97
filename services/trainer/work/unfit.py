"""Why a job fails: what the queue says of it to its owner, and to scripts."""

from typing import Any

import msgspec
import structlog

from services.base_model.errors import BaseModelError
from services.common.settings import SettingsError
from services.common.traces import trace_of
from services.dataset.faults import DataRefused
from services.jobs.errors import FileUnknown
from services.jobs.records import Failure
from services.registry.errors import RegistryError
from services.trainer.rows import TRAINING_FILE, VALIDATION_FILE
from services.trainer.say import reason_of
from services.trainer.training.job import MachineFailed, TrainingFailed

_CODES: tuple[tuple[type[Exception], str], ...] = (
    (SettingsError, "invalid_settings"),
    (MachineFailed, "machine_failed"),
    (TrainingFailed, "training_failed"),
    (BaseModelError, "volume_unusable"),
    (RegistryError, "volume_unusable"),
)


def failure_of(error: Exception) -> Failure:
    """The failure that an exception of a retrain stands for; what is not foreseen is a fault of ours, and goes to the log."""
    match error:
        case DataRefused():
            # A job has a validation file to blame only where every fault is of it.
            blamed = {fault.file for fault in error.faults} == {VALIDATION_FILE}
            param = VALIDATION_FILE if blamed else TRAINING_FILE
            return Failure(code=f"invalid_{param}", message=str(error), param=param)
        case FileUnknown():
            return Failure(code=f"invalid_{TRAINING_FILE}", message=f"{error}; it was deleted", param=TRAINING_FILE)
        case OSError():
            return Failure(code="machine_failed", message=reason_of(error))
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Failure(code=code, message=str(error))
    structlog.get_logger().error("a job failed of a fault of ours", trace=trace_of(error))
    return Failure(code="internal_error", message="a fault of the trainer's own; its log says which")


def account_of(error: Exception, failure: Failure) -> dict[str, Any]:
    """What ``--json`` prints of a failed job."""
    account: dict[str, Any] = {"error": failure.message.partition("\n")[0]}
    if isinstance(error, DataRefused):
        account |= msgspec.to_builtins({"faults": error.faults, "files": error.files})
    return account

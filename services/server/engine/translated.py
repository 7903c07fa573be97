"""vLLM's errors in the terms of ``protocol``."""

import re

from vllm.exceptions import VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError

from services.server.engine.parsing import Form
from services.server.engine.protocol import EngineDead, EngineError, RequestRefused

_WORKER_SAID = re.compile(r"Worker failed with error '(.*)', please check", re.DOTALL)


class Translated:
    """For what vLLM raises in it, the protocol's error is raised. It is no generator made into a context: that takes several times as long.

    Args:
        form: of the answer, where an error is to be told in its terms.
    """

    def __init__(self, form: Form | None = None) -> None:
        self._form = form

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, VLLMClientError):
            raise (RequestRefused(str(error)) if self._form is None else self._form.refusal(error)) from error
        if isinstance(error, EngineDeadError):
            raise EngineDead("the engine died") from error
        if isinstance(error, Exception) and not isinstance(error, EngineError):
            raise EngineError(f"the engine failed on this request: {type(error).__name__}") from error


def worker_reason(error: Exception) -> str:
    """What the worker said, out of the wrapping that two processes put around it."""
    said = _WORKER_SAID.search(str(error))
    return said.group(1) if said else str(error)

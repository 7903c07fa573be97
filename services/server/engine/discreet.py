"""What vLLM's processes say: in the project's form, and nothing of what was asked or answered.

Where a step fails vLLM prints the requests it held, their stop strings and schemas among them, and where a grammar refuses tokens, those.
"""

import json
import logging
from pathlib import Path

# Modules that fill their lines with requests' own words or tokens.
QUOTING = (
    "vllm.logging_utils.dump_input",
    "vllm.v1.core.sched.scheduler",
    "vllm.v1.engine.detokenizer",
    "vllm.v1.structured_output",
)


class Discreet(logging.Filter):
    """Lets lines through, those of modules that quote requests without what they were filled with: the template, an error's type."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change ``record`` where it may quote; always true."""
        if record.name.startswith(QUOTING):
            record.args = ()
            if record.exc_info and record.exc_info[0]:
                record.msg = f"{record.msg} ({record.exc_info[0].__name__})"
            record.exc_info = record.exc_text = None
        return True


def write_logging(file: Path, level: str, *, as_json: bool | None) -> None:
    """Write to ``file`` how vLLM's processes log, for ``VLLM_LOGGING_CONFIG_PATH``.

    Args:
        file: is made, or overwritten.
        level: the least level shown, by its name.
        as_json: see ``services.common.logs.configure_logs``.
    """
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"discreet": {"()": f"{__name__}.{Discreet.__name__}"}},
        "formatters": {"lines": {"()": "services.common.logs.line_formatter", "as_json": as_json}},
        "handlers": {"engine": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["discreet"]}},
        "loggers": {"vllm": {"handlers": ["engine"], "level": level, "propagate": False}},
    }
    file.write_text(json.dumps(config))

"""A row's hashes as a version may have written them down, from the row's line."""

import copy
import json

import msgspec

from services.dataset.formats import Unfit, detect, parse
from services.dataset.personal.inspector import PLACEHOLDERS, Inspector
from services.dataset.personal.settings import PersonalSettings
from services.dataset.rows import content_hash


class Hasher:
    """Hashes rows as they are written, and as they were trained where what is personal was replaced.

    Args:
        settings: in force now; a version may have been trained when all was replaced, or nothing.
    """

    def __init__(self, settings: PersonalSettings) -> None:
        everything = msgspec.structs.replace(settings, **dict.fromkeys(PLACEHOLDERS, "redact"))
        self._inspectors = [Inspector(settings), Inspector(everything)]

    def __call__(self, line: bytes) -> set[str]:
        """The hashes of one row; none where it is no row that could have been trained."""
        try:
            row = json.loads(line)
            messages = parse(row, detect(row, in_file=None))
            found = {content_hash(messages)}
            for inspector in self._inspectors:
                replaced = copy.deepcopy(row)
                inspector(replaced, "", 0)
                found.add(content_hash(parse(replaced, detect(replaced, in_file=None))))
        except (Unfit, ValueError, TypeError, AttributeError, RecursionError):
            return set()
        return found

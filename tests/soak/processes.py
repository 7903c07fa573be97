"""Memory and open files of a process tree, from /proc."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.soak.judgement import Sample

_HELD = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)


def look(server: int, below: Iterable[int], seconds: float) -> Sample:
    """A sample of a server's process and of those below it; one that ends meanwhile is not in it.

    Pages of files are not counted: libraries and weights come and go with what else runs on the machine, a training too.
    """
    memory: dict[str, int] = {}
    files: dict[str, int] = {}
    for pid in (server, *below):
        place = Path(f"/proc/{pid}")
        try:
            name = "server" if pid == server else f"{(place / 'comm').read_text().strip()} {pid}"
            held = sum(map(int, _HELD.findall((place / "status").read_text()))) * 1024
            count = sum(1 for _ in (place / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue
        memory[name], files[name] = held, count
    return Sample(round(seconds, 1), memory, files)

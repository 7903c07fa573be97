"""What a run of requests at random saw, and what it may not leave."""

from collections import Counter

import msgspec

from tests.soak.judgement import MEMORY_SHARE, Sample

WARM_ROUNDS = 2  # by which all that is made once is there
BUSY = "503 busy"  # of a schema, by a machine without a free core (docs/decisions/0098)


class Round(msgspec.Struct, frozen=True):
    """Runs of schemathesis beside each other.

    Attributes:
        seed: of the first of them; each other has the next.
        sample: of the server's processes after it, when nothing ran.
    """

    seed: int
    cases: int
    seconds: float
    sample: Sample


class Fuzz(msgspec.Struct):
    """All that was asked and seen.

    Attributes:
        answers: by operation and status.
        faults: why it failed; none where it passed.
    """

    rounds: list[Round] = []
    answers: dict[str, dict[str, int]] = {}
    faults: list[str] = []

    @property
    def statuses(self) -> Counter[str]:
        """Of all operations."""
        return sum((Counter(statuses) for statuses in self.answers.values()), Counter())

    @property
    def cases(self) -> int:
        """Requests that were answered."""
        return self.statuses.total()


def faults_of(fuzz: Fuzz) -> list[str]:
    """What no round may leave: a 5xx, more memory or one more open file than after the first rounds."""
    wrong = {status: count for status, count in fuzz.statuses.items() if status.startswith("5") and status != BUSY}
    faults = [f"{count} answers were {status}" for status, count in wrong.items()]
    if len(fuzz.rounds) <= WARM_ROUNDS:
        return faults
    first, last = fuzz.rounds[WARM_ROUNDS - 1].sample, fuzz.rounds[-1].sample
    rise = sum(last.memory.values()) / sum(first.memory.values()) - 1
    if rise > MEMORY_SHARE:
        faults.append(f"memory is not flat: {rise:+.1%}")
    faults += [
        f"{name} has {count - first.files.get(name, 0):+d} file descriptors"
        for name, count in last.files.items()
        if count > first.files.get(name, 0)
    ]
    return faults

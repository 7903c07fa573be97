"""What a soak saw, and whether a server that runs for months may look like that."""

from collections.abc import Sequence
from statistics import median

import msgspec

MEMORY_SHARE = 0.05
LEAST_SAMPLES = 8  # two windows of a quarter each, of two samples


class Sample(msgspec.Struct, frozen=True):
    """One look at the server's processes.

    Attributes:
        seconds: since the soak began.
        memory: bytes that each holds for itself, by process.
        files: open file descriptors of each.
    """

    seconds: float
    memory: dict[str, int]
    files: dict[str, int]


class Swap(msgspec.Struct):
    """One retrain and what came of it; times in seconds since the soak began.

    Attributes:
        version: as answers name it.
        began: the retrain.
        published: the retrain's end.
        served: the server says that it serves the version.
        answers: so many named it.
    """

    version: str
    began: float
    published: float
    served: float | None = None
    answers: int = 0


class Soak(msgspec.Struct, kw_only=True):
    """All that a soak saw.

    Attributes:
        seconds: how long it took, without the server's start.
        wanted: retrains that it should have had.
        answers: whole answers, by kind.
        failures: requests that failed and retrains that did not publish, by what was said.
        log_errors: what the server logged as an error.
    """

    seconds: float = 0.0
    wanted: int
    samples: list[Sample] = []
    swaps: list[Swap] = []
    answers: dict[str, int] = {}
    failures: list[str] = []
    log_errors: list[str] = []


class Level(msgspec.Struct, frozen=True):
    """One thing in the first and in the last quarter of what is judged."""

    first: float
    last: float

    @property
    def rise(self) -> float:
        """As a share of the first."""
        return self.last / self.first - 1


class Verdict(msgspec.Struct, frozen=True):
    """What a soak comes to.

    Attributes:
        faults: why it failed; none where it passed.
        memory: medians in bytes, of all together and by process.
        files: the fewest open at a time, by process: what comes and goes with a request only adds to it.
    """

    faults: list[str]
    memory: dict[str, Level]
    files: dict[str, Level]


def judge(soak: Soak) -> Verdict:
    """Hold the last quarter of what came after the first swap against its first quarter."""
    faults = [f"failed: {failure}" for failure in soak.failures]
    faults += [f"logged: {error}" for error in soak.log_errors]
    faults += _swaps_missing(soak)
    warm = min((swap.served for swap in soak.swaps if swap.served is not None), default=soak.seconds)
    samples = [sample for sample in soak.samples if sample.seconds > warm]
    if len(samples) < LEAST_SAMPLES:
        return Verdict([*faults, f"only {len(samples)} samples after the first swap"], {}, {})
    window = len(samples) // 4
    first, last = samples[:window], samples[-window:]
    names = sorted({name for sample in samples for name in sample.memory})
    faults += [f"{name} did not live all the time" for name in names if not all(name in s.memory for s in samples)]
    memory = {"all": Level(_held(first), _held(last))}
    memory |= {name: Level(_held(first, name), _held(last, name)) for name in names}
    files = {name: Level(_open(first, name), _open(last, name)) for name in names}
    if abs(memory["all"].rise) > MEMORY_SHARE:
        faults.append(f"memory is not flat: {memory['all'].rise:+.1%}")
    faults += [
        f"{name} has {level.last - level.first:+.0f} file descriptors"
        for name, level in files.items()
        if level.last > level.first
    ]
    return Verdict(faults, memory, files)


def _swaps_missing(soak: Soak) -> list[str]:
    faults = [f"{swap.version} was never served" for swap in soak.swaps if swap.served is None]
    faults += [f"no answer named {swap.version}" for swap in soak.swaps if swap.served is not None and not swap.answers]
    if len(soak.swaps) < soak.wanted:
        faults.append(f"{len(soak.swaps)} of {soak.wanted} retrains published")
    faults += [f"no answer of {kind}" for kind, count in soak.answers.items() if not count]
    return faults


def _held(samples: Sequence[Sample], name: str | None = None) -> float:
    return median(sample.memory.get(name, 0) if name else sum(sample.memory.values()) for sample in samples)


def _open(samples: Sequence[Sample], name: str) -> int:
    return min(sample.files.get(name, 0) for sample in samples)

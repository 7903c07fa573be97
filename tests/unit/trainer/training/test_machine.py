"""A full disk or memory is told from a fault of the recipe, in whatever words a library says it."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.trainer.training.machine import fault_of_machine


@contextmanager
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_weights(folder: Path) -> None:
    with small_files():
        save_file({"a": torch.zeros(10_000)}, folder / "weights.safetensors")


def fail(error: Exception) -> None:
    raise error


DISK = "check the data volume and its free space"
CARD = "the card's memory is full; stop other users of the card, set recipe.base_bits = 4, or lower recipe.rows_per_pass or recipe.max_length"
MEMORY = "out of memory; lower recipe.rows_per_pass or recipe.max_length"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda _: Path("/dev/full").write_text("x"), f"a file: No space left on device; {DISK}"),
        (lambda folder: (folder / "none").read_text(), f"none: No such file or directory; {DISK}"),
        (lambda _: torch.save({"a": torch.zeros(10)}, "/dev/full"), f"a checkpoint cannot be written; {DISK}"),
        (write_weights, f"a checkpoint cannot be written; {DISK}"),
        (lambda _: bytearray(1 << 60), MEMORY),
        (lambda _: torch.empty(1 << 58), MEMORY),
        (lambda _: fail(torch.OutOfMemoryError()), CARD),
        (lambda _: fail(RuntimeError("CUDA error: out of memory")), CARD),
        (lambda _: fail(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")), CARD),
    ],
    ids=["full disk", "no file", "torch", "safetensors", "memory", "torch memory", "card", "driver", "cublas"],
)
def test_what_the_machine_is_to_blame_for_is_said_in_one_sentence(
    action: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whatever kind
        action(tmp_path)
    assert (fault_of_machine(caught.value) or "").endswith(reason)


@pytest.mark.parametrize(
    "action",
    [lambda: json.loads("{"), lambda: torch.zeros(2) @ torch.zeros(3), lambda: int("x")],
    ids=["json", "shape", "number"],
)
def test_any_other_fault_is_not_the_machines(action: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - likewise
        action()
    assert fault_of_machine(caught.value) is None

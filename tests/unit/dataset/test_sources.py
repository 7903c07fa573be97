"""What is copied is what is trained: nothing from outside the mount, nothing left out without a word, hashes of the copy."""

import contextlib
import hashlib
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath

import pytest

from services.dataset.faults import DataRefused
from services.dataset.sources import copy_files, snapshot_hash, take_snapshot

ROW = b'{"prompt": "a", "completion": "b"}\n'
NOBODY = 65534


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "good.jsonl").write_bytes(ROW)
    return folder


def refusal(datasets: Path, snapshot: Path) -> str:
    with pytest.raises(DataRefused) as caught:
        raise DataRefused(take_snapshot(datasets, snapshot).faults)
    return str(caught.value)


def test_files_of_every_depth_are_copied_in_order_with_size_and_hash(datasets: Path, tmp_path: Path) -> None:
    for name in ("z.jsonl", "b/한국어.jsonl", "b/a b.jsonl", "a/deep/x.jsonl", "notes.txt", "a/old.jsonl.bak"):
        (datasets / name).parent.mkdir(parents=True, exist_ok=True)
        (datasets / name).write_bytes(name.encode())
    files = take_snapshot(datasets, tmp_path / "snapshot").files
    names = ["good.jsonl", "z.jsonl", "a/deep/x.jsonl", "b/a b.jsonl", "b/한국어.jsonl"]
    assert [file.name for file in files] == names
    for file in files:
        content = (tmp_path / "snapshot" / file.name).read_bytes()
        assert content == (datasets / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_snapshots_hash_follows_names_and_contents_only(datasets: Path, tmp_path: Path) -> None:
    first = snapshot_hash(take_snapshot(datasets, tmp_path / "1"))
    os.utime(datasets / "good.jsonl", (1, 1))
    assert snapshot_hash(take_snapshot(datasets, tmp_path / "2")) == first
    (datasets / "good.jsonl").rename(datasets / "renamed.jsonl")
    assert snapshot_hash(take_snapshot(datasets, tmp_path / "3")) != first


@pytest.mark.parametrize("name", ["linked", "linked.jsonl", "a/linked"])
def test_a_linked_folder_is_refused_not_passed_over(name: str, datasets: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.jsonl").write_bytes(ROW)
    (datasets / name).parent.mkdir(exist_ok=True)
    (datasets / name).symlink_to(tmp_path / "elsewhere")
    report = refusal(datasets, tmp_path / "snapshot")
    assert f"{name}: is a symbolic link" in report
    assert "secret" not in report


@pytest.mark.parametrize("target", ["good.jsonl", "../outside.jsonl", "missing", "/dev/zero", "loop.jsonl"])
def test_a_link_is_refused_wherever_it_leads(target: str, datasets: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.jsonl").write_bytes(ROW)
    (datasets / "loop.jsonl").symlink_to(target)
    assert "1 fault\n  loop.jsonl: is a symbolic link" in refusal(datasets, tmp_path / "snapshot")


def test_a_device_is_refused(datasets: Path, tmp_path: Path) -> None:
    try:
        os.mknod(datasets / "zero.jsonl", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    assert "zero.jsonl: is not a regular file" in refusal(datasets, tmp_path / "snapshot")


class Swapped(PosixPath):
    """A file in whose place ``put`` something else is as soon as it was looked at."""

    put: Callable[[Path], object]

    def lstat(self) -> os.stat_result:
        """See ``Path``."""
        found = super().lstat()
        self.unlink()
        self.put(Path(self))
        return found


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda path: path.symlink_to("../outside.jsonl"), "is a link, not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.mkdir(), "is not a regular file"),
    ],
    ids=["link", "pipe", "folder"],
)
def test_what_takes_a_files_place_after_the_look_at_it_is_refused(
    put: Callable[[Path], object], reason: str, datasets: Path, tmp_path: Path
) -> None:
    """Nothing of it is copied, and a pipe into which nobody writes is not waited for."""
    (tmp_path / "outside.jsonl").write_bytes(ROW)
    swapped = Swapped(datasets / "good.jsonl")
    swapped.put = put
    writer = threading.Timer(2, lambda: os.close(os.open(swapped, os.O_WRONLY | os.O_NONBLOCK)))  # lets an open go on
    if put is os.mkfifo:
        writer.start()
    copied = copy_files([("good.jsonl", swapped)], tmp_path / "snapshot")
    waited = writer.finished.is_set()
    writer.cancel()
    assert [(fault.file, fault.reason) for fault in copied.faults] == [("good.jsonl", reason)]
    assert (copied.files, list((tmp_path / "snapshot").iterdir()), waited) == ((), [], False)


def test_every_odd_entry_is_in_one_report(datasets: Path, tmp_path: Path) -> None:
    os.mkfifo(datasets / "pipe.jsonl")
    (datasets / "link.jsonl").symlink_to("good.jsonl")
    report = refusal(datasets, tmp_path / "snapshot")
    assert "2 faults" in report
    assert "pipe.jsonl" in report
    assert "link.jsonl" in report


def test_a_folder_or_file_that_cannot_be_read_is_refused_not_passed_over() -> None:
    # Not in tmp_path, which another user cannot enter.
    root = Path(tempfile.mkdtemp())
    try:
        (root / "closed").mkdir(mode=0o700)
        (root / "closed" / "a.jsonl").write_bytes(ROW)
        (root / "good.jsonl").write_bytes(ROW)
        (root / "mine.jsonl").write_bytes(ROW)
        (root / "out").mkdir()
        (root / "mine.jsonl").chmod(0)
        (root / "out").chmod(0o777)
        root.chmod(0o755)
        with _unprivileged(root / "closed"):
            report = refusal(root, root / "out" / "snapshot")
        assert "2 faults" in report
        assert "  closed: Permission denied. Make it readable" in report
        assert "  mine.jsonl: Permission denied. Make it readable" in report
    finally:
        (root / "closed").chmod(0o700)
        shutil.rmtree(root)


def test_a_full_disk_is_not_blamed_on_the_file(datasets: Path, tmp_path: Path) -> None:
    (datasets / "big.jsonl").write_bytes(ROW * 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        report = refusal(datasets, tmp_path / "snapshot")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"big.jsonl: cannot be copied to {tmp_path / 'snapshot'}: File too large. Free space there" in report


@pytest.mark.parametrize("name", [b"bad\xff.jsonl", b"two\nlines.jsonl", b"\x1b[2Jclear.jsonl"])
def test_a_name_that_cannot_be_printed_is_refused_in_print(name: bytes, datasets: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(datasets), name))).write_bytes(ROW)  # noqa: PTH118 - bytes
    report = refusal(datasets, tmp_path / "snapshot")
    assert "has a name that cannot be printed" in report
    assert len(report.splitlines()) == 2
    assert report.replace("\n", "").isprintable()


@contextlib.contextmanager
def _unprivileged(closed: Path) -> Iterator[None]:
    """Root may read everything, so become nobody for a moment; anybody else closes the folder to themselves."""
    if os.geteuid() != 0:
        closed.chmod(0)
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)

"""Versions are whole or absent, their numbers only grow, and the pointer moves at once."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from services.registry.check import verify_version
from services.registry.errors import NoSuchVersion, RegistryBusy, RegistryError
from services.registry.layout import MANIFEST, Registry, split_model_name
from services.registry.lock import exclusive
from services.registry.manifest import read_manifest
from services.registry.pointer import MAX_POINTER_BYTES, promote, read_pointer, rollback
from services.registry.publish import publish, staging
from tests.support.adapters import lineage, publish_adapter, write_adapter
from tests.support.disk import full_disk


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_versions_count_up_and_name_their_parent(registry: Registry) -> None:
    first = publish_adapter(registry)
    promote(registry, "acme", first.version)
    second = publish_adapter(registry)
    assert (first.version, first.parent) == (1, None)
    assert (second.version, second.parent) == (2, 1)
    assert registry.versions("acme") == [1, 2]


def test_a_number_is_not_used_again_after_its_folder_is_gone(registry: Registry) -> None:
    for _ in range(2):
        publish_adapter(registry)
    promote(registry, "acme", 2)
    for file in registry.folder("acme", 2).iterdir():
        file.unlink()
    registry.folder("acme", 2).rmdir()
    assert publish_adapter(registry).version == 3


def test_what_is_published_can_be_read_by_another_user(registry: Registry) -> None:
    old = os.umask(0o077)
    try:
        folder = registry.folder("acme", publish_adapter(registry).version)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


def test_an_exception_while_staging_leaves_nothing(registry: Registry) -> None:
    def fail_half_way() -> None:
        with staging(registry, "acme") as staged:
            write_adapter(staged)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list((registry.root / "acme").iterdir()) == []


def test_a_file_that_no_version_may_hold_is_refused(registry: Registry) -> None:
    with staging(registry, "acme") as staged:
        write_adapter(staged)
        (staged / "training_args.bin").write_bytes(b"\x80\x04")
        with pytest.raises(RegistryError, match=r"training_args\.bin"):
            publish(registry, "acme", staged, lineage())
    assert registry.versions("acme") == []


@pytest.mark.parametrize("step", ["file_record", "sync_file", "write_file", "sync_folder"])
def test_a_kill_at_any_step_of_a_publish_leaves_no_version_or_a_whole_one(registry: Registry, step: str) -> None:
    publish_adapter(registry)
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from services.registry import publish as module\n"
        "from services.registry.layout import Registry\n"
        "from tests.support.adapters import publish_adapter\n"
        "def die(*_args, **_options): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"module.{step} = die\n"
        "publish_adapter(Registry(Path(sys.argv[1])))\n"
    )
    died = subprocess.run([sys.executable, "-c", program, str(registry.root)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert registry.versions("acme") == [1]
    assert publish_adapter(registry).version == 2
    assert not [entry for entry in (registry.root / "acme").iterdir() if entry.name.startswith(".")]


def test_a_disk_that_is_full_at_any_step_of_a_publish_leaves_what_was_there(registry: Registry) -> None:
    """Whatever finds no room: one sentence with the remedy, no version, no leftover, the same in service as before."""
    publish_adapter(registry)
    promote(registry, "acme", 1)
    found_none: Counter[str] = Counter()
    while True:
        with full_disk(found_none.total()) as refused:
            try:
                publish_adapter(registry)
            except RegistryError as error:
                assert "No space left on device" in str(error)  # noqa: PT017 - not every turn raises
                assert "free space" in str(error)  # noqa: PT017
            else:
                break
        found_none[refused[0]] += 1
        assert not [entry for entry in (registry.root / "acme").iterdir() if entry.name.startswith(".")]
        assert (pointer := read_pointer(registry, "acme")) is not None
        assert pointer.version == 1
        for version in registry.versions("acme"):
            verify_version(registry, "acme", version)
    assert set(found_none) == {"mkdir", "open", "write", "fsync", "rename"}
    assert found_none["fsync"] >= 5


def test_the_pointer_moves_forward_and_back(registry: Registry) -> None:
    for _ in range(2):
        publish_adapter(registry)
    assert read_pointer(registry, "acme") is None
    promote(registry, "acme", 1)
    moved = promote(registry, "acme", 2)
    assert (moved.version, moved.previous) == (2, 1)
    back = rollback(registry, "acme")
    assert (back.version, back.previous) == (1, 2)
    assert read_pointer(registry, "acme") == back


def test_promoting_the_current_version_keeps_the_way_back(registry: Registry) -> None:
    for _ in range(2):
        publish_adapter(registry)
    promote(registry, "acme", 1)
    promote(registry, "acme", 2)
    assert promote(registry, "acme", 2).previous == 1


def test_only_a_published_version_is_promoted(registry: Registry) -> None:
    publish_adapter(registry)
    with pytest.raises(NoSuchVersion, match="versions of acme: 1"):
        promote(registry, "acme", 7)
    with pytest.raises(RegistryError, match="no previous version"):
        rollback(registry, "acme")


def test_a_folder_without_a_manifest_is_no_version(registry: Registry) -> None:
    folder = registry.folder("acme", publish_adapter(registry).version)
    (folder / MANIFEST).unlink()
    assert registry.versions("acme") == []


def test_a_damaged_pointer_says_how_to_mend_it_and_a_promotion_does(registry: Registry) -> None:
    publish_adapter(registry)
    registry.pointer_file("acme").write_bytes(b'{"version": ')
    with pytest.raises(RegistryError, match="make promote ADAPTER=acme"):
        read_pointer(registry, "acme")
    assert promote(registry, "acme", 1).version == 1


@pytest.mark.parametrize("kind", ["pipe", "link", "large"])
def test_a_pointer_that_is_no_small_file_is_an_error_that_a_promotion_mends(
    registry: Registry, tmp_path: Path, kind: str
) -> None:
    """A pipe would hold up whoever reads it, the server first."""
    publish_adapter(registry)
    file = registry.pointer_file("acme")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "elsewhere").write_text('{"version": 1, "previous": null, "moved": ""}')
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_bytes(b" " * (MAX_POINTER_BYTES + 1))
    reasons: list[str] = []

    def read() -> None:
        with pytest.raises(RegistryError) as caught:
            read_pointer(registry, "acme")
        reasons.append(str(caught.value))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(5)
    assert len(reasons) == 1, "the reader waits at the pipe, or was not refused"
    assert "make promote ADAPTER=acme" in reasons[0]
    promote(registry, "acme", 1)
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert pointer.version == 1


def test_the_lock_of_a_living_process_names_it_and_that_of_a_dead_one_is_free(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom services.registry.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'retrain'):\n    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RegistryBusy, match=f"retrain, process {holder.pid} on "), exclusive(file, "retrain"):
            pass
        holder.kill()
        holder.wait()
    with exclusive(file, "retrain"):
        pass


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "A", "a@1", "-a", "a" * 65, "a\n"])
def test_names_that_are_no_adapter_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="adapter name"):
        registry.versions(name)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("acme@7", ("acme", 7)), ("acme", ("acme", None)), ("acme@07", ("acme@07", None)), ("@7", ("", 7))],
)
def test_a_model_name_comes_apart(name: str, parts: tuple[str, int | None]) -> None:
    assert split_model_name(name) == parts


def test_the_manifest_reads_back_as_it_was_written(registry: Registry) -> None:
    written = publish_adapter(registry)
    assert read_manifest(registry.folder("acme", written.version)) == written

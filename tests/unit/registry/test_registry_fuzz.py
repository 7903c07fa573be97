"""Files of a version made at random: each is read or refused in the registry's own words, in memory that has a bound."""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors
from hypothesis import example, given
from hypothesis import strategies as st

from services.registry.check import Expectation, check_version, file_record
from services.registry.errors import RegistryError, VersionRefused
from services.registry.history import HISTORY, Move, read_history
from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, Registry
from services.registry.manifest import Manifest, encode_manifest
from services.registry.pointer import Pointer, read_pointer
from services.registry.reports import read_judgement, report_file
from services.registry.weights import MAX_HEADER_BYTES, check_weights
from tests.support.adapters import BASE, SHAPES, publish_adapter, weights
from tests.support.fuzz import VALUES, altered, fuzz, mangled

EXPECTED = Expectation(
    base_fingerprint=BASE.fingerprint,
    chat_template_sha256=BASE.chat_template_sha256,
    max_rank=16,
    target_modules=frozenset({"q_proj", "v_proj"}),
    base_shapes=SHAPES,
)
WEIGHTS = weights()
HEADER_END = 8 + int.from_bytes(WEIGHTS[:8], "little")
HEADER = json.loads(WEIGHTS[8:HEADER_END])
LENGTHS = st.sampled_from([0, 1, 2, HEADER_END - 9, HEADER_END - 7, 2**31, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)


class Version:
    """One version that is published once, and put back as it was before each of its files is changed."""

    def __init__(self, root: Path) -> None:
        self.registry = Registry(root / "registry")
        publish_adapter(self.registry)
        self.folder = self.registry.folder("acme", 1)
        self._sound = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        self.manifest = json.loads(self._sound[MANIFEST])
        self.config = json.loads(self._sound[ADAPTER_CONFIG])

    def check(self, name: str, content: bytes) -> Manifest | None:
        """What is read where one file holds this and the manifest agrees; None where that is refused."""
        for file, sound in self._sound.items():
            (self.folder / file).write_bytes(sound)
        (self.folder / name).write_bytes(content)
        if name != MANIFEST:
            record = file_record(self.folder / name)
            files = self.manifest["files"] | {name: {"size": record.size, "sha256": record.sha256}}
            (self.folder / MANIFEST).write_text(json.dumps(self.manifest | {"files": files}))
        try:
            return check_version(self.registry, "acme", 1, EXPECTED)
        except VersionRefused as refused:
            reason = str(refused)
        assert reason.startswith("acme@1: ")
        return None


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Shared: what a test leaves in it, the next check puts back."""
    version = Version(tmp_path_factory.mktemp("fuzz"))
    assert version.check(ADAPTER_WEIGHTS, WEIGHTS) is not None
    return version


@st.composite
def weights_files(draw: st.DrawFn) -> bytes:
    """Tensors behind a header with values or bytes of its own; at times its length or the tensors are others, too."""
    described = HEADER | {"__metadata__": draw(st.just({"format": "pt"}) | VALUES)}
    header = draw(st.just(json.dumps(described).encode()) | altered(described) | mangled(WEIGHTS[8:HEADER_END]))
    length = draw(LENGTHS) if draw(st.integers(0, 4)) == 0 else len(header)
    tensors = draw(st.binary(max_size=80)) if draw(st.integers(0, 4)) == 0 else WEIGHTS[HEADER_END:]
    return struct.pack("<Q", length) + header + tensors


@fuzz
@given(content=st.binary(max_size=200) | mangled(WEIGHTS) | weights_files())
def test_any_weights_are_refused_or_what_the_engines_library_reads(version: Version, content: bytes) -> None:
    """Nothing that passes is refused by the library that opens it next: a version is either refused or loads."""
    if (
        version.check(ADAPTER_WEIGHTS, content) is not None and b"-0" not in content
    ):  # an integer to one, not to the other
        tensors: Any = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        assert all(len(tensor["shape"]) == 2 for _, tensor in tensors)


@fuzz
@given(data=st.data())
def test_any_configuration_is_refused_or_what_the_manifest_says(version: Version, data: st.DataObject) -> None:
    """A configuration that passes has the rank and the modules that the server checked."""
    sound = json.dumps(version.config).encode()
    content = data.draw(st.binary(max_size=200) | mangled(sound) | altered(version.config))
    if version.check(ADAPTER_CONFIG, content) is not None:
        config = json.loads(content)
        assert (config["r"], config["target_modules"], config["peft_type"]) == (2, ["q_proj"], "LORA")


@fuzz
@given(data=st.data())
def test_any_manifest_is_refused_or_read_whole(version: Version, data: st.DataObject) -> None:
    """A manifest that passes is one that is written as it was read."""
    sound = json.dumps(version.manifest).encode()
    manifest = version.check(MANIFEST, data.draw(st.binary(max_size=200) | mangled(sound) | altered(version.manifest)))
    if manifest is not None:
        assert msgspec.json.decode(encode_manifest(manifest), type=Manifest) == manifest


POINTER = {"version": 2, "previous": 1, "moved": "2026-11-27", "canary": {"version": 3, "percent": 5, "began": "x"}}


@fuzz
@given(content=st.binary(max_size=200) | mangled(json.dumps(POINTER).encode()) | altered(POINTER))
def test_any_pointer_is_refused_or_read(version: Version, content: bytes) -> None:
    """What an alias leads to is known or said to be unreadable."""
    version.registry.pointer_file("acme").write_bytes(content)
    try:
        read = read_pointer(version.registry, "acme")
    except RegistryError:
        return
    assert isinstance(read, Pointer)


NESTED = b'{"unknown": ' + b"[" * 5000 + b"]" * 5000 + b"}"
REPORT = {
    "model": "acme@1",
    "manifest_sha256": "0",
    "judged": "2026-11-27",
    "passed": True,
    "reasons": ["x"],
    "metrics": {},
}


@fuzz
@example(content=NESTED)
@given(content=st.binary(max_size=200) | mangled(json.dumps(REPORT).encode()) | altered(REPORT))
def test_any_report_is_refused_or_read(version: Version, content: bytes) -> None:
    """A report that cannot be read stops a promotion in words."""
    file = report_file(version.registry, "acme", 1, "json")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    try:
        found = read_judgement(version.registry, "acme", 1)
    except RegistryError:
        return
    assert found is None, "it speaks of other bytes"


MOVE = {"moved": "2026-11-27", "version": 2, "before": 1, "how": "gate", "reasons": [], "note": {}}


@fuzz
@example(lines=[NESTED])
@example(lines=[b'{"moved": "\x80"}'])
@given(lines=st.lists(st.binary(max_size=80) | mangled(json.dumps(MOVE).encode()) | altered(MOVE), max_size=3))
def test_any_history_is_read_past_what_it_holds_besides(version: Version, lines: list[bytes]) -> None:
    """A sound move is found whatever lies before and after it."""
    sound = Move(moved="2026-11-28", version=7, before=2, how="rollback")
    (version.registry.root / "acme" / HISTORY).write_bytes(b"\n".join([*lines, msgspec.json.encode(sound), *lines]))
    assert sound in read_history(version.registry, "acme")


def test_a_file_of_any_size_is_refused_by_its_header(tmp_path: Path) -> None:
    """Neither a terabyte of weights nor a header that is said to be one is read."""
    file = tmp_path / ADAPTER_WEIGHTS
    tracemalloc.start()
    for length in (2**39, MAX_HEADER_BYTES + 1, 2**64 - 1):
        file.write_bytes(struct.pack("<Q", length))
        os.truncate(file, 2**40)
        with pytest.raises(VersionRefused, match="a header of"):
            check_weights("acme@1", file, rank=2, base=SHAPES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("entry", ["0", "{}", '{"dtype":"","shape":[],"data_offsets":[0,0]}'])
def test_a_header_takes_twenty_times_its_size_at_most(tmp_path: Path, entry: str) -> None:
    """However small the entries that it is made of."""
    header = ("{" + ",".join(f'"{number:x}":{entry}' for number in range(2**20 // (len(entry) + 8))) + "}").encode()
    file = tmp_path / ADAPTER_WEIGHTS
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    tracemalloc.start()
    with pytest.raises(VersionRefused):
        check_weights("acme@1", file, rank=2, base=SHAPES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(header)

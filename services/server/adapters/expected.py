"""What an adapter must be for this server: made for its base model, and within what its engine was started for."""

from pathlib import Path

from services.base_model.identity import BaseModel
from services.base_model.shapes import read_shapes
from services.registry.check import Expectation
from services.server.settings import EngineSettings


def expected_of_adapters(base: BaseModel, models: Path, engine: EngineSettings) -> Expectation:
    """Read off the base model in the folder ``models`` and the engine's settings.

    Raises:
        BaseModelError: the base model's weights cannot be read.
    """
    return Expectation(
        base_fingerprint=base.fingerprint,
        chat_template_sha256=base.chat_template_sha256,
        max_rank=engine.max_lora_rank,
        target_modules=frozenset(engine.target_modules),
        base_shapes=read_shapes(models / base.name),
    )

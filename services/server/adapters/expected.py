"""What an adapter must be for this server: made for its base model, and within what its engine was started for."""

from services.base_model.identity import BaseModel
from services.registry.check import Expectation
from services.registry.weights import BaseShapes
from services.server.settings import EngineSettings


def expected_of_adapters(base: BaseModel, shapes: BaseShapes, engine: EngineSettings) -> Expectation:
    """Read off the base model's record, the shapes of its weights and the engine's settings."""
    return Expectation(
        base_fingerprint=base.fingerprint,
        chat_template_sha256=base.chat_template_sha256,
        max_rank=engine.max_lora_rank,
        target_modules=frozenset(engine.target_modules),
        base_shapes=shapes,
    )

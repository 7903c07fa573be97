"""``POST /v1/fine_tuning/jobs``: what a client may ask for, turned into a job."""

import re
from typing import Annotated, Any, Literal

import msgspec

from services.jobs.records import Hyperparameters, NewJob
from services.server.decode import decode, refuse_unsupported
from services.server.errors import BadRequest

_SUFFIX_CHARS = 64
METADATA_PAIRS = 16
_KEY_CHARS = 255
_UNFIT = re.compile(r"[^a-z0-9._-]+")

Epochs = Annotated[int, msgspec.Meta(ge=1, le=50)]
Batch = Annotated[int, msgspec.Meta(ge=1, le=256)]
Multiplier = Annotated[float, msgspec.Meta(gt=0, le=1000)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Auto = Literal["auto"]
Key = Annotated[str, msgspec.Meta(max_length=64)]
Value = Annotated[str, msgspec.Meta(max_length=512)]


class AskedHyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``hyperparameters``, at the top or within a method."""

    n_epochs: Epochs | Auto | None = None
    batch_size: Batch | Auto | None = None
    learning_rate_multiplier: Multiplier | Auto | None = None


class AskedSupervised(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``method.supervised``."""

    hyperparameters: AskedHyperparameters | None = None


class AskedMethod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``method``."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: AskedSupervised | None = None
    dpo: Any = None
    reinforcement: Any = None


class CreateJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, msgspec.Meta(min_length=1, max_length=_SUFFIX_CHARS)] | None = None
    seed: Seed | None = None
    hyperparameters: AskedHyperparameters | None = None
    method: AskedMethod | None = None
    metadata: Annotated[dict[Key, Value], msgspec.Meta(max_length=METADATA_PAIRS)] | None = None
    # Accepted only with the value that changes nothing.
    integrations: list[Any] | None = None

    @property
    def method_hyperparameters(self) -> AskedHyperparameters | None:
        """Those within ``method``, OpenAI's newer place for them."""
        supervised = None if self.method is None else self.method.supervised
        return None if supervised is None else supervised.hyperparameters


_decoder = msgspec.json.Decoder(CreateJob)


def decode_job(body: bytes) -> CreateJob:
    """Decode the body and refuse what cannot be trained here.

    Raises:
        BadRequest: ``param`` names the field.
    """
    asked = decode(body, _decoder)
    refuse_unsupported(asked, {"integrations": (None, [])})
    if asked.method is not None and asked.method.type != "supervised":
        raise BadRequest(
            f"'method.type': '{asked.method.type}' is not supported by this server; use 'supervised'.",
            param="method.type",
            code="unsupported_value",
        )
    if asked.method is not None:
        refuse_unsupported(asked.method, {"dpo": (None,), "reinforcement": (None,)}, within="method.")
    if (
        asked.hyperparameters is not None
        and (asked.method_hyperparameters or asked.hyperparameters) != asked.hyperparameters
    ):
        raise BadRequest(
            "Invalid 'hyperparameters': 'method.supervised.hyperparameters' says otherwise; send one of them.",
            param="hyperparameters",
            code="invalid_value",
        )
    return asked


def new_job(asked: CreateJob, *, base: str, adapter: str, owner: str, idempotency_key: str | None) -> NewJob:
    """The job that is asked for.

    Args:
        asked: decoded.
        base: the base model that is served, the only one that can be trained.
        adapter: what is trained where no suffix says so.
        owner: the caller's key's name.
        idempotency_key: the caller's mark of this request.

    Raises:
        BadRequest: another model, a suffix of which no name can be made, or too long a mark.
    """
    if idempotency_key is not None and len(idempotency_key) > _KEY_CHARS:
        raise BadRequest(f"Invalid header 'Idempotency-Key': it is over {_KEY_CHARS} characters.", code="invalid_value")
    if asked.model != base:
        raise BadRequest(
            f"Invalid 'model': only the base model '{base}' can be fine-tuned here; a fine-tuned model is not trained further.",
            param="model",
            code="model_not_available",
        )
    chosen = asked.method_hyperparameters or asked.hyperparameters or AskedHyperparameters()
    return NewJob(
        source="api",
        owner=owner,
        model=asked.model,
        adapter=adapter if asked.suffix is None else _adapter_of(asked.suffix),
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        suffix=asked.suffix,
        hyperparameters=Hyperparameters(
            n_epochs=chosen.n_epochs or "auto",
            batch_size=chosen.batch_size or "auto",
            learning_rate_multiplier=chosen.learning_rate_multiplier or "auto",
        ),
        seed=asked.seed,
        metadata=asked.metadata,
        idempotency_key=idempotency_key,
    )


def _adapter_of(suffix: str) -> str:
    """The registry's name for a suffix: lower case, every run of other characters a hyphen."""
    name = re.sub(r"\.{2,}", ".", _UNFIT.sub("-", suffix.lower())).strip(".-_")
    if not name:
        raise BadRequest(
            "Invalid 'suffix': want a letter or digit of a-z, 0-9 in it.", param="suffix", code="invalid_value"
        )
    return name

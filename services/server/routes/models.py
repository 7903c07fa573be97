"""``/v1/models``: the base, each adapter's alias, and every version that is loaded."""

from datetime import datetime

import msgspec
from litestar import delete, get
from litestar.datastructures import State
from litestar.params import FromPath

from services.registry.layout import split_model_name
from services.server.auth import authorize_model, require_key
from services.server.keys import Key
from services.server.requests import ServerRequest
from services.server.services import Services
from services.server.tuning.removal import remove_model
from services.server.tuning.views import Deleted


class ModelCard(msgspec.Struct, frozen=True):
    """OpenAI's model object, with the version that an alias leads to.

    Attributes:
        root: the pinned name that answers under this one; the base's own for the base.
        parent: the base model of an adapter; None for the base.
    """

    id: str
    created: int
    owned_by: str
    root: str
    parent: str | None
    object: str = "model"


class ModelList(msgspec.Struct, frozen=True):
    """OpenAI's list of models."""

    data: list[ModelCard]
    object: str = "list"


@get("/v1/models", guards=[require_key], role=None)
async def list_models(request: ServerRequest, state: State) -> ModelList:
    """Every name that may be asked for with this key."""
    services: Services = state.services
    services.serving()
    key: Key = request.scope["state"]["key"]
    names = [name for name in services.catalogue.names() if key.covers(split_model_name(name)[0])]
    return ModelList([_card(services, name) for name in names])


@get("/v1/models/{model:str}", guards=[require_key], role=None, private_socket=True)
async def get_model(request: ServerRequest, state: State, model: FromPath[str]) -> ModelCard:
    """One name."""
    services: Services = state.services
    services.serving()
    authorize_model(request.scope["state"]["key"], model)
    return _card(services, model)


@delete("/v1/models/{model:str}", guards=[require_key], role="fine-tuning", status_code=200)
async def delete_model(request: ServerRequest, state: State, model: FromPath[str]) -> Deleted:
    """Serve a version, or an adapter with all its versions, no more; its files go as soon as the trainer is idle."""
    services: Services = state.services
    services.serving()
    await remove_model(services.catalogue, services.tuning.deletions, request.scope["state"]["key"], model)
    return Deleted(id=model, object="model")


def _card(services: Services, name: str) -> ModelCard:
    version = services.catalogue.find(name)
    base = services.catalogue.base
    if version is None:
        return ModelCard(id=name, created=services.started, owned_by="whetstone", root=base, parent=None)
    created = int(datetime.fromisoformat(version.manifest.created).timestamp())
    return ModelCard(id=name, created=created, owned_by="whetstone", root=version.handle.name, parent=base)

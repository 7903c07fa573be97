"""``DELETE /v1/models/{id}``: hidden at once; the trainer, which may write to the registry, deletes the files."""

from services.jobs.deletions import Deletions
from services.registry.layout import model_name, split_model_name
from services.server.adapters.catalogue import Catalogue
from services.server.auth import authorize_model
from services.server.errors import BadRequest, Conflict, NotOwner
from services.server.keys import Key
from services.server.tuning.house import off_loop


async def remove_model(catalogue: Catalogue, deletions: Deletions, key: Key, model: str) -> None:
    """Ask for a version, or for an adapter with all its versions, to go.

    Args:
        catalogue: of what is served.
        deletions: where the wish is written down.
        key: the caller's.
        model: ``adapter`` or ``adapter@version``.

    Raises:
        ServerError: it is the base, is not there, is somebody else's, or serves.
    """
    if model == catalogue.base:
        raise BadRequest("The base model cannot be deleted.", param="model", code="invalid_value")
    authorize_model(key, model)
    adapter, version = split_model_name(model)
    entry = catalogue.entry(model)
    makers = await off_loop(deletions.makers, adapter)
    left = [number for number in entry.published if not catalogue.is_deleted(adapter, number)]
    meant = left if version is None else [version]
    # A version that no job of an app made is the operator's: `make delete`.
    if any(makers.get(model_name(adapter, number)) != key.name for number in meant):
        raise NotOwner(f"Only the key that had '{model[:200]}' made may delete it, or the operator.", param="model")
    if version is not None and version == entry.wanted:
        raise Conflict(
            f"'{model}' is in service; delete '{adapter}' with all its versions, or have another version promoted first.",
            param="model",
        )
    deletion = await off_loop(deletions.add, adapter, version, newest=entry.published[-1], owner=key.name)
    catalogue.deleted.append(deletion)

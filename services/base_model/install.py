"""Put a base model in its place: filled beside it, recorded, then renamed, so that a reader sees a whole model or none."""

import shutil
from pathlib import Path
from typing import Protocol

import msgspec

from services.base_model.errors import BaseModelError
from services.base_model.identity import RECORD, BaseModel, BaseModelSettings, identify, read_base_model
from services.common.durable import PUBLIC_FILE, PUBLIC_FOLDER, sync_file, sync_folder, write_file
from services.registry.errors import RegistryError
from services.registry.lock import exclusive


class Source(Protocol):
    """Where a base model comes from: the Hub, or an installed package."""

    def fill(self, folder: Path, settings: BaseModelSettings) -> str:
        """Write the model's files into ``folder`` and return the revision that they are.

        What an interrupted call left in ``folder`` may be used again. Subfolders are scratch and do not become part of the model.

        Raises:
            BaseModelError: the model cannot be had, or must not be.
        """
        ...


class Installed(msgspec.Struct, frozen=True):
    """A base model in its place.

    Attributes:
        model: which one.
        folder: where.
        new: it was written by this call; it lay there intact before if not.
    """

    model: BaseModel
    folder: Path
    new: bool


def install(models: Path, settings: BaseModelSettings, source: Source) -> Installed:
    """Make sure that the base model of the settings is installed; where it is, nothing is written.

    Args:
        models: the folder of all base models; made where missing.
        settings: which one is wanted.
        source: where to take it from.

    Raises:
        BaseModelError: it cannot be had or written, or another process is installing one.
    """
    folder = models / settings.name
    if (model := _intact(models, settings)) is not None:
        return Installed(model=model, folder=folder, new=False)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with exclusive(models / ".lock", f"install {settings.name}"):
            staging = models / f".staging-{settings.name}-{settings.revision or settings.package}"
            staging.mkdir(exist_ok=True)
            revision = source.fill(staging, settings)
            model = _seal(staging, settings, revision)
            _swap(staging, folder)
    except RegistryError as error:
        raise BaseModelError(str(error)) from error
    except OSError as error:
        raise BaseModelError(
            f"{error.filename or models}: {error.strerror}; check free space and the volume's owner"
        ) from error
    return Installed(model=model, folder=folder, new=True)


def _intact(models: Path, settings: BaseModelSettings) -> BaseModel | None:
    try:
        return read_base_model(models, settings)
    except BaseModelError:
        return None


def _seal(folder: Path, settings: BaseModelSettings, revision: str) -> BaseModel:
    """Make every file durable and readable for the server's user, and write the record last."""
    (folder / RECORD).unlink(missing_ok=True)
    for entry in list(folder.iterdir()):
        if entry.is_dir():
            shutil.rmtree(entry)
            continue
        entry.chmod(PUBLIC_FILE)
        sync_file(entry)
    folder.chmod(PUBLIC_FOLDER)
    model = identify(folder, settings=settings, revision=revision)
    write_file(folder / RECORD, msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
    sync_folder(folder)
    return model


def _swap(staging: Path, folder: Path) -> None:
    """Rename ``staging`` to ``folder``; what lay there before goes. A process that has the old files open keeps them."""
    old = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)

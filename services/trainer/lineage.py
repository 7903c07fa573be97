"""What the trainer writes into a version's manifest, and how it finds the version of a run again."""

import importlib.metadata

import msgspec

from services.base_model.identity import BaseModel
from services.dataset.prepare import Prepared
from services.registry.errors import VersionRefused
from services.registry.layout import Registry
from services.registry.manifest import BaseReference, LoraFacts, Manifest, ProbePrompt, read_manifest
from services.registry.publish import Lineage
from services.trainer.probe import probe_change
from services.trainer.run import Run
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import Finished

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "unsloth", "unsloth_zoo", "bitsandbytes")
_RUN = "run"


def lineage_of_run(
    run: Run,
    settings: TrainingSettings,
    base: BaseModel,
    prepared: Prepared,
    finished: Finished,
    probe: list[ProbePrompt],
) -> Lineage:
    """Everything about a finished run that its version is to say."""
    return Lineage(
        base=BaseReference(
            name=base.name, fingerprint=base.fingerprint, chat_template_sha256=base.chat_template_sha256
        ),
        lora=LoraFacts(
            rank=settings.lora.rank, alpha=settings.lora.alpha, target_modules=sorted(settings.lora.target_modules)
        ),
        probe=probe,
        dataset=msgspec.to_builtins(prepared.report),
        recipe=msgspec.to_builtins(settings),
        packages=_package_versions(),
        metrics={
            **{key: value for key, value in msgspec.to_builtins(finished).items() if key != "type"},
            "train_rows": len(prepared.train),
            "holdout_rows": len(prepared.holdout),
            "probe_change": probe_change(probe),
            _RUN: run.record.run_id,
        },
    )


def find_published(registry: Registry, adapter: str, run_id: str) -> Manifest | None:
    """The version that a run became, if it did: a kill after its publication must not make a second one of it.

    Raises:
        RegistryError: the registry cannot be listed.
    """
    for version in reversed(registry.versions(adapter)):
        try:
            manifest = read_manifest(registry.folder(adapter, version))
        except VersionRefused:
            continue  # damaged, or of an earlier format: it is not what was just published
        if manifest.metrics.get(_RUN) == run_id:
            return manifest
    return None


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the other backend's package
    return found

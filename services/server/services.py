"""What handlers need, in one object that the process builds and the app holds."""

import time
from functools import partial
from pathlib import Path

import msgspec

from services.base_model.identity import BaseModel
from services.server.adapters.canary import Canaries
from services.server.adapters.catalogue import Catalogue
from services.server.adapters.reconcile import Reconciler
from services.server.admission import Admission
from services.server.auth import Doorkeeper
from services.server.chat.render import Renderer
from services.server.chat.sampling import SamplingRules
from services.server.doors import Doors
from services.server.engine.protocol import Engine
from services.server.lifecycle import Lifecycle
from services.server.limits.account import Accounts
from services.server.metrics import Metrics
from services.server.patience import Patience
from services.server.settings import ServerSettings
from services.server.stored.shelf import Shelf
from services.server.tuning.checking import check_rows
from services.server.tuning.house import Tuning
from services.server.tuning.uploads import Uploads
from services.server.usage.ledger import Ledger


class Model(msgspec.Struct, frozen=True):
    """What exists once the engine runs."""

    engine: Engine
    renderer: Renderer
    rules: SamplingRules
    reconciler: Reconciler


class Services:
    """The server's parts.

    Args:
        base: the base model; its fingerprint becomes ``system_fingerprint``.
        settings: of the server.
        trips: the file that remembers those that did.
        accounts: of the keys.
        usage: what keys have used.
        tuning: the job queue and its files.
        stored: responses that apps may go on from.

    Attributes:
        started: seconds since 1970, the base's ``created`` in the models list.
        doors: where the process listens, once it does.
    """

    def __init__(
        self,
        *,
        base: BaseModel,
        settings: ServerSettings,
        doorkeeper: Doorkeeper,
        trips: Path,
        accounts: Accounts,
        usage: Ledger,
        tuning: Tuning,
        stored: Shelf,
    ) -> None:
        self.fingerprint = f"fp_{base.fingerprint[:12]}"
        self.started = int(time.time())
        self.limits = limits = settings.limits
        self.patience_for_bodies = Patience(limits.body_seconds)
        self.patience_for_answers = Patience(limits.answer_seconds)
        self.doorkeeper = doorkeeper
        self.catalogue = Catalogue(base.name)
        self.admission = Admission(settings.engine.max_num_seqs + limits.max_waiting)
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.canaries = Canaries(settings.canary, self.catalogue, self.metrics, trips)
        self.accounts = accounts
        self.usage = usage
        self.tuning = tuning
        self.stored = stored
        check = partial(check_rows, seconds=limits.check_seconds, memory_bytes=limits.check_memory_bytes)
        self.uploads = Uploads(tuning.files, limits, check)
        self.doors: Doors | None = None
        self.model: Model | None = None

    def serving(self) -> Model:
        """The model while requests are served.

        Raises:
            Unavailable: starting, stopping or failed.
        """
        self.lifecycle.require_serving()
        if self.model is None:
            raise self.lifecycle.unavailable()
        return self.model

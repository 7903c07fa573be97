"""API keys: 256 random bits, shown once; only their SHA-256 is stored. A key needs no salt: nobody can guess it."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from services.common.durable import replace_file
from services.jobs.records import OPERATOR
from services.registry.errors import RegistryError
from services.registry.lock import exclusive

SERVER_UID = 10001  # the user of the server's container
ALL_MODELS = "*"
PREFIX = "ws-"
Role = Literal["inference", "fine-tuning", "admin"]
KEYLESS_NAME = "keyless"  # whom the files of callers without a key belong to
_RESERVED = frozenset({KEYLESS_NAME, OPERATOR})
_KEY_BYTES = 32
_LOCK = ".lock"  # beside the keys' file
_LOCK_SECONDS = 30.0  # it is held for milliseconds


class KeysError(Exception):
    """The keys' file cannot be read or written, or a name is taken or unknown; the message says the remedy."""


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a key may ask for; None for as much as it likes."""

    requests_per_minute: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tokens_per_day: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key, without the key.

    Attributes:
        name: for the operator and the log.
        sha256: of the key, in hexadecimal.
        models: the base's name, adapters' names, or ``*``; an adapter's name covers its pinned versions.
        created: ISO 8601, UTC.
        expires: ISO 8601, UTC; None for never.
        revoked: ISO 8601, UTC, when it was; None while it counts.
        roles: what it may do; None for a key made before there were roles, which may do all, as it could then.
        limits: how much it may ask for.
        replaced: ISO 8601, UTC, when another secret took its place; until ``expires`` both count.
    """

    name: str
    sha256: str
    models: list[str]
    created: str
    expires: str | None = None
    revoked: str | None = None
    roles: list[Role] | None = None
    limits: KeyLimits = KeyLimits()
    replaced: str | None = None

    def counts(self, now: datetime) -> bool:
        """Whether the key is accepted at this moment."""
        return self.revoked is None and (self.expires is None or now < datetime.fromisoformat(self.expires))

    def covers(self, name: str) -> bool:
        """Whether the key may use the base or adapter called ``name`` (without a version)."""
        return ALL_MODELS in self.models or name in self.models

    def may(self, role: Role) -> bool:
        """Whether the key has a role."""
        return self.roles is None or role in self.roles


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key]


class KeyFile:
    """The keys in ``keys.json``, read again whenever the file changes.

    Args:
        file: need not exist; without it there is no key at all.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._keys: list[Key] = []
        self._signature: tuple[int, int, int] | None = None

    def load(self) -> list[Key]:
        """Every key, revoked ones included.

        Raises:
            KeysError: the file is there but cannot be read; what was read before stays in force.
        """
        try:
            status = self.file.stat()
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if signature != self._signature:
                self._keys = msgspec.json.decode(self.file.read_bytes(), type=_File).keys
                self._signature = signature
        except FileNotFoundError as error:
            if self._signature is not None:  # it was there: a lost volume must not open the server to everyone
                raise KeysError(
                    f"{self.file}: is gone; restore it, or restart the server to serve without keys"
                ) from error
        except OSError as error:
            raise KeysError(f"{self.file}: {error.strerror}; it must be readable by uid {os.getuid()}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise KeysError(f"{self.file}: {error}; restore it, or remove it and make new keys") from error
        return self._keys

    def find(self, presented: str, now: datetime) -> Key | None:
        """The key that ``presented`` is, if it counts now. Compares with every key, each in constant time."""
        digest = _digest(presented)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found if found is not None and found.counts(now) else None

    def add(
        self,
        name: str,
        models: list[str],
        expires: datetime | None,
        *,
        roles: Sequence[Role] = ("inference",),
        limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
    ) -> str:
        """Make a key and store its hash.

        Returns:
            the key itself; it is stored nowhere.

        Raises:
            KeysError: the name is taken or reserved, or the file cannot be read or written.
        """
        if name in _RESERVED:
            raise KeysError(f"{name!r} is what callers without a key are known by; choose another name")
        secret = _secret()
        key = Key(
            name=name,
            sha256=_digest(secret),
            models=models,
            created=_iso(datetime.now(UTC)),
            expires=_iso(expires) if expires else None,
            roles=list(roles),
            limits=limits,
        )
        with self._locked("key add"):
            keys = self.load()
            if any(key.name == name and key.revoked is None for key in keys):
                raise KeysError(
                    f"a key named {name!r} exists; revoke it first (`make revoke NAME={name}`), or choose another name"
                )
            self._write([*keys, key])
        return secret

    def rotate(self, name: str, *, grace: timedelta, expires: datetime | None = None) -> str:
        """Give a key another secret; all else of it stays.

        Args:
            name: the key's.
            grace: how long the old secret counts beside the new one; with none, no older one counts any more.
            expires: when the new one ends; None for when the old one would have.

        Returns:
            the new key itself; it is stored nowhere.

        Raises:
            KeysError: no such key counts, or the file cannot be read or written.
        """
        secret, now = _secret(), datetime.now(UTC)
        with self._locked("key rotate"):
            keys = self.load()
            counting = [key for key in keys if key.name == name and key.counts(now)]
            old = next((key for key in counting if key.replaced is None), None)
            if old is None:
                raise KeysError(f"no key named {name!r} counts; `make keys` lists them all")
            new = msgspec.structs.replace(
                old, sha256=_digest(secret), created=_iso(now), expires=_iso(expires) if expires else old.expires
            )
            self._write([*(_replaced(key, now, grace) if key in counting else key for key in keys), new])
        return secret

    def revoke(self, name: str) -> None:
        """Make a key count no more, whichever of its secrets are in use.

        Raises:
            KeysError: no such key counts, or the file cannot be read or written.
        """
        with self._locked("key revoke"):
            keys = self.load()
            if not any(key.name == name and key.revoked is None for key in keys):
                raise KeysError(f"no key named {name!r} counts; `make keys` lists them all")
            now = _iso(datetime.now(UTC))
            self._write(
                [
                    msgspec.structs.replace(key, revoked=now) if key.name == name and key.revoked is None else key
                    for key in keys
                ]
            )

    @contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        """One writer at a time, from reading to writing: two that overlap would lose a key that was already printed."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self.file.parent / _LOCK, purpose, wait_seconds=_LOCK_SECONDS):
                yield
        except RegistryError as error:
            raise KeysError(str(error)) from error
        except OSError as error:
            raise KeysError(f"{self.file}: {error.strerror}; run this as the owner of {self.file.parent}") from error

    def _write(self, keys: list[Key]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n"
        user = os.getuid()
        # The server reads as uid 10001: its own file is its alone, root's is its group's, and another user's must be
        # readable by all (it holds hashes of keys that nobody can guess).
        mode = {SERVER_UID: 0o600, 0: 0o640}.get(user, 0o644)
        try:
            replace_file(self.file, content, mode=mode)
            if user == 0:
                os.chown(self.file, 0, SERVER_UID)
        except OSError as error:
            raise KeysError(f"{self.file}: {error.strerror}; run this as the owner of {self.file.parent}") from error


def _replaced(key: Key, now: datetime, grace: timedelta) -> Key:
    """A key whose secret counts for ``grace`` and no longer than it would have; not at all where that is nothing."""
    moment = _iso(now)
    if not grace:
        return msgspec.structs.replace(key, replaced=key.replaced or moment, revoked=moment)
    ends = now + grace if key.expires is None else min(now + grace, datetime.fromisoformat(key.expires))
    return msgspec.structs.replace(key, replaced=key.replaced or moment, expires=_iso(ends))


def _secret() -> str:
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")

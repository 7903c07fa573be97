"""A Hub in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from services.base_model.hub import RemoteFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves files from a dictionary and notes what was asked; ``spoiled`` replaces bytes, ``fails_at`` stops the download."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.downloaded: list[str] = []
        self.spoiled: dict[str, bytes] = {}
        self.fails_at = ""

    def list_files(self, repo: str, revision: str) -> list[RemoteFile]:
        assert (repo, revision) == ("acme/tiny", COMMIT)
        return [
            RemoteFile(
                name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest() if len(content) > 100 else None
            )
            for name, content in self.files.items()
        ]

    def download(self, repo: str, revision: str, names: Sequence[str], folder: Path) -> None:
        assert (repo, revision) == ("acme/tiny", COMMIT)
        scratch = folder / ".cache" / "huggingface"
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "lock").touch()
        for name in names:
            if name == self.fails_at:
                raise OSError(28, "No space left on device", str(folder / name))
            self.downloaded.append(name)
            (folder / name).write_bytes(self.spoiled.get(name, self.files[name]))
            (folder / name).chmod(0o600)

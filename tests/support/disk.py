"""A disk that forgets. Below one folder, every step of a writer is counted and can be its last, and what was not synced may be lost.

``os`` is watched while a writer runs: making, renaming and removing names, opening and syncing files. A kill is an exception at the
chosen step, after which no step has any effect, clean-ups included. A power cut then keeps, of what was not synced, any part:

- a name that was made, moved or removed since its folder's last fsync may be as before; each change by itself, in any combination
- bytes that were written since their file's last fsync may be missing, cut short, or zeros

Real files lie on the real disk all the while, so the code under test and its readers need no hook of their own.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Choose = Callable[[int], int]
"""Picks one of so many possibilities, counted from 0, which loses nothing."""


class Killed(BaseException):
    """The process ends here; no ``except Exception`` of the code under test may notice."""


class _File:
    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.last: bytes | None = None  # what it held when its last name went

    def after_cut(self, path: Path | None, choose: Choose) -> bytes:
        now = self.last if self.last is not None or path is None else path.read_bytes()
        if now is None or now == self.durable:
            return self.durable
        kept = self.durable if now.startswith(self.durable) else b""
        written = now[len(kept) :]
        return (now, self.durable, kept + written[: len(written) // 2], kept + bytes(len(written)))[choose(4)]


class _Folder:
    def __init__(self) -> None:
        self.durable: dict[str, _Node] = {}
        self.entries: dict[str, _Node] = {}
        self.unsynced: list[dict[str, _Node | None]] = []  # each applies whole or not at all; None removes a name

    def change(self, names: "dict[str, _Node | None]") -> None:
        _apply(self.entries, names)
        self.unsynced.append(names)

    def sync(self) -> None:
        self.durable = dict(self.entries)
        self.unsynced.clear()


_Node = _File | _Folder


def _apply(entries: dict[str, _Node], names: dict[str, _Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Disk:
    """The disk below one folder, which exists.

    Args:
        root: everything below it counts as synced at first.

    Attributes:
        steps: of the last writer.
        kills: so many there were.
        cuts: so many there were.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps = 0
        self.kills = 0
        self.cuts = 0
        self._last_step: int | None = None
        self._dead = False
        self._tree = self._adopt(root)

    @contextmanager
    def writing(self, last_step: int | None = None) -> Iterator[None]:
        """Watch a writer, and kill it before it takes step number ``last_step``, counted from 0.

        Raises:
            Killed: at that step.
        """
        self.steps, self._last_step, self._dead = 0, last_step, False
        hooks: dict[str, Any] = {
            name: self._hook(getattr(os, name), after)
            for name, after in (
                ("open", None),
                ("chmod", None),
                ("fchmod", None),
                ("ftruncate", None),
                ("pwrite", None),
                ("mkdir", None),
                ("fsync", self._synced),
                ("rename", self._renamed),
                ("replace", self._renamed),
                ("unlink", self._removed),
                ("rmdir", self._removed),
            )
        }
        with mock.patch.multiple(os, **hooks):
            yield
        self._notice(self._tree, self.root)

    def cut_power(self, choose: Choose) -> None:
        """Lose what ``choose`` picks of everything that was not synced."""
        self.cuts += 1
        self._notice(self._tree, self.root)
        left = self._left(self._tree, self.root, choose)
        for entry in self.root.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        _write(self.root, left)
        self._tree = self._adopt(self.root)

    def _hook(self, original: Callable[..., Any], after: Callable[..., None] | None) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if not _path(arguments[0], options.get("dir_fd")).is_relative_to(self.root):
                return original(*arguments, **options)
            if self._dead:
                raise Killed
            if self.steps == self._last_step:
                self._dead = True
                self.kills += 1
                raise Killed
            self.steps += 1
            self._notice(self._tree, self.root)
            if after is None:
                return original(*arguments, **options)
            return after(original, *arguments, **options)

        return step

    def _synced(self, original: Callable[..., Any], descriptor: int) -> None:
        original(descriptor)
        path = _path(descriptor)
        node = self._node(path)
        if isinstance(node, _Folder):
            node.sync()
        elif node is not None:
            node.durable = path.read_bytes()

    def _renamed(self, original: Callable[..., Any], source: Any, target: Any) -> None:
        old, new = _path(source), _path(target)
        node = self._node(old)
        assert node is not None
        self._remember(new)
        original(source, target)
        giver, taker = self._folder(old), self._folder(new)
        if giver is taker:
            taker.change({old.name: None, new.name: node})
        else:
            giver.change({old.name: None})
            taker.change({new.name: node})

    def _removed(self, original: Callable[..., Any], name: Any, *, dir_fd: int | None = None) -> None:
        path = _path(name, dir_fd)
        self._remember(path)
        original(name, dir_fd=dir_fd)
        self._folder(path).change({path.name: None})

    def _remember(self, path: Path) -> None:
        """A file that loses its name may get it back in a power cut."""
        node = self._node(path)
        if isinstance(node, _File):
            node.last = path.read_bytes()

    def _notice(self, folder: _Folder, path: Path) -> None:
        """Take in names that were made by functions that are not watched, ``open`` above all."""
        for name in os.listdir(path):  # noqa: PTH208 - only names
            inner = path / name
            if name not in folder.entries:
                folder.change({name: _Folder() if inner.is_dir() else _File()})
            if isinstance(node := folder.entries[name], _Folder):
                self._notice(node, inner)

    def _adopt(self, path: Path) -> _Folder:
        folder = _Folder()
        for entry in path.iterdir():
            folder.entries[entry.name] = self._adopt(entry) if entry.is_dir() else _File(entry.read_bytes())
        folder.sync()
        return folder

    def _left(self, folder: _Folder, path: Path | None, choose: Choose) -> dict[str, Any]:
        entries = dict(folder.durable)
        for names in folder.unsynced:
            if choose(2) == 0:
                _apply(entries, names)
        left: dict[str, Any] = {}
        for name, node in sorted(entries.items()):
            at = path / name if path is not None and folder.entries.get(name) is node else None
            left[name] = self._left(node, at, choose) if isinstance(node, _Folder) else node.after_cut(at, choose)
        return left

    def _node(self, path: Path) -> "_Node | None":
        node: _Node | None = self._tree
        for name in path.relative_to(self.root).parts:
            node = node.entries.get(name) if isinstance(node, _Folder) else None
        return node

    def _folder(self, path: Path) -> _Folder:
        folder = self._node(path.parent)
        assert isinstance(folder, _Folder)
        return folder


@contextmanager
def full_disk(steps: int) -> Iterator[list[str]]:
    """Whatever needs room finds none after so many steps that did: making, writing, syncing and renaming; removing goes on.

    Yields:
        which functions found none, in order.
    """
    refused: list[str] = []
    taken = 0

    def hook(name: str, original: Callable[..., Any], needs_room: Callable[..., bool] = lambda *_: True) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal taken
            if needs_room(*arguments):
                if taken >= steps:
                    refused.append(name)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                taken += 1
            return original(*arguments, **options)

        return step

    def fdopen(*arguments: Any, original: Callable[..., Any] = os.fdopen) -> Any:
        stream = original(*arguments)
        if "w" in arguments[1]:
            stream.write = hook("write", stream.write)
        return stream

    hooks = {name: hook(name, getattr(os, name)) for name in ("mkdir", "fsync", "rename", "replace")}
    makes_a_name = hook("open", os.open, lambda _, flags, *__: bool(flags & os.O_CREAT))
    with mock.patch.multiple(os, **hooks, open=makes_a_name, fdopen=fdopen):
        yield refused


def _path(name: Any, dir_fd: int | None = None) -> Path:
    if isinstance(name, int):
        return Path(f"/proc/self/fd/{name}").readlink()
    return Path(name) if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink() / name


def _write(folder: Path, left: dict[str, Any]) -> None:
    for name, content in left.items():
        if isinstance(content, dict):
            (folder / name).mkdir()
            _write(folder / name, content)
        else:
            (folder / name).write_bytes(content)

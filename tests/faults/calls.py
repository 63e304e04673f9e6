"""Every call by which this process changes a file or makes it safe, one at a time, each announced to a `Watch`.

The wrappers replace functions of ``os`` and SQLite's VFS while the block runs. What a program writes by other
means (Python's own file objects) is met at the next of these calls, and counts as not synced until it is.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol
from unittest.mock import patch

import apsw

from stratumfs.catalog import connection
from stratumfs.volumes.toc import TOC_MAGIC

_VFS = "watched"
_BASE_VFS = connection.VFS
_FRAME_HEADER_BYTES = 24
_WRITES = ("pwrite", "pwritev")
_SYNCS = ("fdatasync", "fsync")


@dataclass(frozen=True, slots=True)
class Step:
    """One call: what it does, and to what. Its text is the name that the crash table uses."""

    verb: str
    what: str

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"


class Watch(Protocol):
    def before(self, step: Step, path: Path) -> None:
        """The call is about to happen; nothing else does meanwhile. It fails with the OSError that this raises."""

    def synced(self, path: Path) -> None:
        """File or folder *path* has just been synced."""


class _Calls:
    """What the wrappers share: the lock that lets one call through at a time."""

    def __init__(self, root: Path, watch: Watch) -> None:
        self._root = root
        self._watch = watch
        self._lock = threading.RLock()

    def through(self, verb: str, path: str | Path, call: Callable[[], Any], *, sync: bool = False) -> Any:
        what = kind_of(path, self._root)
        if what is None:
            return call()
        with self._lock:
            self._watch.before(Step(verb, what), Path(path))
            result = call()
            if sync:
                self._watch.synced(Path(path))
            return result


@contextmanager
def watched(root: Path, watch: Watch) -> Iterator[None]:
    """Announce the calls that concern *root* to *watch* while the block runs. Connections are opened inside it."""
    calls = _Calls(root, watch)
    with ExitStack() as stack:
        for name in ("mkdir", "rmdir", "unlink"):
            stack.enter_context(patch.object(os, name, _on_path(calls, name, getattr(os, name))))
        for name in ("link", "rename", "replace"):
            stack.enter_context(patch.object(os, name, _on_two_paths(calls, name, getattr(os, name))))
        for name in (*_WRITES, *_SYNCS, "posix_fallocate", "ftruncate"):
            stack.enter_context(patch.object(os, name, _on_descriptor(calls, name, getattr(os, name))))
        stack.enter_context(patch.object(os, "open", _on_open(calls, os.open)))
        vfs = _Vfs(calls)
        stack.callback(vfs.unregister)
        stack.enter_context(patch.object(connection, "VFS", _VFS))
        yield


def kind_of(path: str | Path, root: Path) -> str | None:
    """What the file or folder at *path* is; None for what no promise depends on."""
    try:
        parts = PurePath(path).relative_to(root).parts
    except ValueError:
        return None
    match parts:
        case (*_, "lock" | "control"):
            return None
        case (*_, "catalog.db-wal"):
            return "WAL"
        case (*_, "catalog.db"):
            return "database"
        case (*_, "catalog.db-journal"):
            return "journal"
        case (_, "volumes", _, _):
            return "shard"
        case (_, "volumes") | (_, "volumes", _):
            return "shard folder"
        case (*_, "quarantine") | (*_, "quarantine", _):
            return "quarantine"
        case (*_, "identity.json" | "identity.json.new" | "stratumfs-device.json" | "stratumfs-device.json.new"):
            return "identity"
        case (*_, "stratumfs.toml"):
            return "settings"
        case (*_, "credentials"):
            return "credentials"
        case (*_, "manifest.json" | "manifest.json.new"):
            return "manifest"
        case (*_, "catalog", _, name) if name.startswith("base."):
            return "base"
        case (*_, "catalog", _, _):
            return "copy"
        case (*_, "catalog") | (*_, "catalog", _):
            return "catalog folder"
        case ("store",):
            return "store folder"
        case (_,) | ("store", "devices") | ("store", "devices", _):
            return "device folder"
        case ():
            return "folder above"
    return "another file"


_Function = Callable[..., Any]


def _on_path(calls: _Calls, name: str, original: _Function) -> _Function:
    verb = {"mkdir": "make", "rmdir": "remove", "unlink": "remove"}[name]

    def wrapper(path: Any, *args: Any, **kwargs: Any) -> Any:
        return calls.through(verb, _place(path, kwargs.get("dir_fd")), lambda: original(path, *args, **kwargs))

    return wrapper


def _on_two_paths(calls: _Calls, name: str, original: _Function) -> _Function:
    def wrapper(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        place = _place(target, kwargs.get("dst_dir_fd"))
        return calls.through(
            "rename" if name == "replace" else name, place, lambda: original(source, target, *args, **kwargs)
        )

    return wrapper


def _on_descriptor(calls: _Calls, name: str, original: _Function) -> _Function:
    verb = {"posix_fallocate": "allocate", "ftruncate": "cut"}.get(name, "sync" if name in _SYNCS else "write")

    def wrapper(descriptor: int, *args: Any) -> Any:
        place = _place_of(descriptor)
        done = verb
        if name in _WRITES and _begins_toc(args[0]):
            done = "write contents of"
        return calls.through(done, place, lambda: original(descriptor, *args), sync=name in _SYNCS)

    return wrapper


def _on_open(calls: _Calls, original: _Function) -> _Function:
    def wrapper(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        if not flags & os.O_CREAT:
            return original(path, flags, *args, **kwargs)
        place = _place(path, kwargs.get("dir_fd"))
        return calls.through("create", place, lambda: original(path, flags, *args, **kwargs))

    return wrapper


def _place(path: Any, folder: int | None) -> str:
    text = os.fsdecode(path)
    return text if folder is None or os.path.isabs(text) else os.path.normpath(f"{_place_of(folder)}/{text}")


def _place_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _begins_toc(data: Any) -> bool:
    first = data[0] if isinstance(data, list | tuple) else data
    return bytes(first[: len(TOC_MAGIC)]) == TOC_MAGIC


class _Vfs(apsw.VFS):
    """SQLite's own calls."""

    def __init__(self, calls: _Calls) -> None:
        self.calls = calls
        super().__init__(_VFS, _BASE_VFS)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self.calls, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        _through(self.calls, "remove", filename, lambda: super(_Vfs, self).xDelete(filename, syncdir))


class _File(apsw.VFSFile):
    def __init__(self, calls: _Calls, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._calls = calls
        self._commits = False
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__(_BASE_VFS, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        verb = self._verb(data, offset)
        _through(self._calls, verb, self._path, lambda: super(_File, self).xWrite(data, offset))

    def xTruncate(self, newsize: int) -> None:
        _through(self._calls, "cut", self._path, lambda: super(_File, self).xTruncate(newsize))

    def xSync(self, flags: int) -> None:
        _through(self._calls, "sync", self._path, lambda: super(_File, self).xSync(flags), sync=True)

    def _verb(self, data: bytes, offset: int) -> str:
        """Of the WAL (SQLite, "File Format", 4.1): each frame is a header and a page, and the header of the last one of
        a transaction says so; its page makes the transaction valid."""
        if not self._path.endswith("-wal"):
            return "write"
        if offset == 0:
            return "restart"
        if len(data) == _FRAME_HEADER_BYTES:
            self._commits = any(data[4:8])
            return "write"
        return "commit" if self._commits else "write"


def _through(calls: _Calls, verb: str, path: str, call: Callable[[], Any], *, sync: bool = False) -> None:
    """An OSError as SQLite's own files make of it."""
    try:
        calls.through(verb, path, call, sync=sync)
    except OSError as error:
        full = error.errno == errno.ENOSPC and not sync
        raise (apsw.FullError if full else apsw.IOError)(str(error)) from error

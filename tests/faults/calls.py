"""Every call by which this process changes a file or makes it safe, one at a time, each announced to a `Watch`.

The wrappers replace functions of ``os`` and SQLite's VFS while the block runs. What a program writes by other
means (Python's own file objects) is met at the next of these calls, and counts as not synced until it is. On demand
reads are announced too, and the calls on sockets that trio or the gateway itself makes.
"""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol
from unittest.mock import patch

import apsw
import trio

from stratumfs.catalog import connection
from stratumfs.shards import allocation
from stratumfs.volumes.toc import TOC_MAGIC

_VFS = "watched"
_BASE_VFS = connection.VFS
_FRAME_HEADER_BYTES = 24
_WRITES = ("pwrite", "pwritev")
_SYNCS = ("fdatasync", "fsync")
WRITING = ("write", "write contents of", "commit", "restart")
"""Verbs of the calls that change bytes and may do a part of their work."""
SHORT_BYTES = 7
"""What a call on a socket takes that does a part of its work."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call: what it does, and to what. Its text is the name that the crash table uses."""

    verb: str
    what: str

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"


class Shortened(Exception):
    """A call is to do a part of its work, and to say so as the system does."""


class Watch(Protocol):
    def before(self, step: Step, path: Path) -> None:
        """The call is about to happen; nothing else does meanwhile. It fails with the OSError that this raises; where
        it raises Shortened, a read or one of WRITING does half of its work, one on a socket SHORT_BYTES."""

    def synced(self, path: Path) -> None:
        """File or folder *path* has just been synced."""


class _Calls:
    """What the wrappers share: the lock that lets one call through at a time."""

    def __init__(self, root: Path, watch: Watch) -> None:
        self._root = root
        self._watch = watch
        self._lock = threading.RLock()

    def through(
        self,
        verb: str,
        path: str | Path,
        call: Callable[[], Any],
        part: Callable[[], Any] | None = None,
        *,
        sync: bool = False,
    ) -> Any:
        what = kind_of(path, self._root)
        if what is None:
            return call()
        with self._lock:
            try:
                self._watch.before(Step(verb, what), Path(path))
            except Shortened:
                assert part is not None, f"{verb} {what} does all of its work or none"
                call = part
            result = call()
            if sync:
                self._watch.synced(Path(path))
            return result

    def announce(self, verb: str, what: str, number: int) -> bool:
        """Of a call on a socket, which may wait and lets others through. Returns whether it is to be short.

        A connection that fails is broken for both ends.
        """
        with self._lock:
            try:
                self._watch.before(Step(verb, what), Path())
            except Shortened:
                return True
            except OSError:
                with suppress(OSError), socket.socket(fileno=os.dup(number)) as found:
                    if verb != "accept":
                        found.shutdown(socket.SHUT_RDWR)
                raise
            return False


@contextmanager
def watched(root: Path, watch: Watch, *, reads: bool = False, sockets: bool = False) -> Iterator[None]:
    """Announce the calls that concern *root* to *watch* while the block runs. Connections are opened inside it.

    *reads*: reads, too; *sockets*: and the calls that trio or the gateway makes on any socket, which have no path.
    """
    calls = _Calls(root, watch)
    with ExitStack() as stack:
        for name in ("mkdir", "rmdir", "unlink"):
            stack.enter_context(patch.object(os, name, _on_path(calls, name, getattr(os, name))))
        for name in ("link", "rename", "replace"):
            stack.enter_context(patch.object(os, name, _on_two_paths(calls, name, getattr(os, name))))
        for name in (*_WRITES, *_SYNCS, "ftruncate"):
            stack.enter_context(patch.object(os, name, _on_descriptor(calls, name, getattr(os, name))))
        allocate = _on_descriptor(calls, "allocate", allocation.allocate)
        stack.enter_context(patch.object(allocation, "allocate", allocate))
        stack.enter_context(patch.object(os, "open", _on_open(calls, os.open)))
        if reads:
            for name in ("pread", "preadv"):
                stack.enter_context(patch.object(os, name, _on_read(calls, name, getattr(os, name))))
        vfs = _Vfs(calls, reads=reads)
        stack.callback(vfs.unregister)
        stack.enter_context(patch.object(connection, "VFS", _VFS))
        if sockets:
            for each in _on_sockets(calls):
                stack.enter_context(each)
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
        case ("remote", *_):
            return "object"
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
        case (*_, "stratumfs-device.json.removed"):
            return "retired identity"
        case (*_, "backup") | (*_, "backup", _):
            return "spool"
        case (*_, "stratumfs.toml" | "stratumfs.toml.new"):
            return "settings"
        case (*_, "cold-key.json" | "cold-key.json.new"):
            return "wrapped key"
        case ("secret" | "secret.new",):
            return "secret"
        case (*_, "credentials" | "credentials.new"):
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
    verb = {"allocate": "allocate", "ftruncate": "cut"}.get(name, "sync" if name in _SYNCS else "write")

    def wrapper(descriptor: int, *args: Any) -> Any:
        place = _place_of(descriptor)
        if name not in _WRITES:
            return calls.through(verb, place, lambda: original(descriptor, *args), sync=name in _SYNCS)
        done = "write contents of" if _begins_toc(args[0]) else verb

        def part() -> Any:
            data = b"".join(args[0]) if name == "pwritev" else bytes(args[0])
            data = data[: (len(data) + 1) // 2]
            return original(descriptor, [data] if name == "pwritev" else data, *args[1:])

        return calls.through(done, place, lambda: original(descriptor, *args), part)

    return wrapper


def _on_read(calls: _Calls, name: str, original: _Function) -> _Function:
    def wrapper(descriptor: int, wanted: Any, *args: Any) -> Any:
        def part() -> Any:
            if name == "pread":
                return original(descriptor, (wanted + 1) // 2, *args)
            first = memoryview(wanted[0])
            return original(descriptor, [first[: (len(first) + 1) // 2]], *args)

        return calls.through("read", _place_of(descriptor), lambda: original(descriptor, wanted, *args), part)

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


def _on_sockets(calls: _Calls) -> list[AbstractContextManager[Any]]:
    with trio.socket.socket() as found:
        kind: Any = type(found)
    return [
        patch.object(kind, "accept", _on_accept(calls, kind.accept)),
        patch.object(kind, "recv", _on_socket(calls, "receive", kind.recv, lambda limit: min(limit, SHORT_BYTES))),
        patch.object(kind, "recv_into", _on_socket(calls, "receive", kind.recv_into, lambda view: view[:SHORT_BYTES])),
        patch.object(kind, "send", _on_socket(calls, "send", kind.send, lambda data: data[:SHORT_BYTES])),
        patch.object(os, "read", _on_socket_number(calls, "receive", os.read, lambda limit: min(limit, SHORT_BYTES))),
        patch.object(
            os, "writev", _on_socket_number(calls, "send", os.writev, lambda data: [b"".join(data)[:SHORT_BYTES]])
        ),
    ]


def _on_accept(calls: _Calls, original: _Function) -> _Function:
    async def wrapper(self: Any) -> Any:
        await trio.lowlevel.wait_readable(self)  # a client is there, and stays where the call fails
        calls.announce("accept", _end_of(self), self.fileno())
        return await original(self)

    return wrapper


def _on_socket(calls: _Calls, verb: str, original: _Function, shorten: _Function) -> _Function:
    async def wrapper(self: Any, data: Any) -> Any:
        short = calls.announce(verb, _end_of(self), self.fileno())
        return await original(self, shorten(data) if short else data)

    return wrapper


def _on_socket_number(calls: _Calls, verb: str, original: _Function, shorten: _Function) -> _Function:
    def wrapper(descriptor: int, data: Any) -> Any:
        if not _place_of(descriptor).startswith("socket:"):
            return original(descriptor, data)
        return original(descriptor, shorten(data) if calls.announce(verb, "client", descriptor) else data)

    return wrapper


def _end_of(found: Any) -> str:
    return "command" if found.family == socket.AF_UNIX else "client"


class _Vfs(apsw.VFS):
    """SQLite's own calls."""

    def __init__(self, calls: _Calls, *, reads: bool) -> None:
        self.calls = calls
        self._file = _ReadFile if reads else _File
        super().__init__(_VFS, _BASE_VFS)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return self._file(self.calls, name, flags)

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

        def part() -> None:
            """SQLite's own files write on, and say what stops them: nothing but a full disk."""
            super(_File, self).xWrite(data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        _through(self._calls, verb, self._path, lambda: super(_File, self).xWrite(data, offset), part)

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


class _ReadFile(_File):
    def xRead(self, amount: int, offset: int) -> Any:
        def call() -> Any:
            return super(_ReadFile, self).xRead(amount, offset)

        return _through(self._calls, "read", self._path, call, call)  # a short one it goes on with by itself


def _through(
    calls: _Calls,
    verb: str,
    path: str,
    call: Callable[[], Any],
    part: Callable[[], Any] | None = None,
    *,
    sync: bool = False,
) -> Any:
    """An OSError as SQLite's own files make of it: of a quota (EDQUOT) the same as of any other error."""
    try:
        return calls.through(verb, path, call, part, sync=sync)
    except OSError as error:
        full = error.errno == errno.ENOSPC and not sync
        raise (apsw.FullError if full else apsw.IOError)(str(error)) from error

"""The next operation, whichever it is: what the mount, or S3, shows of a scene must be what it holds."""

import errno
import mmap
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tools.rehearsals._stale_scene import DIRECTORY, Scene, Shown, children, parents, subdirectories

CHURN = "churn"
"""How names begin that others make and remove beside a round."""


T = TypeVar("T")


class Stale(Exception):
    """A door shows what is not so."""


class MountLook:
    """*before* is what was shown, and was looked at, when the change came."""

    def __init__(self, scene: Scene, before: Shown) -> None:
        self._scene, self._before, self._now = scene, before, scene.shown()
        self._paths = sorted({*before, *self._now})
        self._mtimes: dict[str, int] = {}
        self._changed = parents(path for path in self._paths if _held(before, path) != _held(self._now, path))

    def remember(self) -> None:
        """Look at all, so that the kernel keeps it, and note the times."""
        for path in self._paths:
            with suppress(OSError):
                self._mtimes[path] = os.lstat(self._scene.path(path)).st_mtime_ns

    def after(self, change: Callable[[], None]) -> "MountLook":
        """What is to be seen when *change* has been made."""
        self._scene.renewed.clear()
        change()
        found = MountLook(self._scene, self._now)
        found._mtimes = self._mtimes
        return found

    def first(self) -> str:
        """The very next operation, drawn. Returns what it was. Raises: Stale."""
        rng = self._scene.rng
        looks = [(name, path) for path in self._paths for name in _LOOKS]
        name, path = rng.choice(looks)
        _LOOKS[name](self, path)
        return name

    def everywhere(self) -> None:
        """Raises: Stale."""
        for path in self._paths:
            for look in _LOOKS.values():
                look(self, path)

    def _stat(self, path: str) -> None:
        found = self._call(path, os.lstat)
        if found is None:
            return
        held = self._now[path]
        if held is DIRECTORY:
            links = 2 + subdirectories(self._now, path)
            self._expect(path, "is a directory", stat.S_ISDIR(found.st_mode), True)
            self._expect(path, "links", found.st_nlink, links)
        else:
            self._expect(path, "size", found.st_size, len(held))
        known = self._mtimes.get(path)
        if known is None or (self._before[path] is DIRECTORY) != (held is DIRECTORY):
            return
        if path in (self._changed if held is DIRECTORY else self._scene.renewed):
            self._expect(path, "mtime moved", found.st_mtime_ns > known, True)

    def _read(self, path: str) -> None:
        if self._is_file(path):
            with self._opened(path) as fd:
                if fd is not None:
                    self._expect(path, "bytes", os.pread(fd, 1 << 23, 0), self._now[path])

    def _open(self, path: str) -> None:
        if self._is_file(path):
            with self._opened(path) as fd:
                if fd is not None:
                    self._expect(path, "size when open", os.fstat(fd).st_size, len(self._now[path] or b""))

    def _map(self, path: str) -> None:
        if self._now.get(path):
            with self._opened(path) as fd:
                if fd is not None:
                    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
                        self._expect(path, "mapped bytes", mapped[:], self._now[path])

    def _list(self, path: str) -> None:
        if self._now.get(path, DIRECTORY) is not DIRECTORY:
            return
        names = self._call(path, os.listdir)
        if names is not None:
            own = {name for name in names if not name.startswith(CHURN)}
            self._expect(path, "names", own, children(self._now, path))

    def _is_file(self, path: str) -> bool:
        return self._now.get(path, b"") is not DIRECTORY

    def _opened(self, path: str) -> "_Descriptor":
        return _Descriptor(self._call(path, lambda at: os.open(at, os.O_RDONLY)))

    def _call(self, path: str, call: Callable[[os.PathLike[str]], T]) -> T | None:
        """None if it is missing, and should be."""
        try:
            found = call(self._scene.path(path))
        except OSError as error:
            if path in self._now or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise Stale(f"{path}: {error}") from error
            return None
        self._expect(path, "exists", True, path in self._now)
        return found

    @staticmethod
    def _expect(path: str, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise Stale(f"{path}: {what}: {str(found)[:200]} instead of {str(wanted)[:200]}")


_LOOKS: dict[str, Callable[[MountLook, str], None]] = {
    "stat": MountLook._stat,
    "read": MountLook._read,
    "open": MountLook._open,
    "mmap": MountLook._map,
    "readdir": MountLook._list,
}


class _Descriptor:
    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def __enter__(self) -> int | None:
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _held(of: Shown, path: str) -> tuple[bool, bytes | None]:
    return path in of, of.get(path)


class S3Look:
    """The same through S3: of all keys that there are, or were."""

    def __init__(self, scene: Scene, before: set[str]) -> None:
        self._scene, self._keys = scene, sorted(before | set(scene.keys))

    def first(self) -> str:
        look = self._scene.rng.choice(list(_S3_LOOKS))
        _S3_LOOKS[look](self, self._scene.rng.choice(self._keys))
        return look

    def everywhere(self) -> None:
        for key in self._keys:
            for look in _S3_LOOKS.values():
                look(self, key)

    def _get(self, key: str) -> None:
        got = self._scene.s3.get(self._scene.bucket, key.encode())
        wanted = self._scene.keys.get(key)
        MountLook._expect(key, "GET", (got.status, got.data if got.status == 200 else None), _status(wanted))

    def _head(self, key: str) -> None:
        got = self._scene.s3.get(self._scene.bucket, key.encode(), "HEAD")
        wanted = self._scene.keys.get(key)
        size = int(got.headers["content-length"]) if got.status == 200 else 0
        MountLook._expect(key, "HEAD", (got.status, size), (404, 0) if wanted is None else (200, len(wanted)))

    def _list(self, key: str) -> None:
        listed, _ = self._scene.s3.list(self._scene.bucket, self._scene.top.encode())
        sizes = {name.decode(): each.size for name, each in listed.items()}
        held = {name: len(data) for name, data in self._scene.keys.items() if name.startswith(self._scene.top)}
        MountLook._expect(key, "LIST", sizes, held)


def _status(wanted: bytes | None) -> tuple[int, bytes | None]:
    return (404, None) if wanted is None else (200, wanted)


_S3_LOOKS: dict[str, Callable[[S3Look, str], None]] = {
    "GET": S3Look._get,
    "HEAD": S3Look._head,
    "LIST": S3Look._list,
}

"""A `Remote` that is a folder, so that what a stop leaves at a service is part of the image of that stop.

Each object is there wholly or not at all, and durable when its put returns, as services promise.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec

from stratumfs.config import SETTINGS_FILE, Cold, render_cold
from stratumfs.devices.identity import read_identity, sync_folder
from stratumfs.errors import DeviceFailed, ShardMissing, of_device
from stratumfs.ids import Buffer, VolumeId
from stratumfs.owner import cold_key
from stratumfs.shards.remote import Listed
from stratumfs.shards.remote_shards import VOLUMES

FOLDER = "remote"
UNKNOWN_VOLUME = VolumeId(b"unknown".ljust(16, b"-"))
"""Of which an object may lie there, and no row anywhere."""
COLD = Cold("s3://bucket/prefix", key_file="/nowhere", keep_days=0.0)


class FolderRemote:
    label = COLD.to

    def __init__(self, root: Path) -> None:
        self._root = root / FOLDER

    def put(self, name: str, source: Buffer) -> None:
        with self._failing():
            self._put(name, source)

    def _put(self, name: str, source: Buffer) -> None:
        path = self._root / name
        temporary = path.with_name(f"{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            done = 0
            while done < len(source):
                done += os.pwrite(descriptor, memoryview(source)[done:], done)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(path.parent)

    def get(self, name: str, offset: int, length: int) -> bytes:
        data = self._read(name)[offset : offset + length]
        if len(data) != length:
            raise DeviceFailed(f"{name} is shorter", self.label)
        return data

    def size(self, name: str) -> int:
        return len(self._read(name))

    def delete(self, name: str) -> None:
        path = self._root / name
        with self._failing():
            if path.exists():
                os.unlink(path)
                sync_folder(path.parent)

    def names(self, prefix: str) -> Iterator[str]:
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            if path.is_file() and not name.endswith(".new") and name.startswith(prefix):
                yield name

    def listed(self, prefix: str) -> Iterator[Listed]:
        for name in self.names(prefix):
            found = (self._root / name).stat()
            yield Listed(name, found.st_size, max(0.0, time.time() - found.st_mtime), found.st_mtime)

    def close(self) -> None:
        pass

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise of_device(error, f"{self.label}: {error.strerror}", self.label) from error

    def _read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            raise ShardMissing(f"there is no {name}") from None


def folder_remote(root: Path) -> FolderRemote | None:
    """Of the store below *root*, if it was given one by `add_cold`."""
    return FolderRemote(root) if (root / FOLDER).exists() else None


def add_cold(root: Path, keep_days: float = 0.0) -> None:
    """A cold tier, for the store below *root*, as if it had been made with one; its secret is no secret."""
    store = root / "store"
    ident = read_identity(store).store
    (root / FOLDER / ident.hex() / VOLUMES).mkdir(parents=True)
    secret = root / "secret"
    cold_key.write_secret(secret, cold_key.make_secret())
    with patch.object(cold_key, "_SCRYPT_N", 2):
        key = cold_key.make_key(ident, secret.read_text().strip())
    for folder in (store, *_devices(root)):
        cold_key.write_wrapped(folder, key)
    text = render_cold(msgspec.structs.replace(COLD, keep_days=keep_days)).replace("/nowhere", str(secret))
    with (store / SETTINGS_FILE).open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _devices(root: Path) -> Sequence[Path]:
    return sorted([*root.glob("d[0-9]*"), *root.glob("w[0-9]*")])

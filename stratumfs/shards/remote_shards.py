"""Shards in somebody's S3: volumes of one shard each, encrypted. All of it blocks; many threads may call it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stratumfs.errors import ShardCorrupt, ShardMissing
from stratumfs.ids import StoreId, VolumeId
from stratumfs.limits import REMOTE_VOLUMES_KNOWN
from stratumfs.shards.encrypted import HEADER_SIZE, MasterKey, Opened, open_header
from stratumfs.shards.layout import ShardName
from stratumfs.shards.remote import Remote

T = TypeVar("T")

VOLUMES = "volumes"


def object_name(store: StoreId, master: MasterKey, volume: VolumeId) -> str:
    return f"{folder(store)}{VOLUMES}/{master.name(volume)}"


def folder(store: StoreId) -> str:
    """Of all that a store has at a remote."""
    return f"{store.hex()}/"


class RemoteShards:
    """A `ShardReader`. What headers say is kept: each was a request. Raises ShardCorrupt, too."""

    def __init__(self, remote: Remote, master: MasterKey, store: StoreId) -> None:
        self._remote, self._master, self._store = remote, master, store
        self._opened: OrderedDict[VolumeId, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        opened = self._open(name.volume)
        length = max(0, min(length, opened.length - position))
        if not length:
            return b""
        offset, count = opened.range(position, length)
        path = object_name(self._store, self._master, name.volume)
        return _right(lambda: opened.decrypt(self._store, position, length, self._remote.get(path, offset, count)))

    def read_nowait(self, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        return False

    def size(self, name: ShardName) -> int:
        return self._open(name.volume).length

    def volumes(self) -> Iterator[VolumeId]:
        """All that lie there, by their headers, a request each; other objects are left out. Raises: DeviceError."""
        place = f"{folder(self._store)}{VOLUMES}/"
        for path in self._remote.names(place):
            name = path.removeprefix(place)
            try:
                yield open_header(self._master, self._store, name, self._remote.get(path, 0, HEADER_SIZE)).volume
            except (ShardCorrupt, ShardMissing):
                continue

    def forget(self, volume: VolumeId) -> None:
        """It is to go, or is not there yet."""
        with self._lock:
            self._opened.pop(volume, None)

    def _open(self, volume: VolumeId) -> Opened:
        with self._lock:
            opened = self._opened.get(volume)
            if opened is not None:
                self._opened.move_to_end(volume)
                return opened
        path, name = object_name(self._store, self._master, volume), self._master.name(volume)
        opened = _right(lambda: open_header(self._master, self._store, name, self._remote.get(path, 0, HEADER_SIZE)))
        if opened.volume != volume:
            raise ShardCorrupt(f"the object of volume {volume.hex()} says that it is of {opened.volume.hex()}")
        with self._lock:
            self._opened[volume] = opened
            if len(self._opened) > REMOTE_VOLUMES_KNOWN:
                self._opened.popitem(last=False)
        return opened


def _right(asked: Callable[[], T]) -> T:
    """What came wrong may have been changed on its way, and there is no other shard: it is asked for once more.

    Raises: ShardCorrupt if it is wrong again; what *asked* raises.
    """
    try:
        return asked()
    except ShardCorrupt:
        return asked()

"""Shards in somebody's S3: volumes of one shard each, encrypted. All of it blocks; many threads may call it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stratumfs.cold_limits import RECALL_KEPT, RECALLED_BYTES
from stratumfs.errors import ShardCorrupt, ShardMissing
from stratumfs.ids import StoreId, VolumeId
from stratumfs.limits import REMOTE_VERB_S, REMOTE_VOLUMES_KNOWN
from stratumfs.shards.budget import RecallBudget, used_up
from stratumfs.shards.encrypted import HEADER_SIZE, SEGMENT, MasterKey, Opened, open_header
from stratumfs.shards.layout import ShardName
from stratumfs.shards.recalled import Piece, Recalled
from stratumfs.shards.remote import Remote

T = TypeVar("T")

VOLUMES = "volumes"


def object_name(store: StoreId, master: MasterKey, volume: VolumeId) -> str:
    return f"{folder(store)}{VOLUMES}/{master.name(volume)}"


def folder(store: StoreId) -> str:
    """Of all that a store has at a remote."""
    return f"{store.hex()}/"


class RemoteShards:
    """A `ShardReader`. What headers say is kept: each was a request. Raises ShardCorrupt, too.

    recalled  what was fetched ahead, and what lies beside what was read
    budget    what is fetched is taken from it; StoreBusy when nothing is left
    """

    def __init__(self, remote: Remote, master: MasterKey, store: StoreId, budget: RecallBudget | None = None) -> None:
        self._remote, self._master, self._store = remote, master, store
        self.recalled = Recalled(RECALLED_BYTES)
        self.budget = budget or RecallBudget()
        self._opened: OrderedDict[VolumeId, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        found = self.recalled.find(name.volume, position, length, REMOTE_VERB_S)
        if found is not None:
            return found
        opened = self._open(name.volume)
        stop = min(position + length, opened.length)
        if stop <= position:
            return b""
        start, end = position // SEGMENT * SEGMENT, min(-(-stop // SEGMENT) * SEGMENT, opened.length)
        data = self._fetch(opened, start, end)
        if end - start <= RECALL_KEPT:  # whoever reads long runs goes on with others
            self.recalled.keep(name.volume, start, data)
        return bytes(data[position - start : stop - start])

    def begin(self, volume: VolumeId, start: int, stop: int) -> Piece | None:
        """What is to be given to `recall`: all segments that have some of these bytes. None: there is no need, or no
        room. Does not block."""
        return self.recalled.begin(volume, start // SEGMENT * SEGMENT, -(-stop // SEGMENT) * SEGMENT)

    def recall(self, piece: Piece) -> None:
        """Fetch it, by one request. Raises: as `read_at`; what nobody waits for then is as if it had not been begun."""
        data = None
        try:
            opened = self._open(piece.volume)
            data = self._fetch(opened, piece.start, min(piece.stop, opened.length))
        finally:
            self.recalled.end(piece, data)

    def _fetch(self, opened: Opened, start: int, stop: int) -> memoryview:
        """Whole segments, but for the last."""
        offset, count = opened.range(start, stop - start)
        path = object_name(self._store, self._master, opened.volume)

        if closed_s := self.budget.take(count):
            raise used_up(self._remote.label, closed_s)

        def get() -> memoryview:
            return opened.decrypt(self._store, start, stop - start, self._remote.get(path, offset, count))

        return _right(get, lambda: self.budget.spend(count))

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

    def volume_of(self, name: str) -> VolumeId:
        """Which one an object is of, by its header, a request. Raises: ShardMissing, DeviceError; ShardCorrupt if it is
        none of this store's."""
        path = f"{folder(self._store)}{VOLUMES}/{name}"
        return open_header(self._master, self._store, name, self._remote.get(path, 0, HEADER_SIZE)).volume

    def object_size(self, volume: VolumeId) -> int:
        """Of the object as it lies there, a request. Raises: ShardMissing, DeviceError."""
        return self._remote.size(object_name(self._store, self._master, volume))

    def forget(self, volume: VolumeId) -> None:
        """It is to go, or is not there yet."""
        self.recalled.forget(volume)
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


def _right(asked: Callable[[], T], again: Callable[[], None] = lambda: None) -> T:
    """What came wrong may have been changed on its way, and there is no other shard: it is asked for once more, behind
    *again*.

    Raises: ShardCorrupt if it is wrong again; what *asked* raises.
    """
    try:
        return asked()
    except ShardCorrupt:
        again()
        return asked()

"""Shards in memory, with hooks for faults, for tests and rehearsals. Knows what a power cut would leave."""

import threading
from collections.abc import Callable, Iterable, Sequence

from stratumfs.errors import DeviceFailed, ShardMissing
from stratumfs.ids import Buffer
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import ShardName, folder_of

Fault = Callable[[str, ShardName | None], None]
"""Called before each verb with its name and the shard; raises what the verb shall raise, or blocks."""


class MemoryShards:
    """A `ShardBackend` in memory.

    fault     may be set at any time
    contents  bytes of each shard as readers see them; tests may change them to damage a shard
    """

    def __init__(self, device: str = "memory", fault: Fault | None = None) -> None:
        self.device = device
        self.fault = fault
        self.contents: dict[ShardName, bytearray] = {}
        self.aside: dict[ShardName, bytearray] = {}
        self.unfinished: dict[ShardName, bytearray] = {}
        self._stable: dict[ShardName, bytes] = {}
        self._linked: set[ShardName] = set()
        self._lock = threading.Lock()

    def create(self, name: ShardName) -> OpenShard:
        self.enter("create", name)
        with self._lock:
            if name in self.contents:
                raise DeviceFailed(f"device {self.device}: cannot create {name}: File exists", self.device)
            data = self.contents[name] = bytearray()
        return MemoryOpenShard(self, name, data)

    def reopen(self, name: ShardName) -> OpenShard:
        self.enter("reopen", name)
        return MemoryOpenShard(self, name, self.find(name))

    def begin_anew(self, name: ShardName) -> OpenShard:
        self.enter("begin_anew", name)
        with self._lock:
            data = self.unfinished[name] = bytearray()
        return MemoryOpenShard(self, name, data)

    def install(self, name: ShardName) -> None:
        self.enter("install", name)
        with self._lock:
            if name not in self.unfinished:
                raise DeviceFailed(f"device {self.device} builds no shard {name}", self.device)
            self.contents[name] = self.unfinished.pop(name)
            self.keep(name, self.contents[name])
            self._linked.add(name)

    def drop_unfinished(self, folder: str) -> None:
        self.enter("drop_unfinished", None)
        with self._lock:
            for name in [each for each in self.unfinished if folder_of(each).name == folder]:
                del self.unfinished[name]

    def sync_folder(self, name: ShardName) -> None:
        self.enter("sync_folder", name)
        with self._lock:
            folder = name.volume[:1]
            self._linked = {each for each in self._linked if each.volume[:1] != folder}
            self._linked |= {each for each in self.contents if each.volume[:1] == folder}

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        self.enter("read_at", name)
        return bytes(self.find(name)[position : position + length])

    def read_nowait(self, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        return False

    def will_read(self, name: ShardName, position: int, length: int) -> None:
        pass

    def size(self, name: ShardName) -> int:
        self.enter("size", name)
        return len(self.find(name))

    def uncache(self, name: ShardName) -> None:
        self.enter("uncache", name)
        self.find(name)

    def unlink(self, name: ShardName) -> None:
        self.enter("unlink", name)
        with self._lock:
            self.contents.pop(name, None)

    def quarantine(self, names: Iterable[ShardName]) -> None:
        self.enter("quarantine", None)
        with self._lock:
            for name in names:
                if name in self.contents:
                    self.aside.setdefault(name, self.contents.pop(name))
                    self._linked.discard(name)

    def quarantined(self) -> list[ShardName]:
        self.enter("quarantined", None)
        return [*self.aside]

    def take_back(self, names: Iterable[ShardName]) -> None:
        self.enter("take_back", None)
        with self._lock:
            for name in names:
                if name in self.aside and name not in self.contents:
                    self.contents[name] = self.aside.pop(name)

    def probe(self) -> None:
        self.enter("probe", None)

    def names(self, folder: str) -> list[ShardName]:
        self.enter("names", None)
        return [name for name in list(self.contents) if folder_of(name).name == folder]

    def close(self) -> None:
        pass

    def power_cut(self) -> None:
        """Forget all that was not synced, as the worst of power cuts does."""
        with self._lock:
            self.contents = {name: bytearray(self._stable.get(name, b"")) for name in self._linked}

    def enter(self, verb: str, name: ShardName | None) -> None:
        """What each verb begins with."""
        if self.fault is not None:
            self.fault(verb, name)

    def find(self, name: ShardName) -> bytearray:
        with self._lock:
            if name not in self.contents:
                raise ShardMissing(f"device {self.device} has no shard {name}")
            return self.contents[name]

    def keep(self, name: ShardName, data: bytearray) -> None:
        """The shard's bytes as they are now survive a power cut, if they are still those that bear its name."""
        if self.contents.get(name) is data:
            self._stable[name] = bytes(data)


class MemoryOpenShard:
    """An `OpenShard` of `MemoryShards`."""

    def __init__(self, shards: MemoryShards, name: ShardName, data: bytearray) -> None:
        self._shards = shards
        self._name = name
        self._data = data
        self._lock = threading.Lock()

    def preallocate(self, start: int, end: int) -> None:
        self._shards.enter("preallocate", self._name)
        with self._lock:
            self._extend(end)

    def write_at(self, position: int, parts: Sequence[Buffer]) -> None:
        self._shards.enter("write_at", self._name)
        data = b"".join(parts)
        with self._lock:
            self._extend(position + len(data))
            self._data[position : position + len(data)] = data

    def datasync(self) -> None:
        self._shards.enter("datasync", self._name)
        with self._lock:
            self._shards.keep(self._name, self._data)

    def cut(self, size: int) -> None:
        self._shards.enter("cut", self._name)
        with self._lock:
            self._extend(size)
            del self._data[size:]

    def size(self) -> int:
        self._shards.enter("size", self._name)
        return len(self._data)

    def close(self) -> None:
        pass

    def _extend(self, end: int) -> None:
        if end > len(self._data):
            self._data += bytes(end - len(self._data))

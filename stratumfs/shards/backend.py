"""What keeps shards: Protocols with few verbs. ``tests/suites/shard_backend.py`` is what each must pass.

All verbs are synchronous and may block: call them in threads. Every one but `ShardReader.read_nowait` may be called
from several threads at once. None retries. Errors, everywhere:

    ShardMissing   there is no such shard
    DeviceFull     no room (ENOSPC, EDQUOT)
    DeviceFailed   anything else that the device answers; ``device`` names it
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from stratumfs.ids import Buffer
from stratumfs.shards.layout import ShardName


class OpenShard(Protocol):
    """A shard held open for writing, from its creation to its sealing.

    It stays open because of fsync: the kernel tells of a failed write-back to descriptors that were open at the time.
    """

    def preallocate(self, start: int, end: int) -> None:
        """Make room for the bytes from *start* to *end*, which read as zeros where nobody has written.

        A backend that can't only looks whether there is so much. Raises: DeviceError, by `DeviceFull` if there is not.
        """
        ...

    def write_at(self, position: int, parts: Sequence[Buffer]) -> None:
        """Write *parts*, one behind the other, at *position*: all of them, or raise. Running it twice is harmless."""
        ...

    def datasync(self) -> None:
        """Return when all that was written before the call is on stable storage, the file's length included.

        An error is final: after it nobody knows what is stored, and a second call that succeeds proves nothing.
        """
        ...

    def cut(self, size: int) -> None:
        """Make the shard *size* bytes long."""
        ...

    def size(self) -> int:
        """Bytes in the shard, what was preallocated included."""
        ...

    def close(self) -> None:
        """Let go of it, without any sync. Twice is harmless."""
        ...


class ShardReader(Protocol):
    """Shards that are read."""

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        """*length* bytes at *position*; fewer only where the shard ends."""
        ...

    def read_nowait(self, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        """Fill *parts*, in order, with what lies from *position* on, if it can be answered from memory at once.

        False if that would block, isn't known, or the shard ends before: then they hold anything. May be called on the
        event loop. Raises nothing: what fails here fails again in `read_at`.
        """
        ...

    def size(self, name: ShardName) -> int:
        """Bytes in the shard."""
        ...


class ShardBackend(ShardReader, Protocol):
    """The shards of one device."""

    def create(self, name: ShardName) -> OpenShard:
        """A new, empty shard. Raises DeviceFailed if there is one of that name: a volume's id is used once.

        Durable only after its datasync *and* `sync_folder`.
        """
        ...

    def reopen(self, name: ShardName) -> OpenShard:
        """An existing shard, to append what sealing after a crash adds."""
        ...

    def begin_anew(self, name: ShardName) -> OpenShard:
        """A new, empty shard beside the one of that name, if there is one, which it replaces at `install`.

        Until then nobody reads it, and `names` doesn't list it. One that was begun before and not installed is dropped.
        """
        ...

    def install(self, name: ShardName) -> None:
        """What `begin_anew` gave, synced and closed by now, is the shard of this name; durable when it returns.

        Who reads sees the old bytes or the new ones, wholly.
        """
        ...

    def drop_unfinished(self, folder: str) -> None:
        """Remove what `begin_anew` gave and nobody installed, in one of FOLDERS. Nobody may write one meanwhile."""
        ...

    def sync_folder(self, name: ShardName) -> None:
        """Return when creations, unlinks and renames of *name* are on stable storage."""
        ...

    def will_read(self, name: ShardName, position: int, length: int) -> None:
        """*length* bytes at *position* will be read soon: a hint, so that the device may begin. Raises nothing."""
        ...

    def uncache(self, name: ShardName) -> None:
        """What is read of the shard from now on comes from the device itself, as far as that can be had."""
        ...

    def unlink(self, name: ShardName) -> None:
        """Remove the shard; that it isn't there is no error (it may run twice)."""
        ...

    def quarantine(self, names: Iterable[ShardName]) -> None:
        """Move shards that nothing knows aside, where `names` no longer lists them; missing ones are no error.

        Durable when it returns.
        """
        ...

    def quarantined(self) -> list[ShardName]:
        """Shards that were moved aside, in no order; of those of one name only the first."""
        ...

    def take_back(self, names: Iterable[ShardName]) -> None:
        """Undo `quarantine`, where no shard has the name by now. Durable when it returns."""
        ...

    def probe(self) -> None:
        """Return when the device has answered a sync of little or nothing: asked when it is in doubt."""
        ...

    def names(self, folder: str) -> list[ShardName]:
        """All shards in one of FOLDERS, in no order. Files that are no shards are skipped."""
        ...

    def close(self) -> None:
        """Let go of everything that is kept open for reading."""
        ...

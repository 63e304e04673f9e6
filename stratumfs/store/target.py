"""Where a repack writes to: volumes on devices, or in somebody's S3."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from stratumfs.ids import Buffer, VolumeId
from stratumfs.store.inline import InlineBytes
from stratumfs.store.runs import Run
from stratumfs.values import MovedRun, NewExtent

Plan = Callable[[Sequence[NewExtent]], tuple[MovedRun, ...]]
"""Says, from where a stream's bytes lie, what rows will point there."""


class CopyStream(Protocol):
    """Bytes that the store has already, on their way to another place. Used by one task.

    extents  where they lie, once it is settled
    taken    bytes so far
    """

    extents: list[NewExtent]

    @property
    def taken(self) -> int: ...

    async def write(self, data: Buffer) -> None:
        """Take more bytes. Raises: StoreFull, StoreReadOnly, DeviceError."""
        ...

    async def begin_stripes(self, payload: int) -> None:
        """What is written from here on lies in stripes of up to so many bytes."""
        ...

    async def make_room(self, count: int) -> None:
        """Up to a stripe's bytes that are written next come to lie in one stripe."""
        ...

    async def settle(self, plan: Plan) -> None:
        """All is where it should be and stays there, whatever happens: rows may name it.

        plan: for a table of contents, where that is written before any row can be. Raises: as `write`;
        ColdUnavailable.
        """
        ...


class RepackTarget(Protocol):
    """inline: counts what lies in the catalog; packed_payload: of stripes that short runs share; clean_s: so long it is
    remembered that what is brought here from somebody's S3 lies there too."""

    inline: InlineBytes
    packed_payload: int
    clean_s: float

    @property
    def tier(self) -> str: ...

    @property
    def read_only(self) -> str | None:
        """Why nothing is written there."""
        ...

    def check_writable(self) -> None:
        """Raises: StoreReadOnly."""
        ...

    def inheriting(
        self,
        sources: Collection[VolumeId],
        to: Collection[VolumeId],
        sequence: Callable[[], int],
        *,
        again: bool = False,
    ) -> AbstractContextManager[None]:
        """A context in which rows that named *sources* come to name volumes of this target instead, *to*. *sequence*:
        of the last transaction. *again*: they did so before, and nothing was written there."""
        ...

    async def has(self, runs: Sequence[Run]) -> Sequence[MovedRun]:
        """What of *runs* lies here already, and is there: rows may name it. Raises: StoreReadOnly, ColdUnavailable."""
        ...

    def copying(self, *, freeing: bool = False) -> AbstractContextManager[CopyStream]:
        """A stream, as a context; what it wrote is spared until that ends. freeing: more is freed than written."""
        ...

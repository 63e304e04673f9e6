"""Who must hold a round besides the primary, and what is done about one that cannot: the seam below `rounds`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import trio

from stratumfs.catalog.durability import Mark, Member
from stratumfs.errors import StoreReadOnly
from stratumfs.ids import Disk


class Members(Protocol):
    """All is called under the rounds' turn, and shielded from cancellation.

    log_kept  held while somebody needs the primary's log as it is, and by a checkpoint until it has started it over;
              taken before the rounds' turn
    """

    log_kept: trio.Lock

    @property
    def copies(self) -> Sequence[Member]:
        """Those who must hold what the primary holds."""
        ...

    @property
    def disks(self) -> tuple[Disk, ...]:
        """Those that hold the catalog, one entry a member."""
        ...

    @property
    def can_fail_over(self) -> bool:
        """Whether there is a copy that could take the primary's place."""
        ...

    @property
    def strikes_max(self) -> int:
        """More than so many that stall at once are the machine's doing: nobody is struck, and writes wait."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all are asked that the epoch in force names: nothing may be answered without one of them."""
        ...

    async def strike(self, failed: Mapping[Member, Exception], mark: Mark) -> None:
        """Go on without these copies; the others hold *mark*. Raises: StratumError if that cannot be."""
        ...

    async def generation_closed(self) -> None:
        """The primary's log was started over, and every member has all of the one before. Not under the turn."""
        ...

    async def close(self, synced: int) -> None:
        """The catalog is closed, its database too; *synced* is the last transaction that all members hold."""
        ...

    async def fail_over(self, reason: str, failed: Mapping[Member, Exception], show_again: Callable[[], int]) -> None:
        """Put another database in the primary's place: it has all that was ever answered. *failed* are copies that met
        an error of their own in the same round.

        *show_again* is called in the very step that puts it there, for nobody may see it as it is before, and returns
        the last transaction that it has then; the copies hold that on return.
        Raises: PrimaryLost if the new one fails meanwhile; StratumError if no other can be had; what *show_again* does.
        """
        ...


class Alone:
    """A catalog whose members never change: what one of them cannot do ends all writing."""

    disks = ()
    can_fail_over = False
    strikes_max = 0
    complete = True

    def __init__(self, copies: Sequence[Member] = ()) -> None:
        self.copies = copies
        self.log_kept = trio.Lock()

    async def strike(self, failed: Mapping[Member, Exception], mark: Mark) -> None:
        raise StoreReadOnly(f"the catalog cannot reach stable storage: {next(iter(failed.values()))}")

    async def generation_closed(self) -> None:
        return

    async def close(self, synced: int) -> None:
        return

    async def fail_over(self, reason: str, failed: Mapping[Member, Exception], show_again: Callable[[], int]) -> None:
        raise StoreReadOnly(f"the catalog has no copy: {reason}")

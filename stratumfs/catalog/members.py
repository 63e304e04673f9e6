"""Who must hold a round besides the primary, and what is done about one that cannot: the seam below `rounds`."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from stratumfs.catalog.deadlines import until_fed
from stratumfs.catalog.durability import Mark, Member, PrimaryLost
from stratumfs.catalog.opening import Database
from stratumfs.errors import StoreReadOnly, StratumError
from stratumfs.ids import Disk
from stratumfs.threads import in_thread

Exclusive = Callable[[Callable[[Mark], Awaitable[None]]], Awaitable[None]]
"""Runs a step under the rounds' turn, behind what is queued: see `Rounds.exclusive`."""


class Members(Protocol):
    """All is called under the rounds' turn, and shielded from cancellation.

    log_kept  held while somebody needs the primary's log as it is, and by a checkpoint until it has started it over;
              taken before the rounds' turn
    """

    log_kept: trio.Lock

    @property
    def disks(self) -> tuple[Disk, ...]:
        """Those that hold the catalog, one entry a member."""
        ...

    @property
    def log_bytes(self) -> int:
        """How long the log may be before it is folded, for the smallest of their disks."""
        ...

    @property
    def can_fail_over(self) -> bool:
        """Whether there is a copy that could take the primary's place."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all are asked whose chain the next opening may choose: nothing may be answered without them."""
        ...

    @property
    def waiting(self) -> str | None:
        """What writes wait for longer than they should, and nobody is blamed for it; None if they do not."""
        ...

    async def hold(self, mark: Mark) -> None:
        """Return when the primary and every copy hold *mark*, those aside that cannot, which are struck.

        Raises: PrimaryLost; StratumError if those that are left may not go on.
        """
        ...

    async def demand_primary(self, mark: Mark) -> None:
        """Let all hold *mark* once more, which they hold. Raises: PrimaryLost if the primary does not."""
        ...

    async def generation_closed(self) -> None:
        """The primary's log was started over, and every member has all of the one before. Not under the turn."""
        ...

    async def close(self, synced: int) -> None:
        """The catalog is closed, its database too; *synced* is the last transaction that all members hold."""
        ...

    async def fail_over(self, lost: StratumError, show_again: Callable[[], int]) -> None:
        """Put another database in the place of the primary, which is *lost*: one that has all that was ever answered.

        *show_again* is called in the very step that puts it there, for nobody may see it as it is before, and returns
        the last transaction that it has then; the copies hold that on return.
        Raises: PrimaryLost if the new one fails meanwhile; StratumError if no other can be had; what *show_again* does.
        """
        ...


class Alone:
    """A catalog whose members never change: what one of them cannot do ends all writing."""

    disks = ()
    can_fail_over = False
    complete = True
    waiting = None

    def __init__(self, database: Database, copies: Sequence[Member] = ()) -> None:
        self._database, self._copies = database, copies
        self.log_kept = trio.Lock()

    @property
    def log_bytes(self) -> int:
        return self._database.primary.log_bytes

    async def hold(self, mark: Mark) -> None:
        failed: dict[Member, OSError | StratumError] = {}

        async def one(member: Member) -> None:
            try:
                while await until_fed(partial(in_thread, member.hold, mark), member, set()):
                    pass
            except (OSError, StratumError) as error:
                failed[member] = error

        async with trio.open_nursery() as nursery:
            for member in (self._database.primary, *self._copies):
                nursery.start_soon(one, member)
        for member, error in failed.items():
            if isinstance(error, StratumError) and member is self._database.primary:
                raise PrimaryLost(str(error)) from error
            raise unreachable(error)

    async def demand_primary(self, mark: Mark) -> None:
        return  # nobody could take its place

    async def generation_closed(self) -> None:
        return

    async def close(self, synced: int) -> None:
        return

    async def fail_over(self, lost: StratumError, show_again: Callable[[], int]) -> None:
        raise StoreReadOnly(f"the catalog has no copy: {lost}")


def unreachable(error: Exception) -> StoreReadOnly:
    """What an error of a disk means where nobody takes its place."""
    broken = StoreReadOnly(f"the catalog cannot reach stable storage: {error}")
    broken.__cause__ = error
    return broken

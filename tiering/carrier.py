"""Carries decided moves out: bytes are copied, verified and swapped by the one mover, and where they lie then is looked
up, for an overwrite or a delete that came first has won."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from stratumfs.catalog.decisions import DONE, GONE
from stratumfs.catalog.residence import residences
from stratumfs.errors import ColdUnavailable, StoreBusy, StratumError
from stratumfs.ids import InodeNo, VolumeId
from stratumfs.limits import RESIDENCES
from stratumfs.store.pace import Pace
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from tiering.leaving import add_leaving
from tiering.verdict import Cause, Verdict

_PRESSING = (Cause.PRESSURE, Cause.PLACED)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """outcomes: by object; stopped: the tier takes nothing more now"""

    outcomes: Mapping[int, str]
    stopped: bool


class Carrier:
    """Used by one task for each tier.

    moved   bytes, since the start, by tier that they came to
    """

    def __init__(self, store: Store, tiers: Sequence[str]) -> None:
        self.moved = dict.fromkeys(tiers, 0)
        self._store, self._tiers = store, tiers

    async def carry(self, target: int, moves: Sequence[Verdict], batch: bytes) -> Carried:
        """Move these to one tier, side by side in the order given.

        What the tier could not take is ``failed: ...``; so is what could not be read, and stays where it is.
        """
        store, tier = self._store, self._tiers[target]
        place = store.targets[tier]
        failed: dict[int, str] = {}
        stopped = False
        # Who writes faster than room is made is refused in the end.
        pace = Pace(store.observer, lambda _: None, hurry=any(each.cause in _PRESSING for each in moves))
        repack = Repack(store.catalog, store.reader, place, move=batch, pace=pace, ahead=pace.is_alone)
        try:
            place.check_writable()
            with repack.running():
                await self._move_whole(repack, tier, moves, batch, pace)
                try:
                    await self._take(repack, moves, failed)
                except (ColdUnavailable, StoreBusy):
                    if tier in store.remotes:
                        raise
                    # A remote tier that gives nothing holds up nothing that lies elsewhere.
                    for each in moves:
                        try:
                            await self._take(repack, [each], failed)
                        except (ColdUnavailable, StoreBusy) as error:
                            failed[each.key] = f"failed: {error}"
        except StratumError as error:
            _log.warning("moves were stopped, and are decided again later", tier=tier, error=str(error))
            failed = {each.key: f"failed: {error}" for each in moves} | failed
            stopped = True
        finally:
            self.moved[tier] += repack.moved
        if repack.unreadable and not stopped:
            failed = {each.key: "failed: bytes could not be read" for each in moves} | failed
        there = await self._there(moves, tier)
        return Carried({key: DONE if done else failed.get(key, GONE) for key, done in there.items()}, stopped)

    async def _move_whole(self, repack: Repack, tier: str, moves: Sequence[Verdict], batch: bytes, pace: Pace) -> None:
        """Volumes of which all that lives is to go. Raises: StoreReadOnly."""
        if not self._store.relocator.can_take(tier):
            return
        leaving: dict[VolumeId, int] = {}
        for each in moves:
            await add_leaving(self._store, InodeNo(each.key), tier, leaving)
        repack.moved += await self._store.relocator.move(leaving, tier, batch, pace)

    async def _take(self, repack: Repack, moves: Sequence[Verdict], failed: dict[int, str]) -> None:
        """Raises: as ``Repack.flush``."""
        for each in moves:
            with self._store.holds.holding(InodeNo(each.key)):
                error = await repack.inode(InodeNo(each.key))
            if error is not None:  # of this one alone
                failed[each.key] = f"failed: {error}"
        await repack.flush()

    async def _there(self, moves: Sequence[Verdict], tier: str) -> dict[int, bool]:
        """Whether most bytes of each lie there now."""
        there = {each.key: False for each in moves}
        for start in range(0, len(moves), RESIDENCES):
            inos = [InodeNo(each.key) for each in moves[start : start + RESIDENCES]]
            for found in await self._store.catalog.read(residences, inos):
                there[found.ino] = found.tier == tier
        return there

"""Which place should become a member next, which one should leave for it, and which copy the primary.

A copy whose disk is short of room would keep the whole store from taking new data (`store.space`). Before it comes to
that, where less than half is free of what is to be free beside a catalog, another disk takes it over: one that has all
of that free with the copy on it, so that none goes back unless half of it was written there and removed here.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from stratumfs.catalog.calls import Calls
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.epochs import Candidate, choose_members
from stratumfs.catalog.places import Place
from stratumfs.catalog.spool import spare_bytes
from stratumfs.ids import PlaceId
from stratumfs.limits import RESTING_S

_log = structlog.get_logger(__name__)


def room_at(folder: Path) -> tuple[int, int]:
    """Bytes that are free on the disk of a catalog folder, which may not be there yet, and that are to be. Blocking.

    Raises: OSError.
    """
    found = os.statvfs(folder if folder.exists() else folder.parent)
    return found.f_bavail * found.f_frsize, spare_bytes(found.f_blocks * found.f_frsize)


class Spares:
    """Places that are no members; one that could not be made a member rests for a while. Used on the loop.

    places   those that can be reached, kept by who asks
    wanted   so many members there are to be, if there are places enough
    """

    def __init__(self, calls: Calls, places: Mapping[PlaceId, Place], wanted: int) -> None:
        self._calls, self._places, self._wanted = calls, places, wanted
        self._resting: dict[PlaceId, float] = {}
        self._rooms: Mapping[PlaceId, tuple[int, int]] = {}
        self._needed = 0

    async def look(self, needed: int) -> None:
        """What room the disks have, of which a copy takes *needed* bytes. One that is at work, and may hang in it, is
        not asked; who does not answer is neither short nor has room, and is not blamed."""
        rooms: dict[PlaceId, tuple[int, int]] = {}

        async def one(place: PlaceId) -> None:
            if (there := self._places.get(place)) is not None:
                rooms[place] = await self._calls.short(place, room_at, there.folder)

        idle = [place for place in self._places if not self._calls.is_at_work(place)]
        failed = await self._calls.each(idle, one, patient=False)
        for place, error in failed.items():
            _log.debug("nobody knows what room there is", place=place.hex(), error=str(error))
        self._rooms, self._needed = rooms, needed

    def rest(self, place: PlaceId) -> None:
        self._resting[place] = time.monotonic() + RESTING_S

    def taken(self, place: PlaceId) -> None:
        """It is being made a member: whoever needs one at once had better take another."""
        self._resting[place] = math.inf

    def not_taken(self, place: PlaceId) -> None:
        """It is made no more, unless it rests now."""
        if self._resting.get(place) == math.inf:
            del self._resting[place]

    def joined(self, place: PlaceId) -> None:
        self._resting.pop(place, None)

    def next(self, members: Collection[PlaceId], count: int, asked: Collection[PlaceId]) -> PlaceId | None:
        """For *count* members, of those that were not *asked* yet; who rests comes last."""
        keep = self._there(members)
        others = self._there(self._places.keys() - {*members, *asked})
        chosen = choose_members(keep, self._rested(others) or others, min(count, len(keep) + 1))
        return chosen[-1] if len(chosen) > len(keep) else None

    def enough(self, members: Collection[PlaceId]) -> bool:
        return len(members) >= min(self._wanted, len(self._places))

    def can_improve(self, members: Collection[PlaceId]) -> bool:
        """Whether one may join beside *members*, or leave them."""
        return self.next_beside(members) is not None or self.leaving(members) is not None

    def next_beside(self, members: Collection[PlaceId]) -> PlaceId | None:
        """For one more; where there are enough, only in the place of one that should leave, and on another disk than
        theirs: one that has room, unless two of them share a disk."""
        keep = self._there(members)
        spares = self._rested(self._there(self._places.keys() - members))
        if self.enough(members):
            crowded, short = self._crowded(keep), self._short(keep)
            spares = [each for each in spares if crowded or (short and each.fits)]
            spares = [each for each in spares if each.disk not in {one.disk for one in keep}]
        if not spares or self.leaving(members) is not None:
            return None
        return choose_members(keep, spares, len(keep) + 1)[-1]

    def leaving(self, members: Collection[PlaceId]) -> PlaceId | None:
        """One of more *members* than there are to be, for another one has joined in its place: of two on one disk, else
        on one that is short of room; not the first, which is the primary."""
        there = self._there(members) if len(members) > self._wanted else []
        return next((each.place for each in (*self._crowded(there), *self._short(there))), None)

    def fitness(self, copy: Copy) -> tuple[int, int, bool]:
        """To become the primary: who has most, then where there is room, for a primary does not leave."""
        return copy.generation, copy.shipped, not self._is_short(copy.place)

    def _crowded(self, there: list[Candidate]) -> list[Candidate]:
        disks = Counter(each.disk for each in there)
        return [each for each in there[1:] if disks[each.disk] > 1]

    def _short(self, there: list[Candidate]) -> list[Candidate]:
        """Who has least comes first: where only one can leave the others may have enough for new data yet."""
        short = [each for each in there[1:] if self._is_short(each.place)]
        return sorted(short, key=lambda each: self._rooms[each.place][0] / self._rooms[each.place][1])

    def _is_short(self, place: PlaceId) -> bool:
        free, spare = self._rooms.get(place, (0, 0))
        return free < spare // 2

    def _rested(self, candidates: list[Candidate]) -> list[Candidate]:
        now = time.monotonic()
        return [each for each in candidates if self._resting.get(each.place, now) <= now]

    def _there(self, places: Collection[PlaceId]) -> list[Candidate]:
        there = [place for place in places if place in self._places]
        return [Candidate(place, self._places[place].disk, self._has_room(place)) for place in there]

    def _has_room(self, place: PlaceId) -> bool:
        free, spare = self._rooms.get(place, (0, 0))
        return free - self._needed >= spare > 0

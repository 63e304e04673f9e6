"""Which place should become a member next."""

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping

from stratumfs.catalog.epochs import Candidate, choose_members
from stratumfs.catalog.places import Place
from stratumfs.ids import PlaceId
from stratumfs.limits import RESTING_S


class Spares:
    """Places that are no members; one that could not be made a member rests for a while.

    places   those that can be reached, kept by who asks
    """

    def __init__(self, places: Mapping[PlaceId, Place]) -> None:
        self._places = places
        self._resting: dict[PlaceId, float] = {}

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

    def next_beside(self, members: Collection[PlaceId], enough: bool) -> PlaceId | None:
        """For one more; where there are *enough*, only on another disk than theirs and if two of them share one."""
        keep = self._there(members)
        spares = self._rested(self._there(self._places.keys() - members))
        if enough:
            crowded = self.crowded(members) is not None
            spares = [each for each in spares if crowded and each.disk not in {one.disk for one in keep}]
        return choose_members(keep, spares, len(keep) + 1)[-1] if spares else None

    def crowded(self, members: Collection[PlaceId]) -> PlaceId | None:
        """One on a disk that carries another member too; not the first, which is the primary."""
        there = self._there(members)
        disks = Counter(each.disk for each in there)
        return next((each.place for each in there[1:] if disks[each.disk] > 1), None)

    def _rested(self, candidates: list[Candidate]) -> list[Candidate]:
        now = time.monotonic()
        return [each for each in candidates if self._resting.get(each.place, now) <= now]

    def _there(self, places: Collection[PlaceId]) -> list[Candidate]:
        return [Candidate(place, self._places[place].disk) for place in places if place in self._places]

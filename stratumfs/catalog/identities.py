"""What the identity files of places say of epochs, as far as we know, and how they come to say something else."""

from collections.abc import Callable, Collection, Mapping

import trio

from stratumfs.catalog.calls import Calls
from stratumfs.catalog.epochs import Epoch, Named
from stratumfs.catalog.places import Place
from stratumfs.ids import PlaceId


class Identities:
    """One change after the other at each place.

    places   those that can be reached, kept by who calls this
    epoch    what is assumed of a place that is not known to have said anything
    """

    def __init__(
        self, calls: Calls, places: Mapping[PlaceId, Place], named: Mapping[PlaceId, Named], epoch: Epoch
    ) -> None:
        self._calls, self._places, self.epoch = calls, places, epoch
        self._named = dict(named)
        self._turns: dict[PlaceId, trio.Lock] = {}

    @property
    def all_known(self) -> tuple[Named, ...]:
        return tuple(self._named.values())

    def known(self, place: PlaceId) -> Named:
        return self._named.get(place) or Named(self.epoch, self.epoch)

    def said(self, place: PlaceId, named: Named) -> None:
        """Its file was read."""
        self._named[place] = named

    def turn(self, place: PlaceId) -> trio.Lock:
        """Held by a change at *place*."""
        return self._turns.setdefault(place, trio.Lock())

    async def change(
        self, places: Collection[PlaceId], change: Callable[[Named], Named], *, patient: bool = True
    ) -> dict[PlaceId, Exception]:
        """Returns those whose file cannot be written; see `Calls.each`."""

        async def one(place: PlaceId) -> None:
            async with self.turn(place):
                found = self._places.get(place)
                if found is not None:  # else it was struck while it waited
                    named = change(self.known(place))
                    await self._calls.short(place, found.write_named, named)
                    self._named[place] = named

        return await self._calls.each(places, one, patient=patient)

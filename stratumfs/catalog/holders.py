"""The database that is written to and its copies, while the catalog is open."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import apsw
import trio

from stratumfs.catalog import seeding
from stratumfs.catalog.calls import Calls
from stratumfs.catalog.chains import SALTS, Chain, Form
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Member, Primary
from stratumfs.catalog.opening import Database
from stratumfs.catalog.places import Place
from stratumfs.catalog.takeover import Taken
from stratumfs.ids import PlaceId
from stratumfs.limits import STRIKE_S
from stratumfs.threads import in_thread


class Holders:
    """Changed under the rounds' turn.

    database  what is written to; one object for all who use it
    primary   its place
    copies    by place; each holds all that was ever answered: it becomes one of them when it does
    """

    def __init__(self, database: Database, primary: PlaceId, chain: Chain) -> None:
        self.database, self.primary = database, primary
        self.copies: dict[PlaceId, Copy] = {}
        self._chains = {primary: chain}
        self._replaced: list[Database] = []

    @property
    def members(self) -> Mapping[PlaceId, Member]:
        """All of them, the primary first."""
        return {self.primary: self.database.primary, **self.copies}

    @property
    def chains(self) -> Mapping[PlaceId, Chain]:
        """Of the members, as their manifests are to name them."""
        return {place: self._chains[place] for place in self.members}

    def chain(self, place: PlaceId) -> Chain:
        """Of one that is a member, or was."""
        return self._chains[place]

    def go_on(self, place: Place, chain: Chain) -> None:
        """A copy that lies at *place* follows the database from now on; no round runs yet."""
        self.add(Copy(place.id, place.disk, place.folder / chain.folder, *self._log(chain.salt)), chain)

    def add(self, copy: Copy, chain: Chain) -> None:
        self.copies[copy.place], self._chains[copy.place] = copy, chain

    def remove(self, place: PlaceId) -> None:
        """There is no copy at *place* any more."""
        if (copy := self.copies.pop(place, None)) is not None:
            copy.give_up()

    async def seed(self, calls: Calls, place: Place) -> tuple[Copy, Chain]:
        """A new copy at *place*, without a manifest; it has the base, and nothing of the log yet.

        Raises: PrimaryLost; Stalled; StratumError, OSError of the place.
        """
        primary, salt, generation = self._log(self._chains[self.primary].salt)
        folder = await calls.long(place.id, partial(seeding.make_base, place, primary, generation))
        return Copy(place.id, place.disk, folder, primary, salt, generation), Chain(folder.name, Form.COPY, salt)

    def take_over(self, taken: Taken, others: Sequence[Taken]) -> None:
        """What was made of a copy is written to from now on; *others* were made too, and nobody needs them."""
        copy, chain, made = taken
        self._replaced += [self.database.become(made), *(database for _, _, database in others)]
        del self.copies[copy.place]
        self.primary, self._chains[copy.place] = copy.place, chain

    def follow(self) -> None:
        """Copies of the same log go on with the new primary; the others are none any more."""
        primary, salt, generation = self._log(self._chains[self.primary].salt)
        for place, copy in tuple(self.copies.items()):
            if (copy.salt, copy.generation) == (salt, generation):
                copy.follow(primary)
            else:
                self.remove(place)

    def replaced_in(self, folder: Path) -> list[Database]:
        """Databases in *folder* that others have taken the place of; they may be closed already."""
        return [each for each in self._replaced if each.primary.folder == folder]

    async def close(self) -> None:
        """The database is closed already; those that it has taken the place of may hang."""
        for copy in self.copies.values():
            copy.give_up()
        for database in self._replaced:
            with trio.move_on_after(STRIKE_S):
                await in_thread(partial(close_lost, database), abandon_on_cancel=True)

    def _log(self, salt: int) -> tuple[Primary, int, int]:
        """Of the primary: it, the salt of generation 0, and the generation that is open. Raises: PrimaryLost."""
        primary = self.database.primary
        return primary, salt, (primary.salt() - salt) % SALTS


def close_lost(database: Database) -> None:
    """One that another has taken the place of, perhaps once more. It blocks, and may hang."""
    with suppress(apsw.Error, OSError):
        database.close()

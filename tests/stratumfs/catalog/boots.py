"""Histories of a real catalog on several places: boots, stops at any step, losses, places that come back older, and new
ones that come for others.

Each boot opens the catalog at some of the places, writes, loses or exchanges a place, and goes on. It may be stopped:
at one of its steps everything that lies on disk is copied, and the next boot finds the copy. What was answered until
then must be there for ever, unless the catalog says that it may not be written to. All the while rows are compared with
those of the copies, as the scrubber does, and at its beginning and end all is checked that fsck checks of a catalog.
"""

import errno
import random
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio

from stratumfs.catalog import chains, leftovers, membership, seeding, spares
from stratumfs.catalog.comparing import Compared, compare_copies
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.invariants import integrity
from stratumfs.errors import ConfigError, StoreReadOnly, StratumError
from stratumfs.ids import GIB, PlaceId
from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, open_at, place_id, places_in
from tests.stratumfs.catalog.toy import everything, put

STEPS_MAX = 90
"""Of one boot; a stop that is drawn beyond its last step leaves it whole."""
HIDDEN = "hidden"
"""What a place that was lost still has on its disk."""


def _takes(what: str) -> None:
    """A place writes what it is told."""


def _no_room(what: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Lost(AssertionError):
    """The catalog broke its promise."""


class Stop:
    """Copies all places at the *number*-th step, before it happens."""

    def __init__(self, number: int, root: Path, copy: Path, answered: dict[int, bytes]) -> None:
        self._left, self._root, self._copy, self._answered = number, root, copy, answered
        self._lock = threading.Lock()
        self._later: tuple[int, Callable[[], None]] | None = None
        self.promised: dict[int, bytes] | None = None

    def later(self, steps: int, call: Callable[[], None]) -> None:
        """Call it before the step that comes behind so many, or when `now` is called."""
        with self._lock:
            self._later = steps, call

    def now(self) -> None:
        with self._lock:
            later, self._later = self._later, None
            if later is not None:
                later[1]()

    def step(self, what: str) -> None:
        with self._lock:
            if self._later is not None:
                steps, call = self._later
                self._later = (steps - 1, call) if steps else None
                if not steps:
                    call()
            self._left -= 1
            if self._left == 0:
                self.promised = dict(self._answered)
                self._copy_all()

    def _copy_all(self) -> None:
        """Other threads go on meanwhile: where one renames what was about to be copied, all is copied once more."""
        while True:
            try:
                shutil.copytree(self._root, self._copy)
            except shutil.Error:
                shutil.rmtree(self._copy)
            else:
                return

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every call of these is a step: what changes identity files, manifests, chains and logs."""
        with ExitStack() as stack:
            for owner, name in (
                (chains, "write_manifest"),
                (chains, "new_chain"),
                (chains, "build_database"),
                (chains, "forget_manifest"),
                (seeding, "remove"),
                (seeding, "seed"),
                (Copy, "hold"),
                (Copy, "_open"),
                (Primary, "hold"),
                (FolderPlace, "write_named"),
            ):
                stack.enter_context(patch.object(owner, name, self._announced(getattr(owner, name), name)))
            yield

    def _announced(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def announced(*args: Any) -> Any:
            self.step(name)
            return call(*args)

        return announced


class Boots:
    """One history. ``counts`` says what came up in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        self._folder, self._root = folder, folder / "now"
        self._count, self._m = self._rng.choice([(4, 1), (5, 1), (7, 2), (7, 2)])
        self._places = places_in(self._root, self._count)
        make_catalog(self._places)
        self._promised: dict[int, bytes] = {}
        self._ident = 0
        self._older: list[Path] = []
        self._stale: set[PlaceId] = set()
        self._full: set[PlaceId] = set()
        self._unsure = self._made = 0
        self.counts: Counter[str] = Counter()

    async def run(self, boots: int) -> None:
        """Raises: Lost."""
        await self._boot(range(len(self._places)), None, STEPS_MAX * 10)
        for _ in range(boots - 1):
            self._come_back_otherwise()
            await self._boot(
                self._reachable(), self._rng.choice([None, "copy", "primary", "any", "full"]), self._stop_at()
            )

    def _stop_at(self) -> int:
        return self._rng.randrange(1, STEPS_MAX)

    def _reachable(self) -> list[int]:
        """More than half, and one more for each that has forgotten what it knew or had, or may be no newest one."""
        count = len(self._places)
        least = min(count // 2 + 1 + len(self._stale) + self._unsure, count)
        return self._rng.sample(range(count), self._rng.randint(least, count))

    def _come_back_otherwise(self) -> None:
        """One of them as it was before, or with a manifest that cannot be read."""
        self._older = [*self._older, self._folder / f"older-{self.counts['boots']}"][-3:]
        shutil.copytree(self._root, self._older[-1])
        if not self._stale and self._rng.random() < 0.2:
            number, older = self._rng.randrange(len(self._places)), self._rng.choice(self._older)
            place = self._places[number].root
            if not (older / place.name).exists():
                return  # it is newer
            shutil.rmtree(place)
            shutil.copytree(older / place.name, place)
            self._stale = {self._places[number].id}
            self.counts["a place came back older"] += 1
        elif not self._stale and self._rng.random() < 0.1:
            damaged = self._rng.choice(self._places)
            manifest = damaged.root / "catalog" / chains.MANIFEST
            if manifest.exists():
                manifest.write_text("flipped bits")
                self._stale = {damaged.id}
                self.counts["a manifest was damaged"] += 1

    async def _boot(self, reachable: range | list[int], loss: str | None, stop_at: int) -> None:
        for place in self._places:
            place.dead, place.before = False, _takes
            hidden = place.root / HIDDEN
            if hidden.exists():
                shutil.rmtree(place.root / "catalog", ignore_errors=True)
                hidden.rename(place.root / "catalog")
        answered = dict(self._promised)
        copy = self._folder / "stopped"
        before = self._places
        stop = Stop(stop_at, self._root, copy, answered)
        self.counts["boots"] += 1
        try:
            with self._small_disks(), stop.watching():
                async with open_at(self._places, reachable, self._m) as (catalog, booted):
                    if booted.members is None:
                        self._refused(reachable, "read-only", booted.why_not)
                    else:
                        await self._check(catalog)
                        await self._fsck(catalog)
                        self._stale -= {before[number].id for number in reachable}
                        async with self._scrubbed(catalog):
                            await self._work(catalog, booted.members, answered, loss, stop)
                        await self._fsck(catalog)
        except ConfigError as error:
            self._refused(reachable, "not opened", str(error))
        if stop.promised is not None:
            self.counts["stops"] += 1
            self._promised = stop.promised
            shutil.rmtree(self._root)
            copy.rename(self._root)
            self._choose_list(before)
        else:
            self._promised, self._unsure = answered, 0

    def _refused(self, reachable: range | list[int], how: str, why: str) -> None:
        self.counts[f"{how}: {why.split(':')[0]}"] += 1
        if not reachable or "reachable" not in why:
            raise Lost(f"refused for nothing: {why}")

    @contextmanager
    def _small_disks(self) -> Iterator[None]:
        """In half of the boots none has room for what counts no more; a full one has none for what is answered. In half
        of them some have little, so that others take over their copies."""
        short, hold, forget = self._rng.random() < 0.5, Copy.hold, chains.forget_manifest

        def held(copy: Copy, mark: Mark) -> bool:
            if copy.place in self._full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return hold(copy, mark)

        def forgotten(place: Path) -> None:
            self.counts["chains that counted no more"] += 1
            forget(place)

        self._full.clear()
        little = {place.label for place in self._places if self._rng.random() < 0.3} if self._rng.random() < 0.5 else {}
        with (
            patch.object(spares, "room_at", lambda folder: (GIB if folder.parent.name in little else 4 * GIB, 3 * GIB)),
            patch.object(chains, "forget_manifest", forgotten),
            patch.object(leftovers, "lacks_room", lambda place, needed: short),
            patch.object(Copy, "hold", held),
        ):
            yield

    async def _check(self, catalog: Catalog) -> None:
        found = dict(await catalog.read(everything))
        wrong = {ident for ident, value in self._promised.items() if found.get(ident) != value}
        if wrong:
            raise Lost(
                f"{len(wrong)} of {len(self._promised)} answered writes are missing or wrong: {sorted(wrong)[:5]}"
            )

    @asynccontextmanager
    async def _scrubbed(self, catalog: Catalog) -> AsyncIterator[None]:
        """While the block runs. Raises: Lost."""

        async def scrub() -> None:
            while True:
                self._judge(catalog, await compare_copies(catalog, _step, mend=True), lost=True)
                self.counts["scrubs beneath"] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrub)
            yield
            nursery.cancel_scope.cancel()

    async def _fsck(self, catalog: Catalog) -> None:
        """Raises: Lost."""
        if wrong := await catalog.read(integrity):
            raise Lost(f"pages of the catalog: {wrong[0]}")
        self._judge(catalog, await compare_copies(catalog, _step, mend=False))
        self.counts["fsck clean"] += 1

    def _judge(self, catalog: Catalog, found: Compared, *, lost: bool = False) -> None:
        """*lost*: a place may be lost meanwhile. A copy may have left for another disk. Raises: Lost."""
        gone = {str(place.root) for place in self._places if place.dead}
        copies = {copy.label for copy in catalog.copies}
        not_looked = {label: why for label, why in found.not_looked.items() if label in copies}
        unread = {label: why for label, why in {**found.bad, **not_looked}.items() if label not in gone}
        if wrong := [*found.wrong, *found.unknown, *(() if lost else unread.items())]:
            raise Lost(f"rows of the copies: {wrong[0]}")

    async def _work(
        self,
        catalog: Catalog,
        members: membership.Membership,
        answered: dict[int, bytes],
        loss: str | None,
        stop: Stop,
    ) -> None:
        await self._write(catalog, answered)
        if self._rng.random() < 0.3:
            await catalog.checkpoint()
            await self._write(catalog, answered)
        reachable = len(members.places)
        if loss is not None and reachable - 1 > len(self._places) // 2 and len(members.copies) >= self._m:
            victim = {
                "primary": members.primary,
                "copy": (copy := self._rng.choice([each.place for each in members.copies])),
                "full": copy,
                "any": self._rng.choice([*members.places]),
            }[loss]
            place = next(place for place in self._places if place.id == victim)
            if self._rng.random() < 0.3:
                stop.later(self._rng.randrange(25), partial(self._fail, place, f"{loss}, while copies move"))
                with suppress(StratumError):
                    await members.join_spares(catalog._rounds.exclusive)
                stop.now()
            else:
                self._fail(place, loss)
            await self._write(catalog, answered)
        elif self._rng.random() < 0.3:
            await self._change_list(catalog)
            await self._write(catalog, answered)
        if self._rng.random() < 0.5:
            before = set(members.members)
            await members.join_spares(catalog._rounds.exclusive)
            self.counts["copies that left for others"] += len(before.difference(members.members))
            await self._write(catalog, answered)

    async def _change_list(self, catalog: Catalog) -> None:
        """Another place comes for any but the store folder, or beside them; or one goes that has come so."""
        more = len(self._places) > self._count
        what = self._rng.choice(["exchanges", "exchanges", "leavings" if more else "comings"])
        self.counts[what] += 1
        number = self._rng.randrange(1, len(self._places))
        new = None if what == "leavings" else self._new_place()
        before = self._places
        kept = before if what == "comings" else [place for place in before if place is not before[number]]
        self._places = kept if new is None else [*kept, new]
        try:
            await catalog.change_places(frozenset(place.id for place in self._places), new)
        except StoreReadOnly:
            self.counts[f"{what} refused"] += 1
            self._places = before
        else:
            self._stale &= {place.id for place in self._places}

    def _new_place(self) -> FolderPlace:
        self._made += 1
        ident = self._count + self._made
        new = FolderPlace(place_id(ident), self._root / f"p{ident}", ident)
        new.root.mkdir()
        return new

    def _choose_list(self, before: list[FolderPlace]) -> None:
        """After a stop the store folder may have the one list of places or the other."""
        if self._places != before:
            there = all(place.root.exists() for place in self._places)
            self._places = self._places if there and self._rng.random() < 0.5 else before
            self._unsure += 1

    async def _write(self, catalog: Catalog, answered: dict[int, bytes]) -> None:
        for _ in range(self._rng.randint(1, 3)):
            self._ident += 1
            value = self._rng.randbytes(self._rng.choice([10, 500, 9000]))
            if self._rng.random() < 0.3:
                await catalog.write(put, self._ident, self._rng.randbytes(20))
                self._ident += 1
            await catalog.commit(put, self._ident, value)
            answered[self._ident] = value

    def _fail(self, place: FolderPlace, loss: str) -> None:
        if loss.startswith("full"):
            self._full.add(place.id)
            place.before = _no_room
        else:
            self._lose(place)
        self.counts[f"lost: {loss}"] += 1

    @staticmethod
    def _lose(place: FolderPlace) -> None:
        place.dead = True
        (place.root / "catalog").rename(place.root / HIDDEN) if (place.root / "catalog").exists() else None


async def _step(seconds: float, rows: int) -> None:
    await trio.lowlevel.checkpoint()

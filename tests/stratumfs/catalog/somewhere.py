"""Places for tests: folders with a small identity file each, and a catalog of toys that lies at several of them."""

import json
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.boot import Booted, boot, survey
from stratumfs.catalog.chains import Form, Manifest, new_chain, wal_salt, write_manifest
from stratumfs.catalog.connection import WAL
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.epochs import Epoch, Named, first_epoch, pack_epoch, unpack_epoch
from stratumfs.catalog.membership import Membership
from stratumfs.errors import DeviceFailed
from stratumfs.ids import STORE_PLACE, PlaceId
from tests.stratumfs.catalog.toy import PAGE, SCHEMA


@dataclass(eq=False)
class FolderPlace:
    """A place below *root*. ``dead``: every call that would reach it fails; ``before`` is told of each write first."""

    id: PlaceId
    root: Path
    disk: object = None
    dead: bool = False
    before: Callable[[str], None] = field(default=lambda what: None)

    @property
    def label(self) -> str:
        return self.root.name

    @property
    def folder(self) -> Path:
        if self.dead:
            raise DeviceFailed(f"{self.root} is dead")
        return self.root / "catalog"

    def read_named(self) -> Named | None:
        if self.dead:
            raise DeviceFailed(f"{self.root} is dead")
        path = self.root / "named.json"
        if not path.exists():
            return None
        plain = json.loads(path.read_text())
        return Named(unpack_epoch(plain["begun"]), unpack_epoch(plain["in_force"]), plain["sequence"])

    def write_named(self, named: Named) -> None:
        if self.dead:
            raise DeviceFailed(f"{self.root} is dead")
        self.before(f"name {named.begun.number}/{named.in_force.number} at {self.label}")
        plain = {
            "begun": pack_epoch(named.begun),
            "in_force": pack_epoch(named.in_force),
            "sequence": named.sequence,
        }
        temporary = self.root / "named.new"
        temporary.write_text(json.dumps(plain))
        temporary.replace(self.root / "named.json")


def place_id(number: int) -> PlaceId:
    """0 is the store folder."""
    return STORE_PLACE if number == 0 else PlaceId(bytes([number]) * 16)


def places_in(root: Path, count: int, disks: Mapping[int, object] | None = None) -> list[FolderPlace]:
    """The store folder and *count* - 1 devices, each on a disk of its own unless *disks* says otherwise."""
    return [
        FolderPlace(place_id(number), root / f"p{number}", (disks or {}).get(number, number)) for number in range(count)
    ]


def make_catalog(places: Sequence[FolderPlace]) -> Epoch:
    """A new catalog of toys: its first epoch has one member, the store folder."""
    for place in places:
        place.root.mkdir(parents=True)
    epoch = first_epoch([STORE_PLACE], [place.id for place in places])
    folder = new_chain(places[0].folder)
    Catalog.create(folder, SCHEMA, 1, page_size=PAGE)
    salt = wal_salt(folder / WAL)
    assert salt is not None
    write_manifest(places[0].folder, Manifest(epoch, folder.name, Form.DATABASE, salt, {"settings": "as they are"}))
    for place in places:
        place.write_named(Named(epoch, epoch))
    return epoch


@asynccontextmanager
async def open_at(
    places: Sequence[FolderPlace], reachable: Iterable[int] | None = None, m: int = 2
) -> AsyncIterator[tuple[Catalog, Booted]]:
    """The catalog at those of *places* that are reachable, served, closed in order."""
    there = [place for number, place in enumerate(places) if reachable is None or number in set(reachable)]
    seen = await survey(there)
    booted = await boot(seen, frozenset(place.id for place in places), m, seen.manifest.files, 1, ())
    catalog = Catalog.among(booted)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.serve)
            try:
                yield catalog, booted
            finally:
                with trio.CancelScope(shield=True):
                    await catalog.close()
    finally:
        with trio.CancelScope(shield=True):
            await catalog.close()
        if booted.scratch is not None:
            shutil.rmtree(booted.scratch)


def member_numbers(places: Sequence[FolderPlace], members: Collection[PlaceId]) -> set[int]:
    return {number for number, place in enumerate(places) if place.id in members}


def unanswered(members: Membership) -> int:
    """How many are asked to hold a mark and have not answered; of answers together the loop hears only at their end."""
    calls = members._calls
    unheard = calls._together._back if calls._together is not None else ()
    return sum(each.borrowed_tokens for each in calls._holds.values()) - len(unheard)


async def until(condition: Callable[[], bool]) -> None:
    """Threads bring it about, and a clock of the test's own stands still."""
    while not condition():
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()


async def pass_until(clock: MockClock, condition: Callable[[], bool]) -> None:
    """Time passes, and threads that answer at once have the time to, until something is so."""
    while not condition():
        clock.jump(1)
        await wait_all_tasks_blocked(0.001)


async def pass_s(clock: MockClock, seconds: float) -> None:
    """The loop sees each second of it: in one jump it would have stood still."""
    for _ in range(round(seconds)):
        clock.jump(1)
        await wait_all_tasks_blocked()

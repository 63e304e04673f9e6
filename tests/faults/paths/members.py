"""Paths on which the members of the catalog change."""

from dataclasses import replace

from stratumfs.catalog import leftovers
from stratumfs.catalog.connection import WAL
from stratumfs.catalog.membership import Membership
from stratumfs.owner.places import IdentityPlace
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE
from tests.faults.run import Run, smaller


async def fail_over(run: Run) -> None:
    """The log of the database is gone: the round that meets it goes on with a copy."""
    async with run.opened() as store:
        log = store.catalog.folder / WAL
        log.rename(log.with_name("lost"))
        with run.recording():
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                await acts.put(store, "main/behind", data)


async def copy_joins(run: Run) -> None:
    """A copy was struck; another place gets one."""
    async with run.opened() as store:
        members = store.catalog._members
        assert isinstance(members, Membership)
        await store.catalog.strike(members.copies[0].place, "a test has struck it")
        with run.recording():
            await members.join_spares(store.catalog._rounds.exclusive)
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                await acts.put(store, "main/behind", data)


async def copy_leaves(run: Run) -> None:
    """Two copies lie on one disk, and another disk is there: one joins there, and one of the two leaves."""
    async with run.opened() as store:
        members = store.catalog._members
        assert isinstance(members, Membership)
        for number, (ident, place) in enumerate(members.places.items()):
            assert isinstance(place, IdentityPlace)
            shared = ident in {copy.place for copy in members.copies[:2]}
            members.places[ident] = replace(place, disk="shared" if shared else number)
        with run.recording():
            await members.join_spares(store.catalog._rounds.exclusive)
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                await acts.put(store, "main/behind", data)


async def former_goes(run: Run) -> None:
    """A place was left by an epoch, and its disk has no room for what it had: the next look at what is left over."""
    async with run.opened() as store:
        members = store.catalog._members
        assert isinstance(members, Membership)
        await store.catalog.make_copy_anew(members.copies[0].place, "a test has left it out")
        with run.recording(), smaller(leftovers, lacks_room=lambda place, needed: True):
            await members.leftovers.remove(store.catalog._rounds.exclusive)
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                await acts.put(store, "main/behind", data)


PATHS = {
    "fail-over": fail_over,
    "copy-joins": copy_joins,
    "copy-leaves": copy_leaves,
    "former-goes": former_goes,
}

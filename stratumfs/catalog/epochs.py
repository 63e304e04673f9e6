"""Epochs: who holds the catalog, and which of the chains that are found is the one that counts. Pure.

A *place* is the store folder or a device. A *member* is a place that holds the catalog: the primary, whose database is
written to, and its copies. A round is answered when every member holds it, so any one member of the epoch in force has
everything that was ever answered. An *epoch* says who the members are. Each place's identity file names two: the newest
that was begun, and the last that was in force.

The order, which a model (tests/stratumfs/catalog/test_epoch_histories.py) explores with crashes between any two steps:

    beginning   (1) the files of more than half of all places name the new epoch as begun; (2) each member's chain is
                made whole (holds all that the parent epoch answered) and only then gets its manifest; (3) the files of
                more than half name it in force, the members' first, so that no opening that finds none of these goes
                on from the parent while another file makes it look for them; only then is anything answered.
    opening     only the newest epoch in force counts; what was begun later is set aside, its number not used again.
                Chains count whose manifest names that epoch or a descendant of it; the longest wins. Then an epoch is
                begun, always.
    strike      an epoch without the struck place, begun by a round, under its lock, before anything is answered
    join        an epoch too: the new member is seeded without a manifest, shipped the rest under the round's lock
    leaving     one more: of two copies on one disk, or of one whose disk is short, once another disk has joined

Every simpler order that was tried lost acknowledged writes within a few boots.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.standings import NO_STANDINGS, Standings
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import Disk, PlaceId, VolumeId
from stratumfs.limits import EPOCH_LINE_MAX


@dataclass(frozen=True, slots=True)
class Epoch:
    """number, id    random ids, for numbers come twice where disks are cloned; numbers order what was begun
    members          who holds the catalog
    places           all places of the store: more than half of them must know of a new epoch
    line             ids of all its ancestors, oldest first, and its own
    aside            ids of epochs that were begun beside the line; nothing was answered in them, for nobody who sees
                     more than half of all places has seen one in force
    """

    number: int
    id: str
    members: frozenset[PlaceId]
    places: frozenset[PlaceId]
    line: tuple[str, ...]
    aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A namespace image: its volume, and the last transaction that it shows."""

    volume: VolumeId
    sequence: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class Named:
    """What an identity file says of epochs. sequence: some transaction that every member of ``in_force`` held; images:
    the newest namespace images, the youngest first; standings: of devices, the newest that were written there."""

    begun: Epoch
    in_force: Epoch
    sequence: int = 0
    images: tuple[NamedImage, ...] = ()
    standings: Standings = NO_STANDINGS


@dataclass(frozen=True, slots=True)
class FoundChain:
    """A chain that lies at a place: its manifest's epoch, and the number of its last transaction."""

    epoch: Epoch
    sequence: int


@dataclass(frozen=True, slots=True)
class Choice:
    """parent   the newest epoch in force, which the next one descends from
    holder      the place of the chain to go on with
    why_not     why nothing may be written; empty if it may
    """

    parent: Epoch
    holder: PlaceId
    why_not: str = ""


def first_epoch(members: Iterable[PlaceId], places: Iterable[PlaceId]) -> Epoch:
    """Of a new store."""
    ident = _random_id()
    return Epoch(1, ident, frozenset(members), frozenset(places), (ident,))


def next_epoch(parent: Epoch, named: Iterable[Named], members: Iterable[PlaceId], places: Iterable[PlaceId]) -> Epoch:
    """A child of *parent* with a number that nothing in *named* has used."""
    known = [parent, *(epoch for each in named for epoch in (each.begun, each.in_force))]
    ident = _random_id()
    line = (*parent.line, ident)[-EPOCH_LINE_MAX:]
    in_line = frozenset(line)
    aside = dict.fromkeys(each for epoch in known for each in (*epoch.aside, *epoch.line) if each not in in_line)
    return Epoch(
        max(epoch.number for epoch in known) + 1,
        ident,
        frozenset(members),
        frozenset(places),
        line,
        tuple(aside)[-EPOCH_LINE_MAX:],
    )


def majority(places: frozenset[PlaceId], there: Collection[PlaceId]) -> bool:
    """Whether *there* are more than half of *places*."""
    return 2 * len(places.intersection(there)) > len(places)


def may_begin(parent: Epoch, places: frozenset[PlaceId], there: Collection[PlaceId]) -> bool:
    """An epoch with these *places* can be begun: more than half of the old and of the new list are *there*."""
    return majority(parent.places, there) and majority(places, there)


def newest_in_force(named: Iterable[Named]) -> Epoch:
    """The epoch that an opening goes on from."""
    return max((each.in_force for each in named), key=lambda epoch: (epoch.number, epoch.id))


def choose(
    named: Mapping[PlaceId, Named], chains: Mapping[PlaceId, FoundChain], labels: Mapping[PlaceId, str]
) -> Choice | str:
    """Which chain to open, of what the reachable places say; a text if there is none at all.

    *labels* name places in messages.
    """
    if not named:
        return "no place with a copy of the catalog is reachable"
    parent = newest_in_force(named.values())
    members = ", ".join(sorted(labels.get(each, each.hex()) for each in parent.members))
    missing = f"none of those who hold the newest catalog is reachable: {members}"
    if not chains:
        return missing
    holders = [place for place, chain in chains.items() if parent.id in chain.epoch.line]
    holders = [place for place in holders if place in chains[place].epoch.members]
    if not holders:
        holder = max(chains, key=lambda place: (chains[place].sequence, place))
        return Choice(parent, holder, missing)
    # The store folder first, then any: they hold the same.
    holder = min(holders, key=lambda place: (-chains[place].sequence, place))
    return Choice(parent, holder, _why_not(parent, chains[holder], named, labels))


def _why_not(parent: Epoch, chain: FoundChain, named: Mapping[PlaceId, Named], labels: Mapping[PlaceId, str]) -> str:
    for place, each in named.items():
        if found := other_history(parent, each, chain.sequence, labels.get(place, place.hex())):
            return found
    if not majority(parent.places, named.keys()):
        there = len(parent.places.intersection(named))
        return f"{there} of {len(parent.places)} places are there, and more than half must be: attach more devices"
    return ""


def other_history(parent: Epoch, named: Named, end: int, label: str) -> str:
    """Why the place *label*, whose file says *named*, is not of the history of *parent* that ends at transaction *end*.

    Empty if it is.
    """
    if named.in_force.id not in parent.line and named.in_force.id not in parent.aside:
        if len(parent.line) == EPOCH_LINE_MAX and named.in_force.number <= parent.number - EPOCH_LINE_MAX:
            return (
                f"{label} was away for more than {EPOCH_LINE_MAX} epochs, and nobody can tell whether it is of this "
                "history any more: take its disk away, and replace it"
            )
        return (
            f"there are two histories of this store: epoch {named.in_force.number} ({named.in_force.id}) on {label}, "
            f"and epoch {parent.number} ({parent.id}); one is a clone, or was forced: take its disks away"
        )
    if named.sequence > end:
        return (
            f"{label} knows of transaction {named.sequence}, and the catalog ends at {end}: disks that hold the rest "
            "are missing"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that could be a member. disk: equal for places that fail together; fits: its chain can be continued, or
    its disk has room for one."""

    place: PlaceId
    disk: Disk
    fits: bool = False


def choose_members(keep: Sequence[Candidate], candidates: Sequence[Candidate], count: int) -> tuple[PlaceId, ...]:
    """*keep*, and of *candidates* so many that there are *count*, if there are: as many disks as possible.

    Two copies on one disk fail together: so a disk that has none comes first; then who has most of it already.
    """
    chosen = list(keep)
    left = [each for each in candidates if each.place not in {one.place for one in keep}]
    while left and len(chosen) < count:
        disks = {each.disk for each in chosen}
        best = min(left, key=lambda each: (each.disk in disks, not each.fits, each.place))
        left.remove(best)
        chosen.append(best)
    return tuple(each.place for each in chosen)


def pack_epoch(epoch: Epoch) -> dict[str, Any]:
    """As plain values, for JSON."""
    return {
        "number": epoch.number,
        "id": epoch.id,
        "members": sorted(each.hex() for each in epoch.members),
        "places": sorted(each.hex() for each in epoch.places),
        "line": list(epoch.line),
        "aside": list(epoch.aside),
    }


def unpack_epoch(plain: Mapping[str, Any]) -> Epoch:
    """Raises: CatalogCorrupt if it is none."""
    try:
        members, places = ([PlaceId(bytes.fromhex(each)) for each in plain[key]] for key in ("members", "places"))
        line, aside = (tuple(map(str, plain[key])) for key in ("line", "aside"))
        found = Epoch(int(plain["number"]), str(plain["id"]), frozenset(members), frozenset(places), line, aside)
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogCorrupt(f"an epoch that cannot be read: {error}") from error
    if found.line[-1:] != (found.id,):
        raise CatalogCorrupt("an epoch that is not the last of its own line")
    return found


def pack_images(images: Iterable[NamedImage]) -> list[dict[str, Any]]:
    """As plain values, for JSON."""
    return [{"volume": each.volume.hex(), "sequence": each.sequence, "created_ns": each.created_ns} for each in images]


def unpack_images(plain: Iterable[Mapping[str, Any]]) -> tuple[NamedImage, ...]:
    """Those that can be read: any device may have the others, too."""
    found = []
    for each in plain:
        with suppress(KeyError, TypeError, ValueError):
            volume = VolumeId(bytes.fromhex(each["volume"]))
            found.append(NamedImage(volume, int(each["sequence"]), int(each["created_ns"])))
    return tuple(found)


def _random_id() -> str:
    return os.urandom(8).hex()

"""A store in which any cells of any volume can be damaged in any way, and what must come of it.

Each volume of 4+2 holds two objects; all that is done to a shard concerns the later one, what is done to all of it the
earlier one, too.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

from stratumfs.catalog.extents import layout
from stratumfs.catalog.volumes import volume
from stratumfs.ids import CellIndex, VolumeId
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store.store import Store
from stratumfs.volumes.format import HEADER_SIZE, pack_headers, unpack_header
from tests.faults.rot import flip, zero
from tests.faults.run import opened
from tests.stratumfs.store.helpers import put

K, M = 4, 2
CELLS = range(K + M)
EARLIER, LATER = 17_000, 40_000
"""Bytes of the objects of a volume."""


@dataclass(frozen=True, slots=True)
class Target:
    """A volume: its shards by cell, and where in each of them the later object's stripe begins."""

    number: int
    volume: VolumeId
    paths: tuple[Path, ...]
    position: int

    @property
    def keys(self) -> tuple[str, str]:
        """Of the earlier object and the later one."""
        return f"v{self.number}-a", f"v{self.number}-b"


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to which cells of one volume."""

    kinds: Mapping[int, str]

    def __str__(self) -> str:
        return ", ".join(f"cell {cell} {kind}" for cell, kind in self.kinds.items())


class Shelf:
    """The volumes of a store, with what lay in their shards when it was filled and when each was half full.

    *older* is the folder where the latter is kept.
    """

    def __init__(self, older: Path, targets: Sequence[Target]) -> None:
        self.targets, self._older = targets, older
        self.whole = {path: path.read_bytes() for target in targets for path in target.paths}

    def damage(self, target: Target, case: Case) -> None:
        for cell, kind in case.kinds.items():
            KINDS[kind](self, target, cell, case)

    def earlier_file(self, path: Path) -> bytes:
        return (self._older / path.name).read_bytes()

    def donor(self, target: Target) -> Target:
        """Another volume."""
        return self.targets[self.targets.index(target) - 1]


def content(key: str) -> bytes:
    return random.Random(key).randbytes(EARLIER if key.endswith("a") else LATER)


async def fill(root: Path, count: int) -> Shelf:
    """So many volumes in the store below *root*, which is empty."""
    older = root.with_name(f"{root.name}-older")
    older.mkdir()
    targets: list[Target] = []
    async with opened(root) as store:
        await store.objects.create_bucket("bucket", 1)
        for number in range(count):
            one, other = f"v{number}-a", f"v{number}-b"
            await put(store, one.encode(), content(one))
            for path in (await _target(store, number, one)).paths:
                shutil.copyfile(path, older / path.name)
            await put(store, other.encode(), content(other))
            targets.append(await _target(store, number, other))
            await store.writer.volumes.seal_idle(0)
    return Shelf(older, targets)


async def _target(store: Store, number: int, key: str) -> Target:
    info = await store.objects.info("bucket", key.encode())
    (extent,) = await store.catalog.read(layout, info.ino, 0, info.size)
    assert extent.location is not None
    row = await store.catalog.read(volume, extent.location.volume)
    assert row is not None
    paths = [
        Path(store.devices[device].label) / path_of(ShardName(row.id, CellIndex(cell)))
        for cell, device in enumerate(row.devices)
    ]
    return Target(number, row.id, tuple(paths), extent.location.position)


_Damage = Callable[[Shelf, Target, int, Case], None]


def _at(position: int) -> _Damage:
    """A bit so many bytes behind the beginning of the later object's cell."""
    return lambda shelf, target, cell, case: flip(target.paths[cell], target.position + position)


def _truncate(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    with target.paths[cell].open("r+b") as file:
        file.truncate(target.position + HEADER_SIZE + 7)


def _lose_header(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    """More of it than its parity makes up for."""
    with target.paths[cell].open("r+b") as file:
        file.seek(target.position)
        file.write(b"\xff" * HEADER_SIZE)


def _swap(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    """The bytes of the next cell that is swapped, too; where none is, of the next one."""
    others = [each for each, kind in case.kinds.items() if kind == "swapped" and each != cell]
    other = next((each for each in others if each > cell), others[0] if others else (cell + 1) % (K + M))
    target.paths[cell].write_bytes(shelf.whole[target.paths[other]])


def _older_file(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    target.paths[cell].write_bytes(shelf.earlier_file(target.paths[cell]))


def _other_write(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    """What another write of the stripe would have left: all of it agrees, but it is not what the row names."""
    with target.paths[cell].open("r+b") as file:
        file.seek(target.position)
        header = unpack_header(file.read(HEADER_SIZE))
        file.seek(target.position)
        file.write(pack_headers([replace(header, nonce=header.nonce ^ 1)])[0])


def _other_volume(shelf: Shelf, target: Target, cell: int, case: Case) -> None:
    target.paths[cell].write_bytes(shelf.whole[shelf.donor(target).paths[cell]])


HEALED = "a bit of the header"
"""Its parity makes up for it: found and mended as damage, but no loss."""
KINDS: Mapping[str, _Damage] = {
    "deleted": lambda shelf, target, cell, case: target.paths[cell].unlink(),
    "truncated": _truncate,
    "a bit of the payload": _at(HEADER_SIZE + 5),
    HEALED: _at(70),
    "the header": _lose_header,
    "swapped": _swap,
    "an older file": _older_file,
    "another write": _other_write,
    "zeros": lambda shelf, target, cell, case: zero(target.paths[cell]),
    "another volume's": _other_volume,
}
LOSING = [kind for kind in KINDS if kind != HEALED]


def all_cases() -> Iterator[Case]:
    """Each kind on each cell, and each two kinds on each two cells."""
    for count in range(1, M + 1):
        for cells, kinds in product(combinations(CELLS, count), product(KINDS, repeat=count)):
            yield Case(dict(zip(cells, kinds, strict=True)))


def covering_cases(rng: random.Random) -> list[Case]:
    """Each cell alone, each two kinds together; each two cells several times."""
    pairs = list(combinations(CELLS, M))
    rng.shuffle(pairs)
    together = [(one, other) for at, one in enumerate(KINDS) for other in list(KINDS)[at:]]
    cases = [Case({cell: kind}) for cell, kind in zip(CELLS, rng.sample(list(KINDS), len(CELLS)), strict=True)]
    for number, kinds in enumerate(together):
        cells = pairs[number % len(pairs)]
        cases.append(Case(dict(zip(rng.sample(cells, M), kinds, strict=True))))
    return cases


def losing_cases(rng: random.Random) -> list[Case]:
    """One cell more than there is parity: every choice of cells, of kinds any."""
    return [Case({cell: rng.choice(LOSING) for cell in cells}) for cells in combinations(CELLS, M + 1)]

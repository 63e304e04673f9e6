"""Rot of every kind, planted in a store that is closed: in shards, and in pages of the catalog that is written to."""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from stratumfs.catalog.chains import read_manifest
from stratumfs.catalog.connection import VFS
from stratumfs.limits import CATALOG_PAGE_SIZE
from stratumfs.shards.layout import ShardName, parse_file_name
from stratumfs.volumes.format import HEADER_SIZE, pack_headers, unpack_header

Statement = tuple[str, tuple[int | bytes, ...]]


@dataclass(frozen=True, slots=True)
class Planted:
    """shard: None for a row of the catalog."""

    kind: str
    shard: ShardName | None = None
    extent: int = 0


def flip(path: Path, at: int, mask: int = 0x10) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))


def cut(path: Path) -> None:
    os.truncate(path, HEADER_SIZE + 7)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def another_volumes(path: Path) -> None:
    """The shard of the same cell of another volume, whole by itself."""
    other = next(each for each in shards(path.parents[3]) if each.suffix == path.suffix and each.name != path.name)
    path.write_bytes(other.read_bytes())


def stale(path: Path) -> None:
    """What another write of the first stripe would have left: all of it agrees, but it is not what a row names."""
    with path.open("r+b") as file:
        header = unpack_header(file.read(HEADER_SIZE))
        file.seek(0)
        file.write(pack_headers([replace(header, nonce=header.nonce ^ 1)])[0])


SHARD_KINDS: dict[str, Callable[[Path], None]] = {
    "payload": lambda path: flip(path, HEADER_SIZE + 5),
    "header": lambda path: flip(path, 70),
    "cut": cut,
    "deleted": Path.unlink,
    "zeros": zero,
    "stale": stale,
    "another volume's": another_volumes,
}
ROW_KINDS = ("inline byte", "row")


def shards(root: Path) -> list[Path]:
    """All shard files, by cell and name."""
    return sorted(root.glob("d[0-9]*/volumes/*/*"), key=lambda path: (int(path.suffix[1:]), path.name))


def primary(root: Path) -> Path:
    """The database that is written to."""
    manifest = read_manifest(root / "store" / "catalog")
    assert manifest is not None
    return root / "store" / "catalog" / manifest.folder / "catalog.db"


def rot(path: Path, log: Path, statements: Sequence[Statement]) -> None:
    """Give pages of a database other bytes, behind everybody's back: those that *statements* would have changed."""
    aside = path.parents[3] / "aside.db"
    shutil.copyfile(path, aside)
    shutil.copyfile(log, Path(f"{aside}-wal"))
    db = apsw.Connection(str(aside), vfs=VFS)
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
    before = aside.read_bytes()
    db.execute("begin")
    for statement, arguments in statements:
        db.execute(statement, arguments)
        assert db.changes() > 0, statement
    db.execute("commit")
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
    db.close()
    after, data = aside.read_bytes(), bytearray(path.read_bytes())
    for at in range(CATALOG_PAGE_SIZE, len(before), CATALOG_PAGE_SIZE):
        page = slice(at, at + CATALOG_PAGE_SIZE)
        if before[page] != after[page]:
            assert bytes(data[page]) == before[page], "it is in the log, too"
            data[page] = after[page]
    path.write_bytes(data)
    aside.unlink()


def plant(root: Path, m: int, count: int, rng: random.Random) -> list[Planted]:
    """About as many faults of each kind as of any other, no more than *m* shards of a volume, one a shard or row.

    Each shard file holds a cell that a row names at its beginning.
    """
    kinds = [*SHARD_KINDS, *ROW_KINDS]
    wanted = [kinds[number % len(kinds)] for number in range(count)]
    return _plant_shards(root, m, [kind for kind in wanted if kind in SHARD_KINDS], rng) + plant_rows(
        root, [kind for kind in wanted if kind in ROW_KINDS], rng
    )


def _plant_shards(root: Path, m: int, kinds: Sequence[str], rng: random.Random) -> list[Planted]:
    left: dict[bytes, int] = {}
    paths = shards(root)
    rng.shuffle(paths)
    planted = []
    targets = []
    for path in paths:
        name = parse_file_name(path.name)
        assert name is not None
        if len(targets) < len(kinds) and left.setdefault(name.volume, m):
            left[name.volume] -= 1
            targets.append((path, name))
    assert len(targets) == len(kinds), "too few volumes for so many faults"
    # What takes bytes from another shard comes first, as long as that is whole.
    for kind, (path, name) in sorted(zip(kinds, targets, strict=True), key=lambda each: each[0] != "another volume's"):
        SHARD_KINDS[kind](path)
        planted.append(Planted(kind, name))
    return planted


def plant_rows(root: Path, kinds: Sequence[str], rng: random.Random) -> list[Planted]:
    path = primary(root)
    shutil.copyfile(path, root / "look.db")
    shutil.copyfile(path.with_name("catalog.db-wal"), root / "look.db-wal")
    db = apsw.Connection(str(root / "look.db"), vfs=VFS)
    inline = list(db.execute("select id, data from extent where data is not null order by id"))
    placed = [ident for (ident,) in db.execute("select id from extent where data is null order by id")]
    db.close()
    planted, statements = [], list[Statement]()
    for ident, data in rng.sample(inline, kinds.count("inline byte")):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        statements.append(("update extent set data = ? where id = ?", (bytes(flipped), ident)))
        planted.append(Planted("inline byte", extent=ident))
    for ident in rng.sample(placed, kinds.count("row")):
        statements.append(("update extent set nonce = nonce + 1 where id = ?", (ident,)))
        planted.append(Planted("row", extent=ident))
    if statements:
        rot(path, path.with_name("catalog.db-wal"), statements)
    return planted

"""Rot that nobody reads is found by the scrubber, all of it and nothing else, and mended unasked."""

import random
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from stratumfs.catalog.extents import layout
from stratumfs.catalog.rowcheck import look_at_extents
from stratumfs.catalog.scrubs import last_passes, verified_at
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import SEALED, volumes
from stratumfs.errors import ExtentCorrupt
from stratumfs.ids import ExtentId
from stratumfs.owner.fsck import Wanted, fsck
from stratumfs.repair.repairer import Repairer
from stratumfs.store.store import Store
from tests.faults.rot import Planted, plant, plant_rows
from tests.faults.run import make_here, opened
from tests.stratumfs.store.helpers import get, put

OBJECTS, VOLUMES, FAULTS, SEED = 240, 40, 100, 1


def content(number: int, seed: int) -> bytes:
    """Two of three are inline."""
    rng = random.Random(f"{seed} {number}")
    return rng.randbytes(rng.randrange(1, 3000) if number % 3 else rng.randrange(17_000, 40_000))


async def fill(root: Path, objects: int, count: int, seed: int) -> None:
    """Objects in so many volumes."""
    async with opened(root) as store:
        await store.objects.create_bucket("bucket", 1)
        for number in range(objects):
            await put(store, f"o{number}".encode(), content(number, seed))
            if number % (objects // count) == 0:
                await store.writer.volumes.seal_idle(0)
    async with opened(root):
        pass  # the log begins anew: what is in the database's pages is in no log any more


async def scrub(store: Store) -> set[tuple[bytes, int]]:
    """One pass, and the repairs that it asks for. Returns the shards that were said to be bad."""
    told: set[tuple[bytes, int]] = set()
    damaged = Repairer.damaged

    def tell(repairer: Repairer, ident: bytes, index: int, reason: str) -> bool:
        told.add((ident, index))
        return damaged(repairer, ident, index, reason)  # type: ignore[arg-type]

    with patch.object(store.scrubber, "_damaged", lambda *words: tell(store.repairer, *words)):
        assert await store.scrubber.round(at_once=True)
    await store.repairer.round()
    return told


@pytest.mark.slow
def test_a_hundred_faults_are_found_and_mended_and_no_other(tmp_path: Path) -> None:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    trio.run(fill, tmp_path, OBJECTS, VOLUMES, SEED)
    planted = plant(tmp_path, 2, FAULTS, random.Random(SEED))
    assert len(planted) == FAULTS
    trio.run(_scrubbed, tmp_path, planted)
    found = fsck(tmp_path / "store", Wanted(mend=False, full=True), lambda text, done, total: None)
    assert (found["clean"], found["volumes"] >= VOLUMES) == (True, True), found


async def _scrubbed(root: Path, planted: list[Planted]) -> None:
    bad = {(each.shard.volume, each.shard.index) for each in planted if each.shard is not None}
    rows = sum(each.shard is None for each in planted)
    async with opened(root) as store:
        assert await scrub(store) == bad
        done = (await store.catalog.read(last_passes))[0]
        assert (done.bad_shards, done.bad_rows, done.bad_copies) == (len(bad), rows, 0)
        assert store.catalog.mender.restored == rows
        for number in range(OBJECTS):
            assert await get(store, f"o{number}".encode()) == content(number, SEED)
        assert store.damaged == set()
        assert await scrub(store) == set()
        again = (await store.catalog.read(last_passes))[0]
        assert (again.bad_shards, again.bad_rows, again.shards) == (0, 0, done.shards)
        for row in await store.catalog.read(volumes, SEALED):
            assert len(await store.catalog.read(verified_at, row.id)) == row.k + row.m


@pytest.mark.parametrize("how", ["read", "write", "commit"])
async def test_whoever_meets_a_row_that_rotted_goes_on(tmp_path: Path, how: str) -> None:
    """It is restored from a copy of the catalog, and so are those on its page; then what met it is run again."""
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    await fill(tmp_path, 12, 2, SEED)
    planted = plant_rows(tmp_path, ["inline byte", "inline byte", "row", "row"], random.Random(SEED))
    async with opened(tmp_path) as store:
        for number in range(12):
            key = f"o{number}".encode()
            info = await store.objects.info("bucket", key)
            call = getattr(store.catalog, how)
            assert sum(each.length for each in await call(layout, info.ino, 0, info.size)) == info.size
            assert await get(store, key) == content(number, SEED)
        assert store.catalog.mender.restored == len(planted) == 4
        looked = await store.catalog.read(look_at_extents, ExtentId(0))
        assert (looked.rows, looked.bad) == (12, [])


async def test_a_row_that_no_copy_has_is_refused_and_not_sought_all_the_time(tmp_path: Path) -> None:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    async with opened(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", b"data")
        await store.catalog.write(_spoil)  # told to the copies
        ino = (await store.objects.info("bucket", b"key")).ino
        for _ in range(3):
            with pytest.raises(ExtentCorrupt):
                await store.catalog.read(layout, ino, 0, 4)
        assert (store.catalog.mender.met, store.catalog.mender.restored) == (1, 0)


def _spoil(tx: Transaction) -> None:
    tx.run("update extent set data = x'00000000'")

"""Small runs leave the catalog for volumes: side by side, cheap to read, and nobody notices."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.reap import usage
from stratumfs.errors import StoreFull
from stratumfs.limits import INLINE_MAX, PACKED_CELL
from stratumfs.location import CELL_HEADER_SIZE
from stratumfs.shards.layout import ShardName
from stratumfs.shards.local import LocalShards
from stratumfs.store import maintenance, repack
from stratumfs.store.inline import InlineBytes
from stratumfs.store.space import TierSpace
from stratumfs.store.store import Store
from stratumfs.values import Extent
from tests.faults.audit import audit_rows
from tests.stratumfs.store.helpers import bucket, get, put
from tests.stratumfs.store.racing import Racing, between, new_file, write_at

ALL = 1 << 40


async def fill(store: Store, count: int, size: int = 4096) -> dict[bytes, bytes]:
    """So many small objects, oldest first."""
    files = {b"k%d" % number: os.urandom(size) for number in range(count)}
    for key, data in files.items():
        await put(store, key, data)
    return files


async def inline(store: Store) -> int:
    return (await store.catalog.read(usage)).inline_bytes


async def rows(store: Store, key: bytes) -> Sequence[Extent]:
    info = await store.objects.info("bucket", key)
    return await store.reader.layout(info.ino, 0, info.size)


async def test_the_oldest_go_first_and_share_stripes(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        files = await fill(store, 250)
        before = {key: await store.objects.info("bucket", key) for key in files}
        await store.packer.round(150 * 4096)
        left = await inline(store)
        assert 0 < left <= 100 * 4096
        assert store.writer.inline.count == left
        packed = [row for key in files for row in await rows(store, key) if row.location is not None]
        assert [row.ino for row in packed] == [before[key].ino for key in files][: len(packed)]
        assert len({row.location.stripe for row in packed if row.location}) == -(-len(packed) // 16)
        await store.packer.round(ALL)
        assert await inline(store) == store.writer.inline.count == 0
        store.volume_reader._cache._cells.clear()
        for key, data in files.items():
            assert await get(store, key) == data
            assert await store.objects.info("bucket", key) == before[key]
        assert await audit_rows(store) == []
    async with bucket(tmp_path) as store:
        for key, data in files.items():
            assert await get(store, key) == data


async def test_a_packed_object_is_read_with_one_call_for_each_cell_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        files = {b"odd": os.urandom(1000), b"long": os.urandom(INLINE_MAX)}
        for key, data in files.items():
            await put(store, key, data)
        files |= await fill(store, 11)
        await store.packer.round(ALL)
        calls: list[int] = []
        read_at, read_nowait = LocalShards.read_at, LocalShards.read_nowait

        def at(shards: LocalShards, name: ShardName, position: int, length: int) -> bytes:
            calls.append(length)
            return read_at(shards, name, position, length)

        def nowait(shards: LocalShards, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
            found = read_nowait(shards, name, position, parts)
            calls.extend([sum(map(len, parts))] * found)  # else the page cache had not all of it
            return found

        monkeypatch.setattr(LocalShards, "read_at", at)
        monkeypatch.setattr(LocalShards, "read_nowait", nowait)
        for key, data in files.items():
            store.volume_reader._cache._cells.clear()
            calls.clear()
            (row,) = await rows(store, key)
            assert row.location is not None
            first = row.location.skip // row.location.cell_size
            last = (row.location.skip + len(data) - 1) // row.location.cell_size
            assert await get(store, key) == data
            assert calls == [CELL_HEADER_SIZE + row.location.cell_size] * (last - first + 1)
            assert row.location.cell_size <= PACKED_CELL
            assert len(calls) <= 2


async def test_what_a_stripe_has_room_for_is_never_cut(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        files = await fill(store, 60, 11_111)
        await store.packer.round(ALL)
        for key, data in files.items():
            assert len(await rows(store, key)) == 1
            assert await get(store, key) == data


async def test_packing_begins_by_itself_at_a_quarter_of_the_bound_and_ends_at_an_eighth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        store.writer.inline.most = 800 * 4096
        ended = trio.Event()
        packed = store.packer.round

        async def told(count: int) -> None:
            await packed(count)
            ended.set()

        monkeypatch.setattr(store.packer, "round", told)
        files = await fill(store, 190)
        assert await inline(store) == 190 * 4096
        for key in list(files)[:10]:
            files[key + b"again"] = files[key]
            await put(store, key + b"again", files[key])
        await ended.wait()
        assert await inline(store) <= 100 * 4096
        for key, data in files.items():
            assert await get(store, key) == data


async def test_above_the_bound_small_writes_go_straight_to_volumes(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        store.writer.inline = InlineBytes(3 * 4096)
        store.writer.inline.learn(0)
        files = await fill(store, 5)
        ino = await new_file(store, b"file")
        await write_at(store, ino, 0, b"x" * 4096)
        assert await inline(store) == 3 * 4096
        for key, data in files.items():
            assert await get(store, key) == data
        assert bytes(await store.reader.read(ino, 0, 5000)) == b"x" * 4096


async def test_nothing_is_packed_in_a_full_store_or_a_read_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        files = await fill(store, 20)
        with monkeypatch.context() as patched:
            patched.setattr(store.space, "_sum_up", lambda: None)  # what the devices say changes nothing
            store.space.now = TierSpace(1, 0)
            with pytest.raises(StoreFull):
                await store.packer.round(ALL)
        await store.space.refresh()
        store.refuse_writes("for a test")
        await store.packer.round(ALL)
        assert await inline(store) == 20 * 4096
        for key, data in files.items():
            assert await get(store, key) == data


async def test_a_damaged_row_holds_up_nothing(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        files = await fill(store, 20)
        (bad,) = await rows(store, b"k3")
        await store.catalog.write(lambda tx: tx.run("update extent set data = ? where id = ?", (b"?" * 4096, bad.id)))
        await store.packer.round(ALL)
        assert await inline(store) == 4096
        for key in files.keys() - {b"k3"}:
            assert await get(store, key) == files[key]


@pytest.mark.parametrize("seed", range(2))
async def test_users_race_the_packer_and_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    monkeypatch.setattr(repack, "REPACK_RUNS", 7)
    monkeypatch.setattr(repack, "SWAP_ROWS", 3)
    async with bucket(tmp_path) as store:
        racing = Racing(store, seed, sizes=(1, 100, 4096, INLINE_MAX, 20_000))
        for _ in range(6):
            await racing.make()
        with monkeypatch.context() as patched:
            between(store, racing.step, patched)
            for _ in range(6):
                await store.packer.round(ALL)
        await racing.check()
        await store.maintenance.round()
        await store.packer.round(ALL)
        assert await inline(store) == 0
        await racing.check()
        assert await audit_rows(store) == []


async def test_what_was_packed_while_its_file_was_read_is_read_as_it_was(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        data = os.urandom(4096)
        info = await put(store, b"k", data)
        async with store.objects.open("bucket", b"k") as reader:
            await store.packer.round(ALL)
            assert b"".join([bytes(chunk) async for chunk in reader.chunks(0, 4096)]) == data
        assert bytes(await store.reader.read(info.ino, 1000, 2000)) == data[1000:3000]

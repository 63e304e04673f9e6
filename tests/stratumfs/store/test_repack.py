"""Bytes that move between tiers while files are read, rewritten, cut and removed: nobody ever sees another byte."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.volumes import FREED, volume_summary, volumes
from stratumfs.errors import StoreFull
from stratumfs.ids import InodeNo
from stratumfs.limits import PACKED_CELL
from stratumfs.store import maintenance, repack
from stratumfs.store.content import Staging
from stratumfs.store.reader import volumes_of
from stratumfs.store.repack import Repack, foreign
from stratumfs.store.store import Store
from stratumfs.store.writer import merged
from stratumfs.values import CompletedPart, NewExtent, ObjectInfo, ObjectSpec, Publication
from tests.faults.acts import holding
from tests.faults.audit import audit_rows
from tests.stores import make_warm
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put
from tests.stratumfs.store.racing import Racing, between, new_file, write_at


@asynccontextmanager
async def two_tiers(folder: Path) -> AsyncIterator[Store]:
    make_warm(folder)
    async with bucket(folder) as store:
        yield store


def shards(folder: Path) -> list[Path]:
    """Of the hot tier."""
    return [each for each in folder.glob("d*/volumes/*/*") if each.is_file()]


async def move(store: Store, *inos: InodeNo, tier: str = "warm") -> Repack:
    """As moves do where nobody is at the doors: the next step is copied while one is made safe."""
    with Repack(store.catalog, store.reader, store.writers[tier], ahead=lambda: True).running() as moving:
        for ino in inos:
            await moving.inode(ino)
        await moving.flush()
    return moving


async def moved(moving: Repack, infos: Iterable[ObjectInfo]) -> None:
    with moving.running():
        for info in infos:
            await moving.inode(info.ino)
        await moving.flush()


async def tiers(store: Store, ino: InodeNo) -> set[str]:
    extents = await store.reader.layout(ino, 0, 1 << 40)
    return {(await store.reader.volume(ident)).tier for ident in volumes_of(extents)}


async def test_an_object_moves_there_and_back_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 12_345)
    async with two_tiers(tmp_path) as store:
        before = await put(store, b"k", data)
        for tier in ("warm", "hot"):
            moving = await move(store, before.ino, tier=tier)
            assert (moving.moved, moving.unreadable) == (len(data), 0)
            assert await tiers(store, before.ino) == {tier}
            assert (await store.objects.info("bucket", b"k"))._replace(tier=before.tier) == before
            assert await get(store, b"k") == data
        assert len(await store.reader.layout(before.ino, 0, len(data))) == 2  # full stripes in one run, and the rest
        assert (await move(store, before.ino, tier="hot")).moved == 0
    async with bucket(tmp_path) as store:
        assert await get(store, b"k") == data


async def test_small_files_lie_in_small_stripes_and_inline_bytes_stay_in_the_catalog(tmp_path: Path) -> None:
    async with two_tiers(tmp_path) as store:
        files = {b"k%d" % number: os.urandom(18_000) for number in range(20)}
        inos = [(await put(store, key, data)).ino for key, data in files.items()]
        inline = await put(store, b"inline", b"x" * 100)
        await move(store, *inos, inline.ino)
        rows = [row for ino in inos for row in await store.reader.layout(ino, 0, 18_000)]
        assert len(rows) == len(inos)
        assert all(row.location and row.location.cell_size <= PACKED_CELL for row in rows)
        assert await tiers(store, inline.ino) == set()
        for key, data in files.items():
            assert await get(store, key) == data


async def test_copies_go_along_and_the_source_is_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    data = os.urandom(2 * MIB + 5)
    async with two_tiers(tmp_path) as store:
        info = await put(store, b"k", data)
        copy = await store.objects.copy("bucket", b"k", None, "bucket", b"copy", ObjectSpec(), ANY, time.time_ns())
        await move(store, info.ino)
        assert await tiers(store, copy.ino) == {"warm"}
        await store.volume_writer.seal_idle(0)
        await store.maintenance.round()
        await store.maintenance.round()
        summary = await store.catalog.read(volume_summary)
        assert [(tier, live) for tier, *_, live in summary] == [("warm", 2 * len(data))]
        assert shards(tmp_path) == []
        assert await get(store, b"copy") == data


async def test_what_is_being_read_stays_until_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a GET, and by a read of the mount that waits for its device longer than the grace period."""
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    data = os.urandom(2 * MIB)
    async with two_tiers(tmp_path) as store:
        info = await put(store, b"k", data)
        await store.volume_writer.seal_idle(0)
        reading, go_on = trio.Event(), trio.Event()
        read = store.volume_reader.read
        seen = []

        async def slow(*args: object) -> object:
            reading.set()
            await go_on.wait()
            return await read(*args)  # type: ignore[arg-type]

        async def read_as_the_mount() -> None:
            seen.append(bytes(await store.reader.read(info.ino, 0, len(data))))

        async def tidy() -> int:
            for _ in range(3):
                await store.maintenance.round()
            return len(await store.catalog.read(volumes, FREED)) + sum(
                tier == "hot" for tier, *_ in await store.catalog.read(volume_summary)
            )

        async with store.objects.open("bucket", b"k") as reader, trio.open_nursery() as nursery:
            await move(store, info.ino)
            store.volume_reader._cache._cells.clear()
            assert await tidy() == 1, "a GET has it open"
            assert b"".join([bytes(chunk) async for chunk in reader.chunks(0, len(data))]) == data
            nursery.cancel_scope.cancel()
        await move(store, info.ino, tier="hot")
        await store.volume_writer.seal_idle(0)
        store.volume_reader._cache._cells.clear()
        monkeypatch.setattr(store.volume_reader, "read", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_as_the_mount)
            await reading.wait()
            monkeypatch.setattr(store.volume_reader, "read", read)
            await move(store, info.ino)
            store.volume_reader._cache._cells.clear()
            assert await tidy() >= 1, "a mount reads it"
            go_on.set()
        assert seen == [data]
        assert await tidy() == 0


async def test_a_copy_that_is_being_made_finds_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read the rows before the move and names the old places after it."""
    data = os.urandom(2 * MIB)
    async with two_tiers(tmp_path) as store:
        info = await put(store, b"k", data)
        await store.volume_writer.seal_idle(0)
        extents = store.reader.extents

        async def moved_meanwhile(*args: object) -> object:
            found = await extents(*args)  # type: ignore[arg-type]
            await move(store, info.ino)
            await store.maintenance.round()
            return found

        monkeypatch.setattr(store.reader, "extents", moved_meanwhile)
        await store.objects.copy("bucket", b"k", None, "bucket", b"copy", ObjectSpec(), ANY, time.time_ns())
        assert await get(store, b"copy") == data


async def test_a_completion_finds_parts_that_moved_since_it_read_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied part shares its source's bytes, and goes along with it."""
    data = os.urandom(2 * MIB)
    async with two_tiers(tmp_path) as store:
        info = await put(store, b"k", data)
        upload = await store.uploads.create("bucket", b"big", ObjectSpec(), None, False, time.time_ns())
        part = await store.uploads.copy_part(
            "bucket", b"big", upload.id, 1, "bucket", b"k", None, 0, len(data), time.time_ns()
        )
        await store.volume_writer.seal_idle(0)
        add = Staging.add

        async def moved_meanwhile(staging: Staging, extents: Sequence[NewExtent]) -> None:
            await move(store, info.ino)
            await store.maintenance.round()
            await add(staging, extents)

        monkeypatch.setattr(Staging, "add", moved_meanwhile)
        listed = [CompletedPart(1, part.etag)]
        await store.uploads.complete("bucket", b"big", upload.id, listed, None, ANY, time.time_ns())
        assert await get(store, b"big") == data


async def test_bytes_that_cannot_be_read_stay_and_the_rest_goes(tmp_path: Path) -> None:
    data = os.urandom(2 * MIB)
    async with two_tiers(tmp_path) as store:
        info = await put(store, b"k", data)
        (extent,) = await store.reader.layout(info.ino, 0, len(data))
        assert extent.location is not None
        for path in shards(tmp_path)[:3]:
            with path.open("r+b") as shard:
                shard.seek(extent.location.position + 200)
                shard.write(b"damage")
        store.volume_reader._cache._cells.clear()
        moving = await move(store, info.ino)
        assert (moving.moved, moving.unreadable) == (MIB, MIB)
        assert await tiers(store, info.ino) == {"hot", "warm"}
        assert await get(store, b"k", MIB, 2 * MIB) == data[MIB:]


async def test_a_whole_volume_is_repacked(tmp_path: Path) -> None:
    data = {b"a": os.urandom(2 * MIB), b"b": os.urandom(30_000), b"c": os.urandom(MIB)}
    async with two_tiers(tmp_path) as store:
        for key, value in data.items():
            await put(store, key, value)
        (row,) = await store.catalog.read(volumes, "open")
        await store.volume_writer.seal_idle(0)
        with Repack(store.catalog, store.reader, store.writer).running() as moving:
            await moving.volume(row.id)
            await moving.flush()
        assert moving.moved == sum(map(len, data.values()))
        live = {each.id: each.live for state in ("open", "sealed") for each in await store.catalog.read(volumes, state)}
        assert live.pop(row.id) == 0
        assert sum(live.values()) == moving.moved
        for key, value in data.items():
            assert await get(store, key) == value


@pytest.mark.parametrize("whole", [False, True], ids=["inode", "volume"])
async def test_what_goes_while_its_neighbours_are_moved_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Rows are read by the chunk, long before the last of them are copied."""
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    monkeypatch.setattr(repack, "REPACK_BYTES", 100_000)
    async with two_tiers(tmp_path) as store:
        ino = await new_file(store, b"f")
        for number in range(2):
            await write_at(store, ino, number * 100_000, os.urandom(100_000))
            if not whole:
                await store.volume_writer.seal_idle(0)
        await store.volume_writer.seal_idle(0)
        source = (await store.catalog.read(volumes, "sealed"))[0].id

        async def truncated(*_: object) -> None:
            await store.files.truncate(ino, 0, time.time_ns())
            for _ in range(3):
                await store.maintenance.round()

        target = store.writer if whole else store.writers["warm"]
        with Repack(store.catalog, store.reader, target, pace=truncated).running() as moving:
            await (moving.volume(source) if whole else moving.inode(ino))
            await moving.flush()
        assert (moving.moved, moving.unreadable) == (100_000, 0)


@pytest.mark.parametrize("cut", [0, None], ids=["truncated", "overwritten"])
async def test_a_move_between_the_ids_of_a_publication_and_its_round_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int | None
) -> None:
    async with two_tiers(tmp_path) as store, AsyncExitStack() as stack:
        ino = await new_file(store, b"f")
        store.holds.take(ino)
        for number in range(100):
            await write_at(store, ino, number * 70_000, os.urandom(70_000))
        new = os.urandom(6_900_000)
        held = stack.enter_context(holding(store.writer))
        gathered = await store.writer.gather([(0, new)], held)
        await store.writer.sync({each.stripe for each in gathered})
        publication = Publication(cut, tuple(merged(each.extent for each in gathered)), 7_000_000, 1)
        commit = store.catalog.commit

        async def behind_a_move(fn: Callable[..., object], *args: object) -> object:
            monkeypatch.setattr(store.catalog, "commit", commit)
            await move(store, ino)
            return await commit(fn, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store.catalog, "commit", behind_a_move)
        await store.files.publish(ino, publication, time.time_ns(), durable=True)
        assert bytes(await store.reader.read(ino, 0, len(new))) == new
        await store.maintenance.round()
        assert bytes(await store.reader.read(ino, 0, len(new))) == new


@pytest.mark.parametrize("seed", range(2))
async def test_users_race_the_mover_and_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    monkeypatch.setattr(repack, "REPACK_BYTES", 400_000)
    monkeypatch.setattr("stratumfs.catalog.swap.SWAP_ROWS", 3)
    async with two_tiers(tmp_path) as store:
        racing = Racing(store, seed)
        for _ in range(6):
            await racing.make()
        with monkeypatch.context() as patched:
            between(store, racing.step, patched)
            for tier in ("warm", "hot", "warm"):
                for ino in list(racing.files):
                    await move(store, ino, tier=tier)
        await racing.check()
        await store.maintenance.round()
        await move(store, *racing.files)  # nobody races this one: nothing is left in the other tier
        for ino in racing.files:
            assert await tiers(store, ino) <= {"warm"}
            assert [extent async for extent in foreign(store.catalog, store.reader, ino, "warm")] == []
        await racing.check()


async def test_steps_that_overlap_move_all_that_nothing_came_before_and_copy_what_is_shared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copy of each step and its swap somebody overwrites, deletes or copies."""
    monkeypatch.setattr(repack, "REPACK_BYTES", 100_000)
    async with two_tiers(tmp_path) as store:
        data = {b"k%d" % number: os.urandom(90_000) for number in range(8)}
        infos = {key: await put(store, key, each) for key, each in data.items()}
        copy = await store.objects.copy("bucket", b"k0", None, "bucket", b"copy", ObjectSpec(), ANY, time.time_ns())
        settle, step = Repack._settle, iter(range(100))

        async def raced(self: Repack, batch: object) -> None:
            number = next(step)
            if number == 1:
                await write_at(store, infos[b"k1"].ino, 30_000, b"y" * 20_000)
                data[b"k1"] = data[b"k1"][:30_000] + b"y" * 20_000 + data[b"k1"][50_000:]
            if number == 2:
                await store.objects.delete("bucket", b"k3", ANY, time.time_ns())
                del data[b"k3"]
            await settle(self, batch)  # type: ignore[arg-type]

        monkeypatch.setattr(Repack, "_settle", raced)
        moving = await move(store, infos[b"k0"].ino, copy.ino, *(infos[key].ino for key in list(infos)[1:]))
        assert next(step) > 4
        assert moving.unreadable == 0
        assert await get(store, b"copy") == data[b"k0"]
        for key, each in data.items():
            assert await get(store, key) == each
            if key != b"k1":
                assert await tiers(store, infos[key].ino) == {"warm"}
        await store.maintenance.reap()
        assert not await audit_rows(store)
        await store.writers["warm"].volumes.seal_idle(0)
        stored = [row.k * (row.length - 128 * row.stripes) for row in await store.catalog.read(volumes, "sealed")]
        assert sum(stored) < 8 * 90_000 + 60_000, "the copy was copied, too"


@pytest.mark.parametrize("ahead", [True, False])
async def test_a_step_that_fails_leaves_its_bytes_where_they_are_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    monkeypatch.setattr(repack, "REPACK_BYTES", 100_000)
    async with two_tiers(tmp_path) as store:
        data = {b"k%d" % number: os.urandom(90_000) for number in range(8)}
        infos = {key: await put(store, key, each) for key, each in data.items()}
        settle, step = Repack._settle, iter(range(100))

        async def failing(self: Repack, batch: object) -> None:
            if next(step) == 2:
                raise StoreFull("no room")
            await settle(self, batch)  # type: ignore[arg-type]

        monkeypatch.setattr(Repack, "_settle", failing)
        moving = Repack(store.catalog, store.reader, store.writers["warm"], ahead=lambda: ahead)
        with pytest.raises(StoreFull):
            await moved(moving, infos.values())
        assert not store.reader.kept()
        assert not store.writers["warm"]._holders
        for key, each in data.items():
            assert await get(store, key) == each
        await move(store, *(info.ino for info in infos.values()))
        for key, each in data.items():
            assert await get(store, key) == each
            assert await tiers(store, infos[key].ino) == {"warm"}
        assert not await audit_rows(store)

"""Files that were written in small pieces: their maps become short when nobody writes them, and no byte changes."""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.defragment import join_extents, with_many_extents
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import layout
from stratumfs.catalog.objects import unchanged_layout
from stratumfs.catalog.reap import inline_bytes
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import KIB, ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.limits import (
    DEFRAGMENT_FILES_MAX,
    DEFRAGMENT_QUIET_S,
    FRAGMENT_MAX,
    FRAGMENTED_EXTENTS,
    TRANSACTION_ROWS_MAX,
)
from stratumfs.location import Location
from stratumfs.store import defragment
from stratumfs.store.defragment import Defragmenter, Fragmented, fragments
from stratumfs.store.inline import InlineBytes
from stratumfs.store.space import TierSpace
from stratumfs.store.store import Store
from stratumfs.values import Extent, ObjectSpec, Publication
from tests.faults.audit import audit_rows, audit_shards
from tests.stratumfs.store.helpers import ANY, MIB, bucket, put
from tests.stratumfs.store.racing import Racing, between, new_file, write_at
from tests.stratumfs.store.test_repack import move, shards, tiers, two_tiers

BLOCK = 4096
BIG = 1 << 40


async def overwritten(store: Store, size: int, count: int, seed: int = 1) -> tuple[InodeNo, bytearray]:
    """A file that was written in order, and then in blocks at random places."""
    rng = random.Random(seed)
    data, ino = bytearray(rng.randbytes(size)), await new_file(store, b"file")
    for at in range(0, size, MIB):
        await write_at(store, ino, at, bytes(data[at : at + MIB]))
    for _ in range(count):
        at, block = rng.randrange(size // BLOCK) * BLOCK, rng.randbytes(BLOCK)
        await write_at(store, ino, at, block)
        data[at : at + BLOCK] = block
    return ino, data


async def all_of(store: Store, ino: InodeNo) -> bytes:
    return bytes(await store.reader.read(ino, 0, BIG))


async def rows(store: Store, ino: InodeNo) -> int:
    return len(await store.reader.layout(ino, 0, BIG))


@pytest.mark.parametrize("inline", [True, False])
async def test_a_map_becomes_short_and_the_bytes_stay(tmp_path: Path, inline: bool) -> None:
    async with bucket(tmp_path) as store:
        if not inline:
            store.writer.inline = InlineBytes(0)
        ino, data = await overwritten(store, 4 * MIB, 1500)
        before = await rows(store, ino)
        etag = (await store.files.attributes(ino)).content
        joined = await store.defragmenter.file(ino)
        assert await rows(store, ino) == before - joined < before / 20
        assert await all_of(store, ino) == data
        assert (await store.files.attributes(ino)).content == etag
        assert await store.catalog.read(inline_bytes) == 0
        assert await store.defragmenter.file(ino) == 0
    async with bucket(tmp_path) as store:
        assert await all_of(store, ino) == data
        assert await audit_rows(store) + await audit_shards(store) == []


async def test_a_log_of_short_lines_becomes_one_inline_extent(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ino = await new_file(store, b"log")
        data = b"".join(b"line %4d\n" % number for number in range(90))
        for at in range(0, len(data), 10):
            await write_at(store, ino, at, data[at : at + 10])
        await store.defragmenter.file(ino)
        [extent] = await store.reader.layout(ino, 0, BIG)
        assert extent.data == data
        assert store.writer.inline.count == len(data)


async def test_holes_and_long_extents_stay_as_they_are(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ino = await new_file(store, b"file")
        data = bytearray(3 * MIB)
        for at in (*range(0, 20 * BLOCK, BLOCK), *range(2 * MIB, 2 * MIB + 20 * BLOCK, BLOCK)):
            data[at : at + BLOCK] = os.urandom(BLOCK)
            await write_at(store, ino, at, bytes(data[at : at + BLOCK]))
        data[MIB : 2 * MIB] = os.urandom(MIB)
        await write_at(store, ino, MIB, bytes(data[MIB : 2 * MIB]))
        await store.files.publish(ino, Publication(None, (), len(data), 1), time.time_ns(), durable=False)
        kept = [each.id for each in await store.reader.layout(ino, MIB, 2 * MIB)]
        await store.defragmenter.file(ino)
        found = await store.reader.layout(ino, 0, BIG)
        assert [(each.offset, each.length) for each in found] == [
            (0, 20 * BLOCK),
            (MIB, MIB),
            (2 * MIB, 20 * BLOCK),
        ]
        assert found[1].id == kept[0]
        assert await all_of(store, ino) == data


async def test_bytes_stay_in_their_tier(tmp_path: Path) -> None:
    async with two_tiers(tmp_path) as store:
        store.writer.inline = InlineBytes(0)
        ino, data = await overwritten(store, MIB, 200)
        await move(store, ino)
        assert await tiers(store, ino) == {"warm"}
        assert await store.defragmenter.file(ino) > 0
        assert await tiers(store, ino) == {"warm"}
        assert await all_of(store, ino) == data


async def test_what_cannot_be_read_stays_where_it_is(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        store.writer.inline = InlineBytes(0)
        ino, _ = await overwritten(store, MIB, 200)
        before = await rows(store, ino)
        store.volume_reader._cache._cells.clear()
        for path in shards(tmp_path):
            if path.suffix in (".0", ".1", ".2"):
                os.truncate(path, 0)
        assert await store.defragmenter.file(ino) == 0
        assert await rows(store, ino) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_users_race_it_and_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(defragment, "FRAGMENTS_MIN", 2)
    monkeypatch.setattr(defragment, "FRAGMENT_MAX", BIG)
    monkeypatch.setattr(defragment, "FRAGMENT_MEAN", BIG)
    monkeypatch.setattr(defragment, "are_shared", lambda *_: False)
    async with bucket(tmp_path) as store:
        racing = Racing(store, seed)
        for _ in range(4):
            await racing.make()
        joined = 0
        for _ in range(20):
            with monkeypatch.context() as patched:
                between(store, racing.step, patched)
                for ino in list(racing.files):
                    joined += await store.defragmenter.file(ino)
            await racing.check()
            for ino in racing.files:
                await racing.write(ino)
        assert joined > 0
        assert await audit_rows(store) == []


async def test_what_was_written_in_pieces_is_noted_and_what_an_owner_left_is_found(tmp_path: Path) -> None:
    later = trio.current_time() + 10 * DEFRAGMENT_QUIET_S
    async with bucket(tmp_path) as store:
        ino, _ = await overwritten(store, MIB, 200)
        assert store.defragmenter._fragmented.due(later) == [ino]
    async with bucket(tmp_path) as store:
        assert store.defragmenter._fragmented.due(later) == []
        await store.defragmenter._recall()
        assert store.defragmenter._fragmented.due(later) == [ino]


@pytest.mark.parametrize("parts", [False, True])
async def test_regression_rows_that_are_joined_within_a_copy_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    """A row that is read as the next one may begin before the end of the last: in the copy they lay over each other."""
    async with bucket(tmp_path) as store:
        store.writer.inline = InlineBytes(0)
        ino = await new_file(store, b"file")
        data = os.urandom(2 * TRANSACTION_ROWS_MAX * 100)
        for at in range(0, len(data), 100):
            await write_at(store, ino, at, data[at : at + 100])
        read, joined, calls = store.catalog.read, 0, 0

        async def reads(fn: Callable[..., object], *args: object) -> object:
            nonlocal joined, calls
            calls += fn in (unchanged_layout, layout)
            if calls == 1 + parts and not joined:  # the first chunk is of the opening, or the first call
                with monkeypatch.context() as patched:
                    patched.setattr(store.catalog, "read", read)
                    rows_before = await store.reader.layout(ino, 0, BIG)
                    middle = rows_before[TRANSACTION_ROWS_MAX - 50 : TRANSACTION_ROWS_MAX + 50]
                    joined = await store.defragmenter._copy(ino, store.writer, [middle], store.writer.packed_payload)
            return await read(fn, *args)  # type: ignore[arg-type]

        async with store.objects.open("bucket", b"file") as reader:
            monkeypatch.setattr(store.catalog, "read", reads)
            extents = await (store.reader.layout(ino, 0, BIG) if parts else reader.extents(0, len(data)))
        assert joined
        ends = [each.offset + each.length for each in extents]
        assert [each.offset for each in extents] == [0, *ends[:-1]]
        assert ends[-1] == len(data)


async def test_regression_what_the_packer_came_first_to_is_joined_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows were others when they were to be swapped, and stayed short for good."""
    async with bucket(tmp_path) as store:
        ino = await new_file(store, b"file")
        data = os.urandom(100 * BLOCK)
        for at in range(0, len(data), BLOCK):
            await write_at(store, ino, at, data[at : at + BLOCK])
        store.defragmenter._fragmented.due(BIG)  # what was published is not noted any more
        commit = store.catalog.write

        async def late(fn: Callable[..., object], *args: object) -> object:
            if fn is join_extents:
                monkeypatch.undo()
                await store.packer.round(len(data))
            return await commit(fn, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store.catalog, "write", late)
        await store.defragmenter.file(ino)
        assert await rows(store, ino) == 100
        assert store.defragmenter._fragmented.due(BIG) == [ino]
        await store.defragmenter.file(ino)
        assert await rows(store, ino) < 5
        assert await all_of(store, ino) == data
        assert store.defragmenter._fragmented.due(BIG) == []


async def test_it_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bucket(tmp_path) as store:
        ino, data = await overwritten(store, MIB, 200)
    monkeypatch.setattr(defragment, "DEFRAGMENT_QUIET_S", 0.0)
    monkeypatch.setattr(defragment, "DEFRAGMENT_LOOK_S", 0.001)
    done, join = trio.Event(), Defragmenter.file

    async def file(self: Defragmenter, ino: InodeNo) -> int:
        joined = await join(self, ino)
        done.set()
        return joined

    monkeypatch.setattr(Defragmenter, "file", file)
    async with bucket(tmp_path) as store:
        with trio.fail_after(60):
            await done.wait()
        assert await rows(store, ino) <= 5
        assert await all_of(store, ino) == data


def test_files_are_due_when_they_are_quiet_and_got_many_extents() -> None:
    found = Fragmented()
    found.note(InodeNo(1), FRAGMENTED_EXTENTS, 0)
    found.note(InodeNo(2), FRAGMENTED_EXTENTS - 1, 0)
    found.note(InodeNo(3), FRAGMENTED_EXTENTS, 1)
    assert found.due(DEFRAGMENT_QUIET_S) == [1]
    assert found.due(DEFRAGMENT_QUIET_S) == []
    assert found.due(DEFRAGMENT_QUIET_S + 1) == [3]


def test_files_that_are_remembered_have_a_bound() -> None:
    found = Fragmented()
    for number in range(DEFRAGMENT_FILES_MAX + 5):
        found.note(InodeNo(number), FRAGMENTED_EXTENTS, 0)
    assert found.due(DEFRAGMENT_QUIET_S) == list(range(5, DEFRAGMENT_FILES_MAX + 5))


def test_fragments_follow_one_another_and_are_short() -> None:
    def extent(offset: int, length: int) -> Extent:
        at = Location(VolumeId(b"v" * 16), StripeNo(0), 0, 4096, 0, Nonce(0))
        return Extent(ExtentId(offset), InodeNo(1), offset, length, at, None)

    def runs(extents: Sequence[Extent], tiers: str = "", *, ended: bool = True) -> tuple[list[list[Extent]], int]:
        found, start = fragments(extents, tiers or "h" * len(extents), ended=ended)
        return [run.extents for run in found], start

    long, short = extent(0, FRAGMENT_MAX + 1), [extent(FRAGMENT_MAX + 1 + at * KIB, KIB) for at in range(4)]
    end = short[-1].offset + KIB
    behind = extent(end, FRAGMENT_MAX + 1)
    assert runs([long, *short]) == ([short], end)
    assert runs([long]) == ([], FRAGMENT_MAX + 1)
    assert runs([*short, behind]) == ([short], behind.offset + behind.length)
    assert runs([short[0], short[1], short[3]]) == ([short[:2], short[3:]], end)
    assert runs(short, "hhww") == ([short[:2], short[2:]], end)
    # The file goes on: so may the last run, but for one that is all there is.
    assert runs([long, *short], ended=False) == ([], short[0].offset)
    assert runs([short[0], short[1], short[3]], ended=False) == ([short[:2]], short[3].offset)
    assert runs(short, ended=False) == ([short], end)
    assert runs([*short, behind], ended=False) == ([short], behind.offset + behind.length)


async def test_what_copies_share_stays_shared(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        store.writer.inline = InlineBytes(0)
        ino, data = await overwritten(store, MIB, 200)
        before = await rows(store, ino)
        now_ns = time.time_ns()
        copy = await store.objects.copy("bucket", b"file", None, "bucket", b"copy", ObjectSpec(), ANY, now_ns)
        assert await store.defragmenter.file(copy.ino) == await store.defragmenter.file(ino) == 0
        await store.objects.delete("bucket", b"file", ANY, time.time_ns())
        await store.maintenance.round()
        assert await store.defragmenter.file(copy.ino) > before // 2
        assert await all_of(store, copy.ino) == data


async def test_room_that_is_scarce_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bucket(tmp_path) as store:
        ino, _ = await overwritten(store, MIB, 200)
        monkeypatch.setattr(store.space, "now", TierSpace(1000, 99))
        assert await store.defragmenter.file(ino) == 0


async def test_an_error_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defragment, "DEFRAGMENT_QUIET_S", 0.0)
    monkeypatch.setattr(defragment, "DEFRAGMENT_LOOK_S", 0.001)
    tried, read = trio.Event(), Catalog.read

    async def broken(self: Catalog, fn: Callable[..., object], *args: object) -> object:
        if fn is with_many_extents:
            if broken.calls == 2:  # type: ignore[attr-defined]
                tried.set()
            broken.calls += 1  # type: ignore[attr-defined]
            raise CatalogCorrupt("a bad page") if broken.calls == 1 else ValueError("a fault")  # type: ignore[attr-defined]
        return await read(self, fn, *args)  # type: ignore[arg-type]

    broken.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Catalog, "read", broken)
    async with bucket(tmp_path) as store:
        with trio.fail_after(60):
            await tried.wait()
        await put(store, b"k", b"x")

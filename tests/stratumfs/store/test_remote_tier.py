"""A tier in somebody's S3: what is moved there and back, and what is left where that stops."""

import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from stratumfs.catalog.epochs import NamedImage
from stratumfs.catalog.extents import layout
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, free_volumes, volumes
from stratumfs.errors import ColdUnavailable, DeviceFailed, StoreBusy, StoreReadOnly, TooFewShards
from stratumfs.ids import Buffer, CellIndex, VolumeId
from stratumfs.owner.cold import places_of
from stratumfs.owner.recovery import mend
from stratumfs.shards.budget import RecallBudget
from stratumfs.shards.encrypted import HEADER_SIZE, SEGMENT, TAG, MasterKey, encrypt
from stratumfs.shards.layout import ShardName
from stratumfs.shards.recalled import Recalled
from stratumfs.shards.remote_shards import RemoteShards, object_name
from stratumfs.store import maintenance, remote_tier, repack
from stratumfs.store.remote_tier import Offsite
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.remote import REMOTE_CODE, RemoteSource, remote_id
from stratumfs.volumes.toc import attributes
from stratumfs.volumes.walk import read_toc
from tests.faults import acts
from tests.remotes import MemoryRemote
from tests.stores import STORE, make_store, make_warm, running_store
from tests.stratumfs.store.helpers import get, put

PATIENCE_S = 60.0
MARKER = f"{STORE.hex()}/owner"
MASTER = MasterKey(bytes(range(32)))
DATA = bytes(range(256)) * 10_000


class Refusing(MemoryRemote):
    """refuses: verbs that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()
        self.refused = 0

    def put(self, name: str, source: Buffer) -> None:
        self._enter("put")
        super().put(name, source)

    def get(self, name: str, offset: int, length: int) -> bytes:
        self._enter("get")
        return super().get(name, offset, length)

    def delete(self, name: str) -> None:
        self._enter("delete")
        super().delete(name)

    def _enter(self, verb: str) -> None:
        if verb in self.refuses:
            self.refused += 1
            raise DeviceFailed("it refuses", self.label)


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)


def offsite(folder: Path, remote: MemoryRemote, master: MasterKey | None = MASTER) -> Offsite:
    return Offsite("cold", remote, master, None if master else "its key is not there", 60.0, places_of([folder]))


@asynccontextmanager
async def with_cold(folder: Path, remote: MemoryRemote, master: MasterKey | None = MASTER) -> AsyncIterator[Store]:
    fresh = not (folder / "catalog").exists()
    if fresh:
        make_store(folder)
    async with running_store(folder, offsite=offsite(folder, remote, master)) as store:
        if fresh:
            await store.objects.create_bucket("bucket", 1)
        yield store


async def move(store: Store, key: str, tier: str) -> Repack:
    repack = Repack(store.catalog, store.reader, store.targets[tier])
    with repack.running():
        await repack.inode(await acts.find(store, f"bucket/{key}"))
        await repack.flush()
    return repack


async def rows(store: Store, state: str) -> list[VolumeRow]:
    return [row for row in await store.catalog.read(volumes, state) if row.remote]


async def test_what_is_moved_there_is_read_from_there_and_comes_back(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"large", DATA)
        await put(store, b"small", DATA[:20_000])
        for key in ("large", "small"):
            repack = await move(store, key, "cold")
            assert repack.moved == repack.taken
        assert len([name for name in remote.objects if "/volumes/" in name]) == 2
        [*found] = await rows(store, SEALED)
        assert sum(row.live for row in found) == len(DATA) + 20_000
    async with with_cold(tmp_path, remote) as store:  # nothing is cached
        assert await get(store, b"large") == DATA
        assert await get(store, b"large", 1_500_000, 1_500_010) == DATA[1_500_000:1_500_010]
        assert await get(store, b"small") == DATA[:20_000]
        await move(store, "large", "hot")
        assert await get(store, b"large") == DATA


async def test_what_is_deleted_goes_there_too_and_its_row_last(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await acts.delete(store, "bucket/key")
        await store.maintenance.reap()
        await no_volumes_left(store)
        assert [*remote.objects] == [MARKER]


async def test_a_delete_that_fails_is_tried_by_the_next_owner(tmp_path: Path, no_grace: None) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await acts.delete(store, "bucket/key")
        await store.maintenance.reap()
        remote.refuses.add("delete")
        await store.maintenance.round()
        await until(lambda: remote.refused > 0)
        [row] = await rows(store, FREED)
        assert not store.remotes["cold"].free(row)
    remote.refuses.clear()
    async with with_cold(tmp_path, remote) as store:
        await no_volumes_left(store)
        assert [*remote.objects] == [MARKER]


class Holding(MemoryRemote):
    """holds: an object that cannot be deleted."""

    holds = ""

    def delete(self, name: str) -> None:
        if name == self.holds:
            raise DeviceFailed("it is locked", self.label)
        super().delete(name)


async def test_an_object_that_cannot_be_deleted_holds_up_no_other(tmp_path: Path, no_grace: None) -> None:
    remote = Holding()
    async with with_cold(tmp_path, remote) as store:
        for key in ("one", "two"):
            await put(store, key.encode(), DATA)
            await move(store, key, "cold")
        sealed = {row.id for row in await rows(store, SEALED)}
        [remote.holds, other] = [object_name(STORE, MASTER, ident) for ident in sealed]
        for key in ("one", "two"):
            await acts.delete(store, f"bucket/{key}")
        await store.maintenance.reap()
        await store.maintenance.round()
        await until(lambda: other not in remote.objects)
        assert remote.holds in remote.objects


async def test_an_upload_that_is_given_up_while_it_waits_for_a_thread_is_under_way_no_more(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        tier = store.remotes["cold"]
        turns = int(tier._writers.total_tokens)
        async with trio.open_nursery() as nursery:
            for turn in range(turns):
                await tier._writers.acquire_on_behalf_of(turn)
            nursery.start_soon(tier._put, VolumeId(bytes(16)), DATA)
            await until(lambda: bool(tier._putting))
            nursery.cancel_scope.cancel()
        for turn in range(turns):
            tier._writers.release_on_behalf_of(turn)
        assert not tier._putting
        assert not remote.objects


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_what_cannot_be_put_there_stays_where_it_is(tmp_path: Path, no_grace: None, verb: str) -> None:
    """Before its row, as the marker is looked for, and behind it."""
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"first", DATA)
        await move(store, "first", "cold")
        await put(store, b"key", DATA)
        remote.refuses.add(verb)
        with pytest.raises(ColdUnavailable):
            await move(store, "key", "cold")
        assert await get(store, b"key") == DATA
        remote.refuses.clear()
        await acts.delete(store, "bucket/first")
        await store.maintenance.reap()
        await no_volumes_left(store)
        assert [*remote.objects] == [MARKER]


async def test_what_a_killed_owner_was_about_to_name_goes(tmp_path: Path, no_grace: None) -> None:
    """Its row is open, and its object is there."""
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")  # so that there is a marker
        tier = store.remotes["cold"]
        info = VolumeInfo(VolumeId(bytes(16)), "cold", REMOTE_CODE, (tier.ident,))
        await tier.ledger.opened(info)
        name = object_name(STORE, MASTER, info.id)
        remote.put(name, encrypt(MASTER, STORE, info.id, b"bytes"))
        await mend(STORE, store.catalog, store.devices)
        await store.maintenance.round()
        await until(lambda: name not in remote.objects)
        assert await get(store, b"key") == DATA


async def test_of_two_stores_that_were_one_the_second_to_write_there_deletes_nothing(
    tmp_path: Path, no_grace: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_tier, "REMOTE_AGAIN_S", 0.1)
    remote, copied = MemoryRemote(), tmp_path / "copy"
    async with with_cold(tmp_path / "one", remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
    shutil.copytree(tmp_path / "one", copied)
    async with with_cold(tmp_path / "one", remote) as store:
        await put(store, b"other", DATA)
        await move(store, "other", "cold")
    there = {*remote.objects}
    async with with_cold(copied, remote) as store:
        await acts.delete(store, "bucket/key")
        await store.maintenance.reap()
        await store.maintenance.round()
        await until(lambda: store.remotes["cold"].read_only is not None)
        with pytest.raises(StoreReadOnly, match="another's"):
            store.remotes["cold"].check_writable()
        assert {*remote.objects} == there
        assert len(await rows(store, FREED)) == 1
        await store.remotes["cold"].claim.check(take=True)  # an administrator says that it is the one
        await no_volumes_of(store, FREED)
    async with with_cold(tmp_path / "one", remote) as store:
        assert await get(store, b"other") == DATA
        with pytest.raises(StoreReadOnly):
            await store.remotes["cold"].claim.check()


async def test_a_copy_that_would_be_the_first_to_write_there_deletes_nothing_until_somebody_says_so(
    tmp_path: Path, no_grace: None
) -> None:
    remote, copied = MemoryRemote(), tmp_path / "copy"
    async with with_cold(tmp_path / "one", remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
    shutil.copytree(tmp_path / "one", copied)
    there = {*remote.objects}
    async with with_cold(copied, remote) as store:
        await move(store, "key", "hot")
        await store.maintenance.round()
        await until(lambda: store.remotes["cold"].read_only is not None)
        assert {*remote.objects} == there
        with pytest.raises(StoreReadOnly, match="copied or moved"):
            store.remotes["cold"].check_writable()
    async with with_cold(tmp_path / "one", remote) as store:
        assert await get(store, b"key") == DATA
        await store.remotes["cold"].claim.check()
    async with with_cold(copied, remote) as store:
        await store.remotes["cold"].claim.check(take=True)
        await no_volumes_left(store)
        assert [*remote.objects] == [MARKER]


async def test_without_its_marker_nobody_takes_what_lies_there(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        del remote.objects[MARKER]
        with pytest.raises(StoreReadOnly, match="is gone"):
            await store.remotes["cold"].claim.check()
    async with with_cold(tmp_path, remote) as store:
        with pytest.raises(StoreReadOnly, match="is gone"):
            await store.remotes["cold"].claim.check()
        await store.remotes["cold"].claim.check(take=True)
        await store.remotes["cold"].claim.check()


class FlakyMarker(MemoryRemote):
    """The marker is stored, or is not, and the answer is an error in both."""

    stores: bool | None = None

    def put(self, name: str, source: Buffer) -> None:
        if name != MARKER or self.stores is not False:
            super().put(name, source)
        if name == MARKER and self.stores is not None:
            raise DeviceFailed("no answer", self.label)


async def test_a_marker_that_came_there_without_an_answer_is_ours(tmp_path: Path) -> None:
    remote = FlakyMarker()
    async with with_cold(tmp_path, remote) as store:
        await store.remotes["cold"].claim.check()
    async with with_cold(tmp_path, remote) as store:
        for remote.stores in (True, False):
            with pytest.raises(DeviceFailed):
                await store.remotes["cold"].claim.check()
        remote.stores = None
        await store.remotes["cold"].claim.check()


async def test_without_the_key_all_else_works_and_cold_data_is_refused_in_words(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"cold", DATA)
        await put(store, b"hot", DATA)
        await move(store, "cold", "cold")
    async with with_cold(tmp_path, remote, None) as store:
        assert await get(store, b"hot") == DATA
        with pytest.raises(ColdUnavailable, match="its key is not there"):
            await get(store, b"cold")
        with pytest.raises(StoreReadOnly):
            store.remotes["cold"].check_writable()


async def test_what_a_service_changes_is_never_served(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
    [name] = [name for name in remote.objects if "/volumes/" in name]
    whole = remote.objects[name]
    at = HEADER_SIZE + SEGMENT + TAG
    swapped = (
        whole[:HEADER_SIZE] + whole[at : 2 * at - HEADER_SIZE] + whole[HEADER_SIZE:at] + whole[2 * at - HEADER_SIZE :]
    )
    changed = {
        "header": bytes([whole[0] ^ 1]) + whole[1:],
        "wrapped key": whole[:30] + bytes([whole[30] ^ 1]) + whole[31:],
        "segment": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "order": swapped,
        "end": whole[:-SEGMENT],
    }
    for what, data in changed.items():
        assert data != whole, what
        remote.objects[name] = data
        async with with_cold(tmp_path, remote) as store:
            with pytest.raises((TooFewShards, ColdUnavailable)):
                await get(store, b"key")
    remote.objects[name] = whole
    async with with_cold(tmp_path, remote) as store:
        assert await get(store, b"key") == DATA


class Garbling(MemoryRemote):
    """Each range comes wrong the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[str, int, int]] = set()

    def get(self, name: str, offset: int, length: int) -> bytes:
        data = super().get(name, offset, length)
        if "/volumes/" not in name or (name, offset, length) in self.asked:
            return data
        self.asked.add((name, offset, length))
        return bytes([data[0] ^ 1]) + data[1:]


async def test_what_comes_wrong_is_asked_for_once_more(tmp_path: Path) -> None:
    remote = Garbling()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
    async with with_cold(tmp_path, remote) as store:
        assert await get(store, b"key") == DATA
        assert len(remote.asked) > 1


async def test_an_object_says_what_lies_in_it(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        [row] = await rows(store, SEALED)
        entries = read_toc(RemoteShards(remote, MASTER, STORE), ShardName(row.id, CellIndex(0)))
        ino = await acts.find(store, "bucket/key")
        assert {entry.path for entry in entries if entry.length} == {b"bucket/key"}
        assert sum(entry.length for entry in entries) == len(DATA)
        assert attributes(entries)[ino].size == len(DATA)
        extents = await store.catalog.read(layout, ino, 0, len(DATA))
        assert {entry.location for entry in entries if entry.length} == {extent.location for extent in extents}


async def no_volumes_left(store: Store) -> None:
    await no_volumes_of(store, OPEN, SEALED, FREED)


async def no_volumes_of(store: Store, *states: str) -> None:
    """Round by round, as nobody waits for a remote."""
    with trio.fail_after(PATIENCE_S):
        while True:
            await store.maintenance.round()
            if not [row for state in states for row in await rows(store, state)]:
                return
            await trio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """A thread's doing tells nobody."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


class Slow(MemoryRemote):
    """A volume is not put before *go*."""

    def __init__(self) -> None:
        super().__init__()
        self.put_begun, self.go = threading.Event(), threading.Event()

    def put(self, name: str, source: Buffer) -> None:
        if "/volumes/" in name:
            self.put_begun.set()
            assert self.go.wait(PATIENCE_S)
        super().put(name, source)


async def test_no_image_is_of_the_time_between_a_table_and_the_rows_that_it_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild asks only tables that are younger than its image."""
    remote, named, swapped = Slow(), list[NamedImage](), list[int]()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        end = store.naming.end

        def note() -> None:
            swapped.append(store.catalog.statistics().sequence)
            end()

        async def image() -> None:
            named.append(await store.imager.write(paced=False))

        monkeypatch.setattr(store.naming, "end", note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(move, store, "key", "cold")
            await until(remote.put_begun.is_set)
            nursery.start_soon(image)
            await until(lambda: bool(named) or store.naming.wanted)
            remote.go.set()
        assert len(swapped) == 1
        assert named[0].sequence >= swapped[0]


class Asked(MemoryRemote):
    """asked: (offset, length) of each range of a volume, but for headers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    def get(self, name: str, offset: int, length: int) -> bytes:
        if "/volumes/" in name and length != HEADER_SIZE:
            self.asked.append((offset, length))
        return super().get(name, offset, length)


async def test_a_move_recalls_each_byte_once_in_few_requests(tmp_path: Path) -> None:
    remote = Asked()
    small = {f"small{number}": bytes([number]) * 17_000 for number in range(50)}
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"large", DATA)
        for key, data in small.items():
            await put(store, key.encode(), data)
        await acts.move(store, "bucket", "cold")
    async with with_cold(tmp_path, remote) as store:
        remote.asked.clear()
        await acts.move(store, "bucket", "hot")
        whole = sum(len(data) for name, data in remote.objects.items() if "/volumes/" in name)
        assert len(remote.asked) <= 3
        assert sum(length for _, length in remote.asked) <= whole
        for key, data in small.items():
            assert await get(store, key.encode()) == data


@pytest.mark.parametrize("there", ["good", "not good", "not"])
async def test_what_was_fetched_ahead_is_taken_by_few_steps_and_what_is_not_good_stripe_by_stripe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"large", DATA)
        for number in range(20):
            await put(store, b"small%d" % number, bytes([number]) * 17_000)
        await acts.move(store, "bucket", "cold")
        for number in range(0, 20, 2):  # what lies between others that go
            await acts.delete(store, f"bucket/small{number}")
    async with with_cold(tmp_path, remote) as store:
        view = Recalled.view

        def seen(self: Recalled, volume: VolumeId, position: int, length: int, patience_s: float) -> Buffer | None:
            found = view(self, volume, position, length, patience_s)
            assert found is not None
            return {"good": found, "not good": bytes(length), "not": None}[there]

        monkeypatch.setattr(Recalled, "view", seen)
        source = store.volume_reader._devices[remote_id(STORE, "cold")]
        assert isinstance(source, RemoteSource)
        await acts.move(store, "bucket", "hot")
        assert (source.reads <= 3) == (there == "good")
        assert store.volume_reader.statistics()["cells_verified"] <= 4, "small ones lie in one"
        assert await get(store, b"large") == DATA
        for number in range(1, 20, 2):
            assert await get(store, b"small%d" % number) == bytes([number]) * 17_000


async def test_a_sequential_reader_is_read_ahead_for_and_not_behind_what_he_asked_for(tmp_path: Path) -> None:
    remote = Asked()
    data = bytes(range(256)) * (20 * 4096)
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"before", data[:3_000_000])
        await put(store, b"key", data)
        await put(store, b"behind", data[:3_000_000])
        await acts.move(store, "bucket", "cold")
    async with with_cold(tmp_path, remote) as store:
        remote.asked.clear()
        assert await get(store, b"key") == data
        assert len(remote.asked) <= len(data) // (4 << 20) + 3
        assert sum(length for _, length in remote.asked) < len(data) + 20 * SEGMENT
    async with with_cold(tmp_path, remote) as store:
        remote.asked.clear()
        assert await get(store, b"key", 1_000_000, 4_000_000) == data[1_000_000:4_000_000]
        assert sum(length for _, length in remote.asked) < 3_000_000 + (2 << 20) + 4 * SEGMENT


async def test_small_neighbours_come_with_what_was_read(tmp_path: Path) -> None:
    remote = Asked()
    async with with_cold(tmp_path, remote) as store:
        for number in range(40):
            await put(store, f"k{number}".encode(), bytes([number]) * 17_000)
        await acts.move(store, "bucket", "cold")
    async with with_cold(tmp_path, remote) as store:
        remote.asked.clear()
        for number in range(40):
            assert await get(store, f"k{number}".encode()) == bytes([number]) * 17_000
        assert len(remote.asked) < 30


async def test_who_reads_when_the_budget_is_used_up_is_told_so_and_what_is_hot_is_read(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"cold", DATA)
        await put(store, b"hot", DATA)
        await move(store, "cold", "cold")
    budget = RecallBudget(1000.0, waits=False)
    async with running_store(tmp_path, offsite=replace(offsite(tmp_path, remote), budget=budget)) as store:
        assert len(await get(store, b"cold", 0, 10)) == 10
        with pytest.raises(StoreBusy, match="recall_bytes_day"):
            await get(store, b"cold", 2_000_000, 2_000_010)
        assert await get(store, b"hot") == DATA
        assert store.remotes["cold"].statistics()["recalled_bytes"] > 1000


class Opening(RecallBudget):
    """Closed for the first who asks, for a moment."""

    asked = 0

    def closed_s(self) -> float:
        self.asked += 1
        return 0.001 if self.asked == 1 else 0.0


async def test_who_may_wait_for_the_budget_waits(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"cold", DATA)
        await move(store, "cold", "cold")
    for waits in (True, False):
        budget = Opening(waits=waits)
        async with running_store(tmp_path, offsite=replace(offsite(tmp_path, remote), budget=budget)) as store:
            if waits:
                assert await get(store, b"cold", 0, 10) == DATA[:10]
            else:
                with pytest.raises(StoreBusy):
                    await get(store, b"cold", 0, 10)


def keeping(folder: Path, remote: MemoryRemote, keep_s: float = 3600.0) -> Offsite:
    return replace(offsite(folder, remote), clean_s=keep_s)


async def test_what_was_brought_back_goes_there_again_without_an_upload(tmp_path: Path, no_grace: None) -> None:
    remote = Asked()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await put(store, b"other", DATA)
        await acts.move(store, "bucket", "cold")
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await move(store, "key", "hot")
        await move(store, "other", "hot")
        await store.maintenance.round()
        there = {name for name in remote.objects if "/volumes/" in name}
        assert there
        await acts.delete(store, "bucket/other")  # and writes anew, in part
        before = store.remotes["cold"].uploads
        again = await move(store, "key", "cold")
        assert again.moved == len(DATA)
        assert store.remotes["cold"].uploads == before
        assert {name for name in remote.objects if "/volumes/" in name} == there
        hot = [row.id for row in await store.catalog.read(volumes, SEALED) if not row.remote]
        hot += [row.id for row in await store.catalog.read(volumes, OPEN)]
        assert hot
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        assert await get(store, b"key") == DATA


async def test_what_it_came_from_waits_for_an_image_that_knows_where_it_is(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await move(store, "key", "hot")
        await store.writer.volumes.seal_idle(0)
        [hot] = [row for row in await store.catalog.read(volumes, SEALED) if row.live and not row.remote]
        await move(store, "key", "cold")
        for _ in range(2):
            await store.maintenance.round()
        assert hot.id in [row.id for row in await store.catalog.read(volumes, FREED)]
        assert store.imager.wanted
        await store.imager.write(paced=False)
        for _ in range(2):
            await store.maintenance.round()
        assert hot.id not in [row.id for row in await store.catalog.read(volumes, FREED)]
        assert await get(store, b"key") == DATA


async def test_the_wait_for_an_image_outlasts_its_owner(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        for key in ("key", "other"):
            await put(store, key.encode(), DATA)
            await move(store, key, "cold")
            await move(store, key, "hot")
        await store.writer.volumes.seal_idle(0)
        [hot] = [row for row in await store.catalog.read(volumes, SEALED) if row.live and not row.remote]
        await move(store, "key", "cold")
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await acts.delete(store, "bucket/other")  # only now it is empty
        await store.maintenance.reap()
        for _ in range(2):
            await store.maintenance.round()
        assert hot.id in [row.id for row in await store.catalog.read(volumes, FREED)]
        assert store.imager.wanted
        await store.imager.write(paced=False)
        for _ in range(2):
            await store.maintenance.round()
        assert hot.id not in [row.id for row in await store.catalog.read(volumes, FREED)]
        assert await get(store, b"key") == DATA


async def test_what_it_came_from_waits_for_tables_in_all_tiers_that_it_went_on_to(
    tmp_path: Path, no_grace: None
) -> None:
    remote = MemoryRemote()
    make_warm(tmp_path)
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        for tier in ("cold", "hot", "warm"):
            await move(store, "key", tier)
        still_open = {row.tier for row in await store.catalog.read(volumes, OPEN) if row.live or row.tier == "hot"}
        assert still_open == {"hot", "warm"}
        await store.maintenance.round()
        told = store.remotes["cold"].statistics()
        assert told["deletes_waiting"] + told["deletes"] == 1
        [heir] = [row for state in (OPEN, SEALED) for row in await store.catalog.read(volumes, state) if row.live]
        assert (heir.tier, heir.state) == ("warm", SEALED)


async def test_a_clean_copy_that_is_not_there_any_more_is_not_believed(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await move(store, "key", "hot")
        [name] = [name for name in remote.objects if "/volumes/" in name]
        del remote.objects[name]
        assert (await move(store, "key", "cold")).moved == len(DATA)
        assert await get(store, b"key") == DATA
        assert len([name for name in remote.objects if "/volumes/" in name]) == 1


class Going(MemoryRemote):
    """asked: called when it is asked for a header, once."""

    asked: Callable[[], None] | None = None

    def get(self, name: str, offset: int, length: int) -> bytes:
        if self.asked is not None and "/volumes/" in name:
            asked, self.asked = self.asked, None
            asked()
        return super().get(name, offset, length)


async def test_what_is_freed_while_the_service_is_asked_for_it_is_put_anew(tmp_path: Path, no_grace: None) -> None:
    remote = Going()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await move(store, "key", "hot")
        [cold] = await rows(store, SEALED)
        before = store.remotes["cold"].uploads
        remote.asked = lambda: trio.from_thread.run(store.catalog.write, free_volumes, (cold.id,), time.time_ns())
        assert (await move(store, "key", "cold")).moved == len(DATA)
        assert store.remotes["cold"].uploads == before + 1
        assert cold.id in [row.id for row in await store.catalog.read(volumes, FREED)]
        assert await get(store, b"key") == DATA


async def test_an_overwrite_goes_there_and_only_the_rest_is_there_already(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await move(store, "key", "hot")
        ino, new = await acts.find(store, "bucket/key"), b"n" * 300_000
        await acts.publish(store, ino, [(1_000_000, new)], len(DATA), durable=True)
        uploaded = store.remotes["cold"].uploaded_bytes
        await move(store, "key", "cold")
        assert store.remotes["cold"].uploaded_bytes - uploaded < 2 * len(new)
        assert await get(store, b"key") == DATA[:1_000_000] + new + DATA[1_300_000:]


async def test_a_copy_goes_when_its_time_is_over(
    tmp_path: Path, no_grace: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = MemoryRemote()
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
        await move(store, "key", "hot")
        await store.maintenance.round()
        assert len([name for name in remote.objects if "/volumes/" in name]) == 1
        now_ns = time.time_ns()
        monkeypatch.setattr(maintenance.time, "time_ns", lambda: now_ns + int(3601e9))
        await no_volumes_left(store)
        assert [*remote.objects] == [MARKER]


async def test_what_is_left_of_the_budget_outlasts_an_owner_and_grows_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, day = MemoryRemote(), 100 * len(DATA)

    async def left_at_start(*, read: bool = False) -> int:
        budget = RecallBudget(float(day), waits=False)
        async with running_store(tmp_path, offsite=replace(offsite(tmp_path, remote), budget=budget)) as store:
            left = budget.left()
            assert left is not None
            if read:
                assert await get(store, b"key") == DATA
            return left[0]

    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await move(store, "key", "cold")
    assert await left_at_start(read=True) == day
    assert day - 2 * len(DATA) < await left_at_start() < day - len(DATA) // 2
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 86_400.0)
    assert await left_at_start() == day


async def test_regression_an_image_that_is_wanted_between_two_steps_stops_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step waited for the image, and the image for what the step before it had named, for ever."""
    monkeypatch.setattr(repack, "REPACK_BYTES", 100_000)
    async with with_cold(tmp_path, MemoryRemote()) as store, trio.open_nursery() as nursery:
        data = {b"k%d" % number: bytes([number]) * 90_000 for number in range(3)}
        infos = [await put(store, key, each) for key, each in data.items()]
        settle, images = Repack._settle, 0

        async def image() -> None:
            nonlocal images
            async with store.naming.nothing_begun():
                images += 1

        async def wanted(self: Repack, batch: object) -> None:
            await settle(self, batch)  # type: ignore[arg-type]
            nursery.start_soon(image)
            await trio.testing.wait_all_tasks_blocked()

        monkeypatch.setattr(Repack, "_settle", wanted)
        moving = Repack(store.catalog, store.reader, store.targets["cold"], ahead=lambda: True)
        with trio.fail_after(PATIENCE_S), moving.running():
            for info in infos:
                await moving.inode(info.ino)
            await moving.flush()
        assert moving.moved == sum(map(len, data.values()))
        with trio.fail_after(PATIENCE_S):
            while images < len(infos):
                await trio.testing.wait_all_tasks_blocked()
        for key, each in data.items():
            assert await get(store, key) == each

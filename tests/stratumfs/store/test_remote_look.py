"""What looks at a tier in somebody's S3 find, and what they remove."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.claims import claims, forget_claims
from stratumfs.catalog.scrubs import looked_at, verified_at
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import FREED, SEALED, volumes
from stratumfs.cold_limits import SWEEP_GRACE_S, SWEEP_SKEW_S
from stratumfs.errors import DeviceFailed, TooFewShards
from stratumfs.ids import CellIndex, VolumeId
from stratumfs.shards.encrypted import HEADER_SIZE, encrypt
from stratumfs.shards.layout import ShardName
from stratumfs.shards.remote import Listed
from stratumfs.shards.remote_shards import object_name
from stratumfs.store import remote_scrub, remote_tier
from stratumfs.store.remote_look import Looked
from stratumfs.store.remote_scrub import RemoteScrubber
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.audit import audit_rows
from tests.remotes import MemoryRemote
from tests.stores import STORE, running_store
from tests.stratumfs.store.helpers import get, put
from tests.stratumfs.store.test_remote_tier import (
    DATA,
    MASTER,
    Refusing,
    keeping,
    move,
    no_grace,
    no_volumes_of,
    rows,
    with_cold,
)

__all__ = ["no_grace"]  # a fixture


async def look(store: Store, *, full: bool = False) -> Looked:
    async def step(_: float, __: int) -> None: ...

    found = store.remotes["cold"].look
    assert found is not None
    return await found.look(full=full, step=step)


async def filled(store: Store) -> VolumeId:
    await put(store, b"key", DATA)
    await move(store, "key", "cold")
    [row] = await rows(store, SEALED)
    return row.id


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_what_is_as_it_was_put_is_well_and_all_of_it_is_read_only_where_that_is_asked_for(tmp_path: Path) -> None:
    async with with_cold(tmp_path, MemoryRemote()) as store:
        ident = await filled(store)
        quick, whole = await look(store), await look(store, full=True)
        assert (quick.volumes, quick.bytes, quick.bad, quick.unknown) == (1, 0, {}, [])
        assert (whole.volumes, whole.bad, whole.unknown) == (1, {}, [])
        assert whole.bytes > len(DATA)
        assert set(await store.catalog.read(verified_at, ident)) == {CellIndex(0)}


async def test_a_missing_a_cut_and_another_object_are_found_by_a_quick_look(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        name = object_name(STORE, MASTER, ident)
        data = remote.objects[name]
        for what, wrong in {
            "has no": None,
            "bytes where": data[:-1],
            "is damaged": changed(data, 40),
        }.items():
            if wrong is None:
                del remote.objects[name]
            else:
                remote.objects[name] = wrong
            assert what in (await look(store)).bad[ident]
        remote.objects[name] = data
        assert (await look(store)).bad == {}


async def test_a_flipped_bit_is_found_by_who_reads_all(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        name = object_name(STORE, MASTER, ident)
        data = remote.objects[name]
        for at in (HEADER_SIZE, len(data) // 2, len(data) - 1):
            remote.objects[name] = changed(data, at)
            assert (await look(store)).bad == {}
            assert "segment" in (await look(store, full=True)).bad[ident]


async def test_an_object_whose_cells_or_table_are_not_what_rows_say_is_found(tmp_path: Path) -> None:
    """It decrypts, for it was put with the key."""
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        name = object_name(STORE, MASTER, ident)
        data = remote.objects[name]
        found = store.remotes["cold"].look
        assert found is not None
        length = found._length(ident, None)
        plain = found._shards.read_at(ShardName(ident, CellIndex(0)), 0, length)
        for at in (500, length - 10):
            remote.objects[name] = bytes(encrypt(MASTER, STORE, ident, changed(plain, at)))
            assert ident in (await look(store, full=True)).bad
        remote.objects[name] = data
        assert (await look(store, full=True)).bad == {}


async def test_what_is_freed_is_not_missed(tmp_path: Path, no_grace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tier, "REMOTE_AGAIN_S", 0.01)
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await filled(store)
        await acts.delete(store, "bucket/key")
        await store.maintenance.reap()
        remote.refuses.add("delete")
        await store.maintenance.round()
        for name in [name for name in remote.objects if "/volumes/" in name]:
            del remote.objects[name]
        found = await look(store)
        assert (found.bad, found.unknown) == ({}, [])
        remote.refuses.clear()
        await no_volumes_of(store, "freed")


def left_there(remote: MemoryRemote, number: int, age_s: float) -> str:
    """A volume that no row knows."""
    ident = VolumeId(bytes([number]) * 16)
    name = object_name(STORE, MASTER, ident)
    remote.put(name, encrypt(MASTER, STORE, ident, b"left"))
    remote.ages_s[name] = age_s
    return name


def later(age_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our clock."""
    now = time.time()
    monkeypatch.setattr(remote_scrub, "now_s", lambda: now + age_s)


async def test_what_no_row_knows_goes_if_it_is_ours_and_old(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await filled(store)
        young = left_there(remote, 1, SWEEP_GRACE_S - 1)
        old = left_there(remote, 2, SWEEP_GRACE_S + 1)
        before = left_there(remote, 3, 2 * SWEEP_GRACE_S)  # another catalog may know it
        strange = f"{STORE.hex()}/volumes/strange"
        remote.put(strange, b"what is this?")
        remote.ages_s[strange] = SWEEP_GRACE_S + 1
        remote.ahead_s = SWEEP_GRACE_S + SWEEP_SKEW_S + 10  # since the tier was claimed
        found = {each.name: each for each in (await look(store)).unknown}
        assert {name for name, each in found.items() if each.stale} == {old}
        assert {name for name, each in found.items() if each.ours} == {young, old}
        assert found.keys() == {young, old, before, strange}
        scrubber = store.remote_scrubbers["cold"]
        await scrubber.round()
        assert {young, before, strange} <= remote.objects.keys()
        assert old not in remote.objects
        assert store.remotes["cold"].statistics()["unknown_objects"] == 3
        assert (await look(store)).bad == {}


async def test_nothing_goes_that_came_before_the_tier_was_claimed_or_is_another_s(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await filled(store)
        name = left_there(remote, 1, SWEEP_GRACE_S + 1)
        await store.catalog.commit(forget_claims, "cold")  # as of a catalog that was made again
        remote.ahead_s = 100 * SWEEP_GRACE_S
        await store.remote_scrubbers["cold"].round()
        assert name in remote.objects
        assert store.remotes["cold"].statistics()["unknown_objects"] == 1
    async with with_cold(tmp_path, remote) as store:
        await store.remotes["cold"].claim.check(take=True)
        await store.remote_scrubbers["cold"].round(at_once=True)
        assert name in remote.objects
        assert (await store.catalog.read(claims, "cold")).kept is not None


async def test_what_came_before_the_claim_stays_though_our_clock_was_wrong_when_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = MemoryRemote()
    remote.ahead_s = 10 * SWEEP_GRACE_S  # by which ours is set only later
    async with with_cold(tmp_path, remote) as store:
        name = left_there(remote, 1, 2 * SWEEP_GRACE_S)
        await filled(store)
        later(10 * SWEEP_GRACE_S, monkeypatch)
        [found] = (await look(store)).unknown
        assert not found.ours
        await store.remote_scrubbers["cold"].round(at_once=True)
        assert name in remote.objects


async def test_looks_come_once_in_a_period_and_are_remembered(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        tier = store.remotes["cold"]
        scrubber = RemoteScrubber(tier, store.catalog, store.observer, 1000.0, nothing)
        await scrubber.round()
        assert await store.catalog.read(looked_at, "cold") is not None
        del remote.objects[object_name(STORE, MASTER, ident)]
        await scrubber.round()
        assert tier.bad == {}
        await scrubber.round(at_once=True)
        assert tier.bad.keys() == {ident}
        assert tier.statistics()["damaged_volumes"] == 1


class Counting(MemoryRemote):
    """read: bytes."""

    read = 0

    def get(self, name: str, offset: int, length: int) -> bytes:
        self.read += length
        return super().get(name, offset, length)


async def test_all_is_read_once_in_a_slow_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Counting()
    async with with_cold(tmp_path, remote) as store:
        for number in range(3):
            await put(store, f"key{number}".encode(), DATA)
            await move(store, f"key{number}", "cold")
        scrubber = RemoteScrubber(store.remotes["cold"], store.catalog, store.observer, 1e9, nothing)
        scrubber._reread_s = 3 * 3600.0  # one an hour
        await scrubber.round()
        remote.read = 0
        await scrubber.round()
        assert remote.read == 0  # they are younger
        later(4 * 3600.0, monkeypatch)
        for hour in range(3):
            await scrubber.round()
            assert hour * len(DATA) < remote.read < (hour + 1.5) * len(DATA)
            await trio.lowlevel.checkpoint()


def rotten(remote: MemoryRemote, ident: VolumeId) -> None:
    """A segment of it, which its header does not tell."""
    name = object_name(STORE, MASTER, ident)
    remote.objects[name] = changed(remote.objects[name], len(remote.objects[name]) // 2)


@asynccontextmanager
async def brought_back(folder: Path, remote: MemoryRemote) -> AsyncIterator[tuple[Store, VolumeId]]:
    """What lies in a cold volume lies on devices too, and may go there again by a swap alone."""
    async with with_cold(folder, remote) as store:
        ident = await filled(store)
    async with running_store(folder, offsite=keeping(folder, remote)) as store:
        await move(store, "key", "hot")
        yield store, ident


async def nothing(ident: VolumeId) -> int:
    """What is damaged stays so."""
    return 0


def reread(store: Store) -> RemoteScrubber:
    """All that is due, at once."""
    scrubber = RemoteScrubber(store.remotes["cold"], store.catalog, store.observer, 1e9, nothing)
    scrubber._reread_s = 3600.0
    return scrubber


async def test_a_kept_copy_that_a_reread_found_damaged_is_not_gone_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = MemoryRemote()
    async with brought_back(tmp_path, remote) as (store, ident):
        rotten(remote, ident)
        later(2 * 3600.0, monkeypatch)
        scrubber = reread(store)
        await scrubber.round()
        assert store.remotes["cold"].bad.keys() == {ident}
        await scrubber.round(at_once=True)  # headers do not tell, and take nothing back
        assert store.remotes["cold"].bad.keys() == {ident}
        before = store.remotes["cold"].uploads
        assert (await move(store, "key", "cold")).moved == len(DATA)
        assert store.remotes["cold"].uploads == before + 1
    async with with_cold(tmp_path, remote) as store:
        assert await get(store, b"key") == DATA


async def test_a_kept_copy_that_a_reader_met_damaged_is_not_gone_back_to(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        for key in (b"key", b"other"):
            await put(store, key, DATA)
        await acts.move(store, "bucket", "cold")
        [row] = await rows(store, SEALED)
    async with running_store(tmp_path, offsite=keeping(tmp_path, remote)) as store:
        await move(store, "key", "hot")
        name = object_name(STORE, MASTER, row.id)
        good = remote.objects[name]
        remote.objects[name] = changed(good, len(good) - len(DATA) // 4)
        with pytest.raises(TooFewShards):
            await get(store, b"other")
        tier = store.remotes["cold"]
        assert "segment" in tier.bad[row.id]
        assert tier.statistics()["damaged_volumes"] == 1
        before = tier.uploads
        await move(store, "key", "cold")
        assert tier.uploads == before + 1
        await store.remote_scrubbers["cold"].round(at_once=True)
        assert row.id in tier.bad


async def test_what_is_found_whole_or_goes_is_damaged_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        name = object_name(STORE, MASTER, ident)
        good = remote.objects[name]
        tier, scrubber = store.remotes["cold"], reread(store)
        rotten(remote, ident)
        later(2 * 3600.0, monkeypatch)
        await scrubber.round(at_once=True)
        assert tier.bad.keys() == {ident}
        remote.objects[name] = good
        later(4 * 3600.0, monkeypatch)
        await scrubber.round()
        assert tier.bad == {}
        rotten(remote, ident)
        later(8 * 3600.0, monkeypatch)
        await scrubber.round()
        assert tier.bad.keys() == {ident}
        await acts.delete(store, "bucket/key")
        await store.maintenance.reap()
        await store.maintenance.round()
        await scrubber.round(at_once=True)
        assert tier.bad == {}


async def test_a_damaged_object_is_not_read_again_before_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Counting()
    async with with_cold(tmp_path, remote) as store:
        ident = await filled(store)
        rotten(remote, ident)
        later(2 * 3600.0, monkeypatch)
        scrubber = reread(store)
        await scrubber.round()
        assert remote.read > len(DATA) // 2
        remote.read = 0
        for _ in range(3):
            await scrubber.round()
        assert remote.read == 0
        later(3 * 3600.0 + 10, monkeypatch)
        await scrubber.round()
        assert remote.read > len(DATA) // 2


async def test_a_volume_of_which_a_row_is_lost_is_told_of_and_stops_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Counting()
    async with with_cold(tmp_path, remote) as store:
        for number in range(3):
            await put(store, f"key{number}".encode(), DATA)
            await move(store, f"key{number}", "cold")
        lost = min(row.id for row in await rows(store, SEALED))
        await store.catalog.commit(lose_shard, lost)
        found = await look(store, full=True)
        assert found.bad.keys() == {lost}
        assert "fsck" in found.bad[lost]
        assert found.volumes == 3
        later(2 * 3600.0, monkeypatch)
        remote.read = 0
        scrubber = reread(store)
        await scrubber.round()
        assert store.remotes["cold"].bad.keys() == {lost}
        later(4 * 3600.0, monkeypatch)
        await scrubber.round()
        assert remote.read > 2 * len(DATA)


def lose_shard(tx: Transaction, ident: VolumeId) -> None:
    tx.run("delete from shard where volume = ?", (ident,))


class Withholding(MemoryRemote):
    """withheld: names that it does not give; locked: that it does not delete; gets, lists: how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.withheld: set[str] = set()
        self.locked: set[str] = set()
        self.gets = self.lists = 0

    def get(self, name: str, offset: int, length: int) -> bytes:
        self.gets += 1
        if name in self.withheld:
            raise DeviceFailed(f"{name} is archived", self.label)
        return super().get(name, offset, length)

    def delete(self, name: str) -> None:
        if name in self.locked:
            raise DeviceFailed(f"{name} is locked", self.label)
        super().delete(name)

    def listed(self, prefix: str) -> Iterator[Listed]:
        self.lists += 1
        return super().listed(prefix)


async def test_regression_an_object_that_is_withheld_ends_no_look_at_the_others(tmp_path: Path) -> None:
    """It was begun again every hour, and paid for, and never came to what lies behind."""
    remote = Withholding()
    async with with_cold(tmp_path, remote) as store:
        for number in range(4):
            await put(store, f"key{number}".encode(), DATA)
            await move(store, f"key{number}", "cold")
        idents = {object_name(STORE, MASTER, row.id): row.id for row in await rows(store, SEALED)}
        held, *others = sorted(idents)
        remote.withheld.add(held)
        remote.objects[others[-1]] = remote.objects[others[-1]][:-1]
        found = await look(store)
        assert found.withheld.keys() == {idents[held]}
        assert found.bad.keys() == {idents[others[-1]]}
        assert found.volumes == 4
        scrubber = RemoteScrubber(store.remotes["cold"], store.catalog, store.observer, 1000.0, nothing)
        await scrubber.round()
        remote.gets = 0
        await scrubber.round()
        assert remote.gets == 0
        reader = store.remotes["cold"].look
        assert reader is not None
        [row] = [row for row in await rows(store, SEALED) if row.id == idents[held]]
        with pytest.raises(DeviceFailed, match="archived"):
            await reader.read(row)
        remote.withheld.update(idents)
        with pytest.raises(DeviceFailed, match="archived"):
            await look(store)


async def test_regression_what_cannot_be_removed_keeps_nothing_else_there_and_costs_no_look(tmp_path: Path) -> None:
    remote = Withholding()
    async with with_cold(tmp_path, remote) as store:
        await filled(store)
        old = [left_there(remote, number, SWEEP_GRACE_S + 1) for number in range(1, 4)]
        remote.ahead_s = SWEEP_GRACE_S + SWEEP_SKEW_S + 10
        scrubber = store.remote_scrubbers["cold"]
        remote.locked.add(min(old))
        with pytest.raises(DeviceFailed, match="locked"):
            await scrubber.round()
        assert [name for name in old if name in remote.objects] == [min(old)]
        assert await store.catalog.read(looked_at, "cold") is not None
        lists = remote.lists
        with pytest.raises(DeviceFailed, match="locked"):
            await scrubber.round()
        remote.locked.clear()
        await scrubber.round()
        assert remote.lists == lists
        assert not [name for name in old if name in remote.objects]


async def test_one_that_is_not_given_ends_no_reread_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Withholding()
    async with with_cold(tmp_path, remote) as store:
        for key in ("a", "b", "c"):
            await put(store, key.encode(), DATA)
            await move(store, key, "cold")
        first, second, last = sorted(row.id for row in await store.catalog.read(volumes, SEALED) if row.remote)
        remote.withheld = {object_name(STORE, MASTER, second)}
        rotten(remote, last)
        later(2 * 3600.0, monkeypatch)
        await reread(store).round()
        assert store.remotes["cold"].bad.keys() == {last}
        remote.withheld = {object_name(STORE, MASTER, each) for each in (first, second, last)}
        later(4 * 3600.0, monkeypatch)
        with pytest.raises(DeviceFailed):
            await reread(store).round(at_once=True)


@pytest.mark.parametrize("freed", [False, True])
async def test_what_lies_here_too_of_a_damaged_volume_is_named_here(tmp_path: Path, freed: bool) -> None:
    """It went there again by a swap, and what it came from is there yet, marked as freed or not."""
    remote = MemoryRemote()
    async with brought_back(tmp_path, remote) as (store, ident):
        await store.writer.volumes.seal_idle(0)
        uploads = store.remotes["cold"].uploads
        await move(store, "key", "cold")
        assert store.remotes["cold"].uploads == uploads
        if freed:
            await store.maintenance.round()
            assert await store.catalog.read(volumes, FREED)
        rotten(remote, ident)
        store.volume_reader._cache._cells.clear()
        store.remotes["cold"]._shards.forget(ident)  # type: ignore[union-attr]
        with pytest.raises(TooFewShards):
            await get(store, b"key")
        assert store.remotes["cold"].bad.keys() == {ident}
        await store.remote_scrubbers["cold"].remake()
        assert await get(store, b"key") == DATA
        for _ in range(2):
            await store.maintenance.round()
        assert not await audit_rows(store)
        assert await get(store, b"key") == DATA
        await move(store, "key", "cold")
        assert store.remotes["cold"].uploads == uploads + 1
        assert await get(store, b"key") == DATA


def spoil(folder: Path) -> None:
    """All shards."""
    for path in folder.glob("d*/volumes/*/*"):
        path.write_bytes(bytes(path.stat().st_size))


async def test_a_damaged_copy_here_is_no_reason_to_name_it(tmp_path: Path) -> None:
    remote = MemoryRemote()
    async with brought_back(tmp_path, remote) as (store, ident):
        await move(store, "key", "cold")
        rotten(remote, ident)
        store.volume_reader._cache._cells.clear()
        store.remotes["cold"]._shards.forget(ident)  # type: ignore[union-attr]
        with pytest.raises(TooFewShards):
            await get(store, b"key")
        spoil(tmp_path)
        await store.remote_scrubbers["cold"].remake()
        with pytest.raises(TooFewShards):
            await get(store, b"key")

"""The reader: only what is needed, only what is verified, around what is missing."""

import itertools
import random
import threading
from collections.abc import Iterable, Sequence
from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratumfs.errors import ColdUnavailable, DeviceFailed, DeviceUnasked, TooFewShards
from stratumfs.ids import CellIndex, Nonce
from stratumfs.location import Location
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from tests.suites.tier import Tier, payload

FULL = 1 << 20


def counting(tier: Tier, verb: str) -> list[ShardName | None]:
    calls: list[ShardName | None] = []

    def fault(called: str, name: ShardName | None) -> None:
        if called == verb:
            calls.append(name)

    for shards in tier.shards:
        shards.fault = fault
    return calls


async def run_of(tier: Tier, *sizes: int) -> tuple[Location, bytes]:
    """A run of full stripes and perhaps a shorter last one with cells of the same size."""
    data = b"".join(payload(size, number) for number, size in enumerate(sizes))
    after: Location | None = None
    first = None
    at = 0
    for size in sizes:
        after = await tier.append(data[at : at + size], after)
        first = first or after
        at += size
    assert first is not None
    return first, data


async def test_ranges_within_a_stripe_are_read() -> None:
    tier = Tier()
    data = payload(1000)
    location = await tier.append(data)
    for start, length in [(0, 1000), (0, 1), (999, 1), (249, 2), (250, 250), (100, 800), (5, 0)]:
        assert await tier.read(location, start, length) == data[start : start + length]


async def test_ranges_that_span_the_stripes_of_a_run_are_read() -> None:
    tier = Tier(payload_seal=100 * FULL)
    location, data = await run_of(tier, FULL, FULL, FULL - 2)
    for start, length in [
        (0, len(data)),
        (FULL - 3, 6),
        (FULL // 2, 2 * FULL),
        (2 * FULL - 1, 1),
        (2 * FULL, FULL - 2),
    ]:
        assert await tier.read(location, start, length) == data[start : start + length]


async def test_an_extent_may_begin_inside_a_stripe() -> None:
    tier = Tier()
    data = payload(1000)
    at = await tier.append(data)
    trimmed = Location(at.volume, at.stripe, at.position, at.cell_size, 300, at.nonce)
    assert await tier.read(trimmed, 10, 400) == data[310:710]


async def test_only_the_cells_of_the_range_are_read() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    calls = counting(tier, "read_at")
    await tier.read(location, 250, 250)
    assert calls == [ShardName(location.volume, CellIndex(1))]
    await tier.read(location, 260, 10)
    assert len(calls) == 1  # verified once, then remembered
    await tier.read(location, 0, 1000)
    assert len(calls) == 4


async def test_the_cache_is_bounded() -> None:
    tier = Tier()
    tier.reader = tier.new_reader(cache_bytes=600)
    locations = [await tier.append(payload(1000, number)) for number in range(5)]
    for _ in range(2):
        for number, location in enumerate(locations):
            assert await tier.read(location, 0, 1000) == payload(1000, number)
    assert tier.reader.statistics()["cache_bytes"] <= 600


async def test_a_range_inside_one_cell_is_not_copied_and_is_read_only() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    found = await tier.reader.read(tier.info(location), location, 10, 20)
    assert isinstance(found, memoryview)
    assert found.readonly


def warm(tier: Tier, shards: Iterable[MemoryShards]) -> None:
    """From now on these, and no others, answer without waiting, as if the page cache had all of them."""

    def fill(source: MemoryShards, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        data = source.contents.get(name, b"")[position:]
        if len(data) < sum(map(len, parts)):
            return False
        for part in parts:
            part[:], data = data[: len(part)], data[len(part) :]
        return True

    for each in tier.shards:
        vars(each).pop("read_nowait", None)
    for each in shards:
        vars(each)["read_nowait"] = partial(fill, each)


async def test_cells_that_were_read_together_are_given_without_a_copy() -> None:
    tier = Tier(payload_seal=100 * FULL)
    location, data = await run_of(tier, FULL, FULL)
    warm(tier, tier.shards)
    for start, length in [(0, FULL), (0, FULL), (FULL, FULL), (100, FULL - 200), (FULL // 2 - 1, 2)]:
        found = await tier.reader.read(tier.info(location), location, start, length)
        assert isinstance(found, memoryview)
        assert found.readonly
        assert found == data[start : start + length]


async def test_what_is_cached_side_by_side_is_there_without_an_await() -> None:
    tier = Tier(payload_seal=100 * FULL)
    tier.reader = tier.new_reader(cache_bytes=FULL)
    location, data = await run_of(tier, FULL, FULL)
    warm(tier, tier.shards)
    info, behind = tier.info(location), location.advanced(FULL)
    assert tier.reader.cached(info, location, FULL) is None
    await tier.reader.read(info, location, 0, FULL)
    for start, length in [(0, FULL), (0, 1), (FULL - 1, 1), (FULL // 4 - 1, 2), (100, FULL - 200)]:
        assert tier.reader.cached(info, location.advanced(start), length) == data[start : start + length]
    assert tier.reader.cached(info, behind, FULL) is None
    await tier.reader.read(info, behind, FULL // 2, FULL // 2)  # which throws out half of the first one
    assert tier.reader.cached(info, location, FULL) is None
    assert tier.reader.cached(info, behind.advanced(FULL // 2), 10) == data[FULL * 3 // 2 :][:10]


@pytest.mark.parametrize("seed", range(20))
async def test_cells_from_memory_from_disk_and_decoded_come_in_their_order(seed: int) -> None:
    drawn = random.Random(seed)
    tier = Tier(payload_seal=100 * FULL)
    location, data = await run_of(tier, FULL, FULL, 1 + drawn.randrange(FULL - 3, FULL))
    for index in drawn.sample(range(6), drawn.randrange(3)):
        name, shards = ShardName(location.volume, CellIndex(index)), tier.shards_of(location.volume, index)
        at = location.position + 128 + drawn.randrange(location.cell_size)
        shards.contents[name][at] ^= 1
    for _ in range(6):
        warm(tier, drawn.sample(tier.shards, drawn.randrange(7)))
        start = drawn.randrange(len(data))
        length = drawn.randrange(1, len(data) - start + 1)
        assert await tier.read(location, start, length) == data[start : start + length]


async def test_any_two_shards_may_be_missing() -> None:
    tier = Tier()
    data = payload(1000)
    location = await tier.append(data)
    kept = {index: tier.shards_of(location.volume, index).contents for index in range(6)}
    for lost in itertools.combinations(range(6), 2):
        tier.reader = tier.new_reader()
        for index in lost:
            tier.shards_of(location.volume, index).contents = {}
        assert await tier.read(location, 0, 1000) == data
        assert {index for _, index, _ in tier.damage} <= set(lost)
        tier.damage.clear()
        for index in lost:
            tier.shards_of(location.volume, index).contents = kept[index]


async def test_every_byte_of_a_cell_and_its_header_may_flip() -> None:
    tier = Tier(2, 1)
    data = payload(40)
    location = await tier.append(data)
    shard = tier.shard(location.volume, 0)
    for place in range(128 + 20):
        shard[place] ^= 0xA5
        tier.reader = tier.new_reader()
        assert await tier.read(location, 0, 40) == data
        shard[place] ^= 0xA5
    assert all((volume, index) == (location.volume, 0) for volume, index, _ in tier.damage)
    assert len(tier.damage) == 20  # those in headers were corrected


async def test_damage_is_reported_with_a_reason() -> None:
    tier = Tier()
    data = payload(1000)
    location = await tier.append(data)
    tier.shard(location.volume, 2)[130] ^= 1
    del tier.shard(location.volume, 0)[200:]
    assert await tier.read(location, 0, 1000) == data
    reasons = {index: reason for _, index, reason in tier.damage}
    assert set(reasons) == {0, 2}
    assert "hash" in reasons[2]
    assert "ends" in reasons[0]


async def test_three_losses_of_4_plus_2_are_too_many() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    for index in (0, 3, 5):
        tier.shard(location.volume, index)[140] ^= 1
    with pytest.raises(TooFewShards, match="3 good cells where 4 are needed"):
        await tier.read(location, 0, 1000)
    assert await tier.read(location, 250, 500) == payload(1000)[250:750]  # the others are served still


async def test_a_cell_of_another_write_is_not_believed() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    stale = Location(
        location.volume, location.stripe, location.position, location.cell_size, 0, Nonce(location.nonce ^ 1)
    )
    with pytest.raises(TooFewShards, match="another"):
        await tier.read(stale, 0, 1000)


async def test_a_misdirected_write_is_not_believed() -> None:
    tier = Tier()
    first = await tier.append(payload(1000, 1))
    second = await tier.append(payload(1000, 2))
    shard = tier.shard(first.volume, 0)
    shard[first.position : first.position + 378] = shard[second.position : second.position + 378]
    assert await tier.read(first, 0, 1000) == payload(1000, 1)
    assert "another" in tier.damage[0][2]


async def test_a_device_that_errs_is_read_around() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))

    def fault(verb: str, name: ShardName | None) -> None:
        raise DeviceFailed("EIO", "it")

    tier.shards_of(location.volume, 1).fault = fault
    assert await tier.read(location, 0, 1000) == payload(1000)
    assert [(index, reason) for _, index, reason in tier.damage] == [(1, "EIO")]


async def test_cells_that_this_process_could_not_ask_for_are_no_damage_and_not_lost() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))

    def fault(verb: str, name: ShardName | None) -> None:
        raise DeviceUnasked("Too many open files", "it")

    tier.shards_of(location.volume, 1).fault = fault
    assert await tier.read(location, 0, 1000) == payload(1000)
    tier.reader = tier.new_reader()
    for shards in tier.shards:
        shards.fault = fault
    with pytest.raises(DeviceUnasked):
        await tier.read(location, 0, 1000)
    assert tier.damage == []


async def test_devices_that_are_down_are_read_around_without_a_report() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    for index in (0, 1):
        del tier.devices[tier.info(location).devices[index]]
    assert await tier.read(location, 0, 1000) == payload(1000)
    assert tier.damage == []
    del tier.devices[tier.info(location).devices[2]]
    tier.reader = tier.new_reader()
    with pytest.raises(TooFewShards, match="not up"):
        await tier.read(location, 100, 800)


async def test_readers_of_one_stripe_share_its_cells() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    calls = counting(tier, "read_at")

    async def read() -> None:
        assert await tier.read(location, 0, 1000) == payload(1000)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(read)
    assert len(calls) == 4


async def test_readers_of_a_lost_cell_share_one_decode() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    tier.shards_of(location.volume, 0).contents = {}

    async def read() -> None:
        assert await tier.read(location, 0, 250) == payload(1000)[:250]

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(read)
    assert tier.reader.statistics()["stripes_decoded"] == 1


class Stall:
    """A device whose reads hang until it is released, and then fail by *error*, if there is one."""

    def __init__(self, tier: Tier, location: Location, index: int, error: Exception | None = None) -> None:
        self.calls, self._error = 0, error
        self.shards = tier.shards_of(location.volume, index)
        self.released = threading.Event()
        self.reached = threading.Semaphore(0)

    def __enter__(self) -> "Stall":
        self.shards.fault = self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shards.fault = None

    def _fault(self, verb: str, name: ShardName | None) -> None:
        if verb == "read_at":
            self.calls += 1
            self.reached.release()
            assert self.released.wait(60)
            if self._error is not None:
                raise self._error


async def test_a_stalled_device_is_hedged() -> None:
    tier = Tier()
    tier.reader = tier.new_reader(hedge_s=0.01)
    location = await tier.append(payload(1000))
    with Stall(tier, location, 0):
        assert await tier.read(location, 0, 1000) == payload(1000)
    assert tier.damage == []  # slow is not damaged


async def test_two_hundred_readers_of_a_stalled_device_stop_nobody() -> None:
    tier = Tier(1, 0, devices=2, payload_seal=10)  # no parity: whoever needs the stalled device must wait
    stalled = await tier.append(payload(10))
    others = [await tier.append(payload(10, number)) for number in range(1, 20)]
    other = next(each for each in others if tier.info(each).devices != tier.info(stalled).devices)
    with Stall(tier, stalled, 0) as stall:
        async with trio.open_nursery() as nursery:
            for start in range(200):
                nursery.start_soon(tier.read, stalled, start % 10, 1)
                # each reads another stripe of the stalled device, for sharing would make one of them all
                stalled_too = Location(stalled.volume, stalled.stripe, 0, 10, 0, Nonce(start))
                nursery.start_soon(ignoring_loss, tier, stalled_too)
            await trio.to_thread.run_sync(stall.reached.acquire)
            found = await tier.read(other, 0, 10)
            assert found in [payload(10, number) for number in range(1, 20)]
            stall.released.set()


async def ignoring_loss(tier: Tier, location: Location) -> None:
    with pytest.raises(TooFewShards):
        await tier.read(location, 0, 10)


async def test_a_device_known_to_stall_is_asked_last() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    asked = counting(tier, "read_at")
    device = tier.devices[tier.info(location).devices[0]]
    device._reading_since[object()] = -1e9  # a read that never came back
    assert await tier.read(location, 0, 250) == payload(1000)[:250]
    assert sorted(name.index for name in asked if name is not None) == [1, 2, 3, 4]
    for index in (1, 2):
        del tier.devices[tier.info(location).devices[index]]
    tier.reader = tier.new_reader()
    assert await tier.read(location, 0, 1000) == payload(1000)  # but it is asked when it is needed


async def test_a_cancelled_reader_leaves_its_cells_to_the_others() -> None:
    tier = Tier(1, 0)
    location = await tier.append(payload(100))
    with Stall(tier, location, 0) as stall:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def first() -> None:
                with scope:
                    await tier.read(location, 0, 100)

            async def second() -> None:
                assert await tier.read(location, 0, 100) == payload(100)

            nursery.start_soon(first)
            await trio.to_thread.run_sync(stall.reached.acquire)
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            stall.released.set()


async def test_who_waits_for_a_cold_tier_beside_another_reader_waits_no_longer_than_that_one() -> None:
    tier = Tier(1, 0)
    location = await tier.append(payload(100))
    failed = []
    with Stall(tier, location, 0, ColdUnavailable("it has not answered")) as stall:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(ColdUnavailable, match="it has not answered"):
                    await tier.read(location, 0, 100)
                failed.append(trio.current_time())

            nursery.start_soon(read)
            await trio.to_thread.run_sync(stall.reached.acquire)
            for _ in range(3):
                nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            stall.released.set()
    assert len(failed) == 4
    assert stall.calls == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_range_survives_any_damage_within_m(data: st.DataObject) -> None:
    k, m = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4))
    size = data.draw(st.integers(1, 3000))
    start = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - start))
    lost = data.draw(st.sets(st.integers(0, k + m - 1), max_size=m))

    async def check() -> None:
        tier = Tier(k, m)
        location = await tier.append(payload(size))
        for index in lost:
            shard = tier.shard(location.volume, index)
            shard[data.draw(st.integers(128, 127 + location.cell_size))] ^= 0x10
        assert await tier.read(location, start, length) == payload(size)[start : start + length]

    trio.run(check)

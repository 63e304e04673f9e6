"""The writer: places, rounds, failures, sealing."""

import threading

import pytest
import trio

from stratumfs.errors import DeviceError, DeviceFailed, DeviceFull, GeometryError, StoreClosing, StoreReadOnly
from stratumfs.ids import CellIndex
from stratumfs.limits import VOLUMES_OPEN_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import walk
from tests.suites.tier import STEP, STORE, Tier, payload

FULL = 1 << 20


class Gate:
    """A fault that lets nobody past one verb until it is opened."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.open = threading.Event()
        self.reached = threading.Semaphore(0)
        self.count = 0

    def __call__(self, verb: str, name: ShardName | None) -> None:
        if verb == self.verb:
            self.count += 1
            self.reached.release()
            assert self.open.wait(10)


def failing(verb: str, error: Exception) -> object:
    def fault(called: str, name: ShardName | None) -> None:
        if called == verb:
            raise error

    return fault


async def test_stripes_lie_side_by_side_in_every_shard() -> None:
    tier = Tier()
    first = await tier.writer.append(payload(1000))
    second = await tier.writer.append(payload(10))
    assert (first.stripe, first.position, first.cell_size, first.skip) == (0, 0, 250, 0)
    assert (second.stripe, second.position, second.cell_size) == (1, 128 + 250, 3)
    assert first.volume == second.volume
    assert first.nonce != second.nonce
    for index in range(6):
        cells = list(
            walk.walk_cells(tier.shards_of(first.volume, index), ShardName(first.volume, CellIndex(index)), STORE)
        )
        assert [(cell.position, cell.whole, cell.header.payload_length) for cell in cells] == [
            (0, True, 1000),
            (378, True, 10),
        ]


async def test_full_stripes_of_one_stream_are_a_run() -> None:
    tier = Tier(payload_seal=100 * FULL)
    data = payload(FULL)
    first = await tier.writer.append(data)
    second = await tier.writer.append(data, first)
    assert second.nonce == (first.nonce + 1) & NONCE_MASK
    assert second.position == first.position + 128 + first.cell_size
    other = await tier.writer.append(data)  # of another stream
    assert other.nonce != (second.nonce + 1) & NONCE_MASK
    third = await tier.writer.append(data, second)  # no longer directly behind
    assert third.nonce not in ((second.nonce + 1) & NONCE_MASK, (other.nonce + 1) & NONCE_MASK)
    short = await tier.writer.append(data[:-1], third)  # cells of the same size: it may end a run
    assert short.nonce == (third.nonce + 1) & NONCE_MASK
    behind_short = await tier.writer.append(data, short)
    assert behind_short.nonce != (short.nonce + 1) & NONCE_MASK
    last = await tier.writer.append(data[:100], behind_short)
    assert last.nonce != (behind_short.nonce + 1) & NONCE_MASK


async def test_who_sends_several_learns_the_place_before_the_write() -> None:
    tier = Tier()
    places: list[Location] = []
    location = await tier.writer.append(payload(100), placed=places.append)
    assert places == [location]


async def test_many_tasks_append_beside_each_other() -> None:
    tier = Tier()
    locations: dict[int, Location] = {}

    async def put(number: int) -> None:
        locations[number] = await tier.writer.append(payload(500 + number, number))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(put, number)
    await tier.writer.sync({location.volume for location in locations.values()})
    for number, location in locations.items():
        assert await tier.read(location, 0, 500 + number) == payload(500 + number, number)
    assert len({location.volume for location in locations.values()}) == 1  # opened once


async def test_the_ledger_knows_a_volume_before_any_stripe_is_named() -> None:
    tier = Tier()
    tier.ledger.failure = StoreReadOnly("no rows today")
    with pytest.raises(StoreReadOnly):
        await tier.writer.append(b"x")
    tier.ledger.failure = None
    location = await tier.writer.append(b"x")
    assert list(tier.ledger.volumes) == [location.volume]
    assert tier.info(location).tier == "hot"


async def test_what_is_synced_survives_a_power_cut_and_nothing_else_must() -> None:
    tier = Tier()
    kept = await tier.writer.append(payload(5000))
    await tier.writer.sync({kept.volume})
    lost = await tier.writer.append(payload(100, 1))
    for shards in tier.shards:
        shards.power_cut()
    assert await tier.read(kept, 0, 5000) == payload(5000)
    assert not any(
        tier.shard(lost.volume, index)[lost.position : lost.position + 128].strip(b"\0") for index in range(6)
    )


async def test_syncing_what_is_synced_costs_nothing() -> None:
    tier = Tier()
    calls: list[str] = []
    location = await tier.writer.append(b"x")
    tier.shards[0].fault = lambda verb, name: calls.append(verb)
    await tier.writer.sync({location.volume})
    await tier.writer.sync({location.volume})
    with trio.testing.assert_no_checkpoints():
        await tier.writer.sync(set())
    assert calls == ["datasync"]


async def test_who_arrives_during_a_round_shares_the_next() -> None:
    tier = Tier()
    gate = Gate("datasync")
    tier.shards[0].fault = gate
    location = await tier.writer.append(b"first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.writer.sync, {location.volume})
        await trio.to_thread.run_sync(gate.reached.acquire)
        for number in range(5):  # while the round runs
            await tier.writer.append(b"%d" % number)
            nursery.start_soon(tier.writer.sync, {location.volume})
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert gate.count == 2


async def test_a_cancelled_waiter_leaves_the_round_to_the_others() -> None:
    tier = Tier()
    gate = Gate("datasync")
    tier.shards[0].fault = gate
    location = await tier.writer.append(b"x")
    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await tier.writer.sync({location.volume})

        nursery.start_soon(lead)
        await trio.to_thread.run_sync(gate.reached.acquire)
        nursery.start_soon(tier.writer.sync, {location.volume})
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
        gate.open.set()
    assert gate.count == 1


async def test_a_failed_write_names_the_device_and_closes_the_volume() -> None:
    tier = Tier()
    good = await tier.writer.append(payload(300))
    tier.shards[2].fault = failing("write_at", DeviceFailed("device 2: EIO", "device 2"))
    with pytest.raises(DeviceFailed, match="device 2") as caught:
        await tier.writer.append(b"x")
    assert caught.value.device == "device 2"
    assert [device[0] for device, _ in tier.failures] == [2]
    with pytest.raises(DeviceFailed, match="device 2"):  # six devices, one struck out: nowhere to go
        await tier.writer.append(b"x")
    tier.shards[2].fault = None
    await tier.writer.sync({good.volume})  # what was written before can still be made safe
    assert await tier.read(good, 0, 300) == payload(300)
    await tier.writer.close()
    assert tier.ledger.ends == {}  # the next owner seals it


async def test_with_devices_to_spare_writing_goes_on_elsewhere() -> None:
    tier = Tier(2, 1, devices=5)
    first = await tier.writer.append(b"x")
    struck = tier.info(first).devices[0]
    tier.shards[struck[0]].fault = failing("write_at", DeviceFailed("EIO", "it"))
    with pytest.raises(DeviceFailed):
        await tier.writer.append(b"y")
    second = await tier.writer.append(b"y")
    assert struck not in tier.info(second).devices


async def test_a_failed_sync_is_never_retried() -> None:
    tier = Tier()
    safe = await tier.writer.append(b"safe")
    await tier.writer.sync({safe.volume})
    location = await tier.writer.append(b"x")
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    with pytest.raises(DeviceFailed, match="device 1"):
        await tier.writer.sync({location.volume})
    tier.shards[1].fault = None
    with pytest.raises(DeviceFailed, match="device 1"):
        await tier.writer.sync({location.volume})
    assert len(tier.failures) == 1
    assert await tier.read(safe, 0, 4) == b"safe"
    await tier.writer.seal_idle(0)
    await tier.writer.close()
    assert tier.ledger.ends == {}


async def test_all_waiters_of_a_failed_round_hear_of_it() -> None:
    tier = Tier()
    location = await tier.writer.append(b"x")
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    heard = []

    async def wait() -> None:
        with pytest.raises(DeviceFailed, match="device 1"):
            await tier.writer.sync({location.volume})
        heard.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(wait)
    assert len(heard) == 4
    assert len(tier.failures) == 1


async def test_a_full_device_is_no_failed_one() -> None:
    tier = Tier()
    good = await tier.writer.append(b"good")
    tier.shards[3].fault = failing("preallocate", DeviceFull("device 3 is full", "device 3"))
    with pytest.raises(DeviceFull, match="device 3"):
        await tier.writer.append(payload(5 * STEP))
    assert tier.failures == []
    await tier.writer.seal_idle(0)  # its volumes are sealed
    assert tier.ledger.ends[good.volume][1] == 2  # with the place that was never written
    with pytest.raises(DeviceFull):
        await tier.writer.append(b"x")
    tier.shards[3].fault = None
    assert (await tier.writer.append(b"x")).volume != good.volume


@pytest.mark.parametrize("kind", [DeviceFull, DeviceFailed])
async def test_who_waits_for_room_that_there_is_not_blames_no_other_device(kind: type[DeviceError]) -> None:
    tier = Tier()
    first = await tier.writer.append(b"x")
    tier.shards[3].fault = failing("preallocate", kind("device 3", "device 3"))
    heard = []

    async def put() -> None:
        with pytest.raises(kind, match="device 3"):
            await tier.writer.append(payload(5 * STEP))
        heard.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(put)
    assert len(heard) == 3
    assert [device[0] for device, _ in tier.failures] == ([] if kind is DeviceFull else [3])
    await tier.writer.seal_idle(0)
    assert (first.volume in tier.ledger.ends) == (kind is DeviceFull)


async def test_a_struck_device_gets_nothing_more_even_in_another_volume() -> None:
    tier = Tier(payload_seal=10)
    older = await tier.writer.append(payload(10))
    current = await tier.writer.append(payload(5))
    assert older.volume != current.volume
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    with pytest.raises(DeviceFailed):
        await tier.writer.sync({older.volume})
    with pytest.raises(DeviceFailed, match="device 1"):
        await tier.writer.append(b"x")


async def test_a_device_without_room_gets_no_volume() -> None:
    tier = Tier()
    next(iter(tier.devices.values())).free = lambda: STEP
    with pytest.raises(DeviceFull):
        await tier.writer.append(b"x")
    assert tier.failures == []


async def test_a_failed_creation_leaves_no_files() -> None:
    tier = Tier()
    tier.shards[4].fault = failing("create", DeviceFailed("device 4: EIO", "device 4"))
    with pytest.raises(DeviceFailed, match="device 4"):
        await tier.writer.append(b"x")
    assert not any(shards.contents for shards in tier.shards)
    assert tier.ledger.volumes == {}


async def test_volumes_rotate_and_are_sealed_when_idle() -> None:
    tier = Tier(payload_seal=3000)
    locations = [await tier.writer.append(payload(1000, number)) for number in range(7)]
    assert len({location.volume for location in locations}) == 3
    await tier.writer.seal_idle(3600)
    assert tier.ledger.ends == {}
    await tier.writer.seal_idle(0)
    assert sorted(tier.ledger.ends.values()) == [(378, 1), (3 * 378, 3), (3 * 378, 3)]
    for number, location in enumerate(locations):
        assert await tier.read(location, 0, 1000) == payload(1000, number)
    await tier.writer.sync({locations[0].volume})  # sealed: safe


async def test_sealing_cuts_shards_and_leaves_tables_on_parity_first() -> None:
    tier = Tier()
    location = await tier.writer.append(payload(1000))
    await tier.writer.seal(location.volume)
    await tier.writer.seal(location.volume)
    sizes = [len(tier.shard(location.volume, index)) for index in range(6)]
    assert sizes[:3] == [378] * 3
    assert all(size > 378 for size in sizes[3:])
    for shards in tier.shards:
        shards.power_cut()
    assert sizes == [len(tier.shard(location.volume, index)) for index in range(6)]
    for index in (3, 4, 5):
        assert walk.read_toc(tier.shards_of(location.volume, index), ShardName(location.volume, CellIndex(index))) == []


async def test_a_full_device_is_sealed_without_its_table() -> None:
    tier = Tier()
    location = await tier.writer.append(payload(1000))
    shards = tier.shards_of(location.volume, 5)
    shards.fault = failing("write_at", DeviceFull("full", "it"))
    await tier.writer.seal(location.volume)
    assert len(tier.shard(location.volume, 5)) == 378
    assert location.volume in tier.ledger.ends


async def test_sealing_is_resumed_when_only_the_ledger_failed() -> None:
    tier = Tier()
    location = await tier.writer.append(payload(1000))
    tier.ledger.failure = StoreReadOnly("not now")
    with pytest.raises(StoreReadOnly):
        await tier.writer.seal(location.volume)
    tier.ledger.failure = None
    await tier.writer.seal_idle(0)
    assert tier.ledger.ends == {location.volume: (378, 1)}


async def test_sealing_waits_for_appends_under_way() -> None:
    tier = Tier()
    first = await tier.writer.append(b"x")
    gate = Gate("write_at")
    tier.shards[0].fault = gate
    late: list[Location] = []

    async def put() -> None:
        late.append(await tier.writer.append(payload(400)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.to_thread.run_sync(gate.reached.acquire)
        nursery.start_soon(tier.writer.seal, first.volume)
        await trio.testing.wait_all_tasks_blocked()
        assert tier.ledger.ends == {}
        gate.open.set()
    assert late[0].volume == first.volume
    assert tier.ledger.ends[first.volume][1] == 2
    assert await tier.read(late[0], 0, 400) == payload(400)


async def test_a_cancelled_append_is_written_whole_or_not_at_all() -> None:
    tier = Tier()
    await tier.writer.append(b"x")
    gate = Gate("write_at")
    tier.shards[0].fault = gate
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tier.writer.append, payload(100))
            await trio.to_thread.run_sync(gate.reached.acquire)
            scope.cancel()
            gate.open.set()
    tier.shards[0].fault = None
    volume = next(iter(tier.ledger.volumes))
    cells = list(walk.walk_cells(tier.shards_of(volume, 0), ShardName(volume, CellIndex(0)), STORE))
    assert [cell.whole for cell in cells] == [True, True]
    after = await tier.writer.append(payload(50))
    assert after.stripe == 2


async def test_open_volumes_are_bounded() -> None:
    tier = Tier(1, 1, payload_seal=100)
    for number in range(VOLUMES_OPEN_MAX + 5):
        await tier.writer.append(payload(100, number))
    assert tier.writer.statistics()["volumes_open"] <= VOLUMES_OPEN_MAX
    assert len(tier.ledger.ends) >= 5


async def test_closing_seals_and_refuses_more() -> None:
    tier = Tier()
    location = await tier.writer.append(b"x")
    await tier.writer.close()
    assert location.volume in tier.ledger.ends
    with pytest.raises(StoreClosing):
        await tier.writer.append(b"y")


@pytest.mark.parametrize("size", [0, FULL + 1])
async def test_what_is_no_stripe_is_refused(size: int) -> None:
    with pytest.raises(GeometryError):
        await Tier().writer.append(bytes(size))


@pytest.mark.parametrize(("k", "m"), [(1, 0), (1, 2), (3, 0), (20, 5)])
async def test_every_geometry_works(k: int, m: int) -> None:
    tier = Tier(k, m)
    location = await tier.writer.append(payload(12345))
    await tier.writer.close()
    assert await tier.read(location, 5, 12000) == payload(12345)[5:12005]

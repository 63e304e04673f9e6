"""The writer: places, rounds, failures, sealing."""

import threading
from collections.abc import Collection
from itertools import pairwise

import pytest
import trio

from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.errors import (
    DeviceError,
    DeviceFailed,
    DeviceFull,
    DeviceUnasked,
    GeometryError,
    StoreBusy,
    StoreClosing,
    StoreReadOnly,
)
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.limits import CODING_THREADS, DEVICE_DEADLINE_S, DEVICE_FULL_S, VOLUMES_OPEN_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import walk
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.pending import PendingStripe
from tests.suites.tier import STEP, STORE, Tier, payload

FULL = 1 << 20


class Gate:
    """A fault that lets nobody past some verbs until it is opened."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = verbs
        self.open = threading.Event()
        self.reached = threading.Semaphore(0)
        self.count = 0

    def __call__(self, verb: str, name: ShardName | None) -> None:
        if verb in self.verbs:
            self.count += 1
            self.reached.release()
            assert self.open.wait(60)


def failing(verb: str, error: Exception) -> object:
    def fault(called: str, name: ShardName | None) -> None:
        if called == verb:
            raise error

    return fault


async def pass_deadline(tier: Tier, nursery: trio.Nursery, but: Collection[int] | None = None) -> None:
    """The deadline of what is under way passes; all devices but these answer something meanwhile."""
    for number, device in enumerate(tier.devices.values()):
        if but is not None and number not in but:
            tier.now += 0.1
            await device.write(device.shards.probe)
    tier.now += DEVICE_DEADLINE_S
    tier.fleet.look(nursery)
    await trio.testing.wait_all_tasks_blocked()


async def test_stripes_lie_side_by_side_in_every_shard() -> None:
    tier = Tier()
    first = await tier.append(payload(1000))
    second = await tier.append(payload(10))
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
    first = await tier.append(data)
    second = await tier.append(data, first)
    assert second.nonce == (first.nonce + 1) & NONCE_MASK
    assert second.position == first.position + 128 + first.cell_size
    other = await tier.append(data)  # of another stream
    assert other.nonce != (second.nonce + 1) & NONCE_MASK
    third = await tier.append(data, second)  # no longer directly behind
    assert third.nonce not in ((second.nonce + 1) & NONCE_MASK, (other.nonce + 1) & NONCE_MASK)
    short = await tier.append(data[:-1], third)  # cells of the same size: it may end a run
    assert short.nonce == (third.nonce + 1) & NONCE_MASK
    behind_short = await tier.append(data, short)
    assert behind_short.nonce != (short.nonce + 1) & NONCE_MASK
    last = await tier.append(data[:100], behind_short)
    assert last.nonce != (behind_short.nonce + 1) & NONCE_MASK


async def test_who_sends_several_learns_the_place_before_the_write() -> None:
    tier = Tier()
    places: list[Location] = []
    stripe = PendingStripe(payload(100), places.append)
    await tier.writer.append(stripe)
    assert places == [stripe.at]


async def test_many_tasks_append_beside_each_other() -> None:
    tier = Tier()
    locations: dict[int, Location] = {}

    async def put(number: int) -> None:
        locations[number] = await tier.append(payload(500 + number, number))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(put, number)
    await tier.sync(*locations.values())
    for number, location in locations.items():
        assert await tier.read(location, 0, 500 + number) == payload(500 + number, number)
    assert len({location.volume for location in locations.values()}) == 1  # opened once


async def test_the_ledger_knows_a_volume_before_any_stripe_is_named() -> None:
    tier = Tier()
    tier.ledger.failure = StoreReadOnly("no rows today")
    with pytest.raises(StoreReadOnly):
        await tier.append(b"x")
    tier.ledger.failure = None
    location = await tier.append(b"x")
    assert list(tier.ledger.volumes) == [location.volume]
    assert tier.info(location).tier == "hot"


async def test_what_is_synced_survives_a_power_cut_and_nothing_else_must() -> None:
    tier = Tier()
    kept = await tier.append(payload(5000))
    await tier.sync(kept)
    lost = await tier.append(payload(100, 1))
    for shards in tier.shards:
        shards.power_cut()
    assert await tier.read(kept, 0, 5000) == payload(5000)
    assert not any(
        tier.shard(lost.volume, index)[lost.position : lost.position + 128].strip(b"\0") for index in range(6)
    )


async def test_syncing_what_is_synced_costs_nothing() -> None:
    tier = Tier()
    calls: list[str] = []
    location = await tier.append(b"x")
    tier.shards[0].fault = lambda verb, name: calls.append(verb)
    await tier.sync(location)
    await tier.sync(location)
    with trio.testing.assert_no_checkpoints():
        await tier.sync()
    assert calls == ["datasync"]


async def test_who_arrives_during_a_round_shares_the_next() -> None:
    tier = Tier()
    gate = Gate("datasync")
    tier.shards[0].fault = gate
    location = await tier.append(b"first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.sync, location)
        await trio.to_thread.run_sync(gate.reached.acquire)
        for number in range(5):  # while the round runs
            await tier.append(b"%d" % number)
            nursery.start_soon(tier.sync, location)
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert gate.count == 2


async def test_a_cancelled_waiter_leaves_the_round_to_the_others() -> None:
    tier = Tier()
    gate = Gate("datasync")
    tier.shards[0].fault = gate
    location = await tier.append(b"x")
    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await tier.sync(location)

        nursery.start_soon(lead)
        await trio.to_thread.run_sync(gate.reached.acquire)
        nursery.start_soon(tier.sync, location)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
        gate.open.set()
    assert gate.count == 1


async def test_a_device_that_fails_a_write_is_struck_and_the_stripe_goes_elsewhere() -> None:
    tier = Tier()
    good = await tier.append(payload(300))
    await tier.sync(good)
    tier.shards[2].fault = failing("write_at", DeviceFailed("device 2: EIO", "device 2"))
    at = await tier.append(payload(10))
    assert tier.ledger.states == {DeviceId(b"\2" * 16): DeviceState.FAILED}
    assert tier.ledger.ends == {good.volume: (good.position + good.stride, 1)}  # behind what was handed out
    assert at.volume != good.volume
    assert await tier.sync(at) == [at]
    for location, data in ((good, payload(300)), (at, payload(10))):
        assert await tier.read(location, 0, len(data)) == data


async def test_volumes_narrow_to_the_devices_that_are_up() -> None:
    tier = Tier()
    for number, width in ((0, 5), (1, 4), (2, 3)):
        tier.shards[number].fault = failing("write_at", DeviceFailed("EIO", "it"))
        at = await tier.append(payload(FULL))
        await tier.sync(at)
        assert tier.info(at).code == Code(width - 2, 2)
        assert at.cell_size == -(-FULL // (width - 2))
        assert await tier.read(at, 0, FULL) == payload(FULL)
    tier.shards[3].fault = failing("write_at", DeviceFailed("EIO", "device 3"))
    with pytest.raises(StoreReadOnly, match="2 of 6 devices of tier hot are up, and writes need 3: replace"):
        await tier.append(b"x")
    assert tier.struck == [0, 1, 2, 3]


async def test_with_devices_to_spare_writing_goes_on_at_full_width() -> None:
    tier = Tier(2, 1, devices=5)
    first = await tier.append(b"x")
    struck = tier.info(first).devices[0]
    tier.shards[struck[0]].fault = failing("write_at", DeviceFailed("EIO", "it"))
    second = await tier.append(b"y")
    assert struck not in tier.info(second).devices
    assert tier.info(second).code == tier.code


async def test_what_a_failed_sync_was_to_cover_is_written_again() -> None:
    tier = Tier()
    safe = await tier.append(b"safe")
    await tier.sync(safe)
    lost = await tier.append(payload(100))
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    (moved,) = await tier.sync(lost)
    assert tier.ledger.states == {DeviceId(b"\1" * 16): DeviceState.READ_ONLY}
    assert tier.ledger.ends == {safe.volume: (safe.position + safe.stride, 1)}
    assert moved.volume != lost.volume
    assert await tier.sync(safe) == [safe]  # it was safe before, and is
    assert await tier.read(safe, 0, 4) == b"safe"
    assert await tier.read(moved, 0, 100) == payload(100)
    for shards in tier.shards:
        shards.power_cut()
    assert await tier.read(moved, 0, 100) == payload(100)


async def test_no_device_is_synced_again_after_its_sync_failed() -> None:
    tier = Tier()
    at = await tier.append(b"x")
    calls: list[str] = []

    def fault(verb: str, name: ShardName | None) -> None:
        calls.append(verb)
        if verb == "datasync":
            raise DeviceFailed("device 1: EIO", "device 1")

    tier.shards[1].fault = fault
    await tier.sync(at)
    await tier.append(b"y")
    await tier.writer.seal_idle(0)
    await tier.writer.close()
    assert calls == ["datasync"]


async def test_stripes_that_are_written_again_lie_behind_one_another() -> None:
    tier = Tier(payload_seal=100 * FULL)
    at: list[Location] = []
    for number in range(4):
        at.append(await tier.append(payload(FULL, number), at[-1] if at else None))
    tier.shards[5].fault = failing("datasync", DeviceFailed("EIO", "it"))
    moved = await tier.sync(*at)
    for before, behind in pairwise(moved):
        assert before.continues(FULL, behind)
    for number, location in enumerate(moved):
        assert await tier.read(location, 0, FULL) == payload(FULL, number)


async def test_payload_is_kept_until_it_is_synced() -> None:
    tier = Tier()
    stripe = PendingStripe(payload(10))
    await tier.writer.append(stripe)
    assert stripe.payload is not None
    await tier.writer.sync([stripe])
    assert stripe.payload is None


async def test_a_stripe_that_was_never_written_is_written_by_its_sync() -> None:
    tier = Tier()
    stripe = PendingStripe(payload(10))
    await tier.writer.sync([stripe])
    assert await tier.read(stripe.at, 0, 10) == payload(10)


async def test_no_stripe_is_appended_twice_at_once() -> None:
    tier = Tier()
    await tier.append(payload(10))
    gate = Gate("write_at")
    tier.shards[0].fault = gate
    stripe = PendingStripe(payload(500))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.writer.append, stripe)
        await trio.to_thread.run_sync(gate.reached.acquire)
        with pytest.raises(AssertionError, match="under way"):
            await tier.writer.append(stripe)
        with pytest.raises(AssertionError, match="under way"):
            await tier.writer.sync([stripe])
        gate.open.set()
    await tier.writer.sync([stripe])
    assert await tier.read(stripe.at, 0, 500) == payload(500)


async def test_two_devices_that_fail_one_sync_are_both_struck() -> None:
    tier = Tier()
    at = await tier.append(payload(99))
    for number in (0, 4):
        tier.shards[number].fault = failing("datasync", DeviceFailed("EIO", "it"))
    (moved,) = await tier.sync(at)
    assert tier.struck == [0, 4]
    assert tier.info(moved).code == Code(2, 2)


async def test_a_sync_without_room_gives_up_the_volume_and_strikes_nobody() -> None:
    tier = Tier()
    safe = await tier.append(b"safe")
    await tier.sync(safe)
    at = await tier.append(payload(50))
    tier.shards[1].fault = failing("datasync", DeviceFull("quota", "device 1"))
    (moved,) = await tier.sync(at)
    assert tier.struck == []
    assert tier.ledger.ends == {safe.volume: (safe.position + safe.stride, 1)}
    assert tier.info(moved).code == Code(3, 2)
    assert await tier.read(moved, 0, 50) == payload(50)


async def test_all_waiters_of_a_failed_round_get_their_stripes_synced() -> None:
    tier = Tier()
    at = [await tier.append(payload(100, number)) for number in range(4)]
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    moved: dict[int, Location] = {}

    async def wait(number: int) -> None:
        (moved[number],) = await tier.sync(at[number])

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(wait, number)
    assert tier.struck == [1]
    for number, location in moved.items():
        assert await tier.read(location, 0, 100) == payload(100, number)


async def test_a_strike_that_cannot_be_recorded_is_an_error_of_whoever_waits() -> None:
    tier = Tier()
    at = await tier.append(b"x")
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    tier.ledger.failure = StoreReadOnly("the catalog is ill")
    with pytest.raises(StoreReadOnly, match="ill"):
        await tier.sync(at)
    tier.ledger.failure = None
    (moved,) = await tier.sync(at)
    assert await tier.read(moved, 0, 1) == b"x"


@pytest.mark.parametrize("by", ["idle", "name"])
async def test_where_a_volume_ends_that_was_given_up_is_told_until_the_ledger_has_it(by: str) -> None:
    """Behind what is safe, not behind what rows name: they may not name all of it yet."""
    tier = Tier()
    safe = await tier.append(b"safe")
    await tier.sync(safe)
    lost = await tier.append(payload(100))
    tier.shards[1].fault = failing("datasync", DeviceFull("quota", "device 1"))
    tier.ledger.failure = StoreBusy("8192 commits wait already")
    with pytest.raises(StoreBusy):
        await tier.sync(lost)
    assert tier.ledger.ends == {}
    tier.ledger.failure = None
    await (tier.writer.seal_idle() if by == "idle" else tier.writer.seal(safe.volume))
    assert tier.ledger.ends == {safe.volume: (safe.position + safe.stride, 1)}


async def test_a_full_device_is_no_failed_one() -> None:
    tier = Tier()
    good = await tier.append(b"good")
    tier.shards[3].fault = failing("preallocate", DeviceFull("device 3 is full", "device 3"))
    at = await tier.append(payload(5 * STEP))
    assert tier.info(at).code == Code(3, 2)  # around it
    assert DeviceId(b"\3" * 16) not in tier.info(at).devices
    assert tier.struck == []
    assert len(tier.fleet.up("hot")) == 6
    assert await tier.sync(good) == [good]
    await tier.writer.seal_idle(0)  # its volumes are sealed
    assert tier.ledger.ends[good.volume][1] == 2  # with the place that was never written
    tier.shards[3].fault = None
    tier.now += DEVICE_FULL_S
    async with trio.open_nursery() as nursery:
        tier.fleet.look(nursery)
    assert tier.info(await tier.append(b"x")).code == tier.code


async def test_when_all_devices_are_full_it_is_said() -> None:
    tier = Tier()
    for shards in tier.shards:
        shards.fault = failing("preallocate", DeviceFull("full", "it"))
    with pytest.raises(DeviceFull, match="0 devices of tier hot have room for a new volume, 3 must"):
        await tier.append(b"x")
    assert tier.struck == []
    assert len(tier.fleet.up("hot")) == 6


@pytest.mark.parametrize("kind", [DeviceFull, DeviceFailed])
async def test_who_waits_for_room_that_there_is_not_blames_no_other_device(kind: type[DeviceError]) -> None:
    tier = Tier()
    first = await tier.append(b"x")
    tier.shards[3].fault = failing("preallocate", kind("device 3", "device 3"))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(tier.append, payload(5 * STEP))
    assert tier.struck == ([] if kind is DeviceFull else [3])
    assert (await tier.sync(first) == [first]) == (kind is DeviceFull)


@pytest.mark.parametrize("verb", ["create", "sync_folder", "preallocate", "write_at", "datasync"])
async def test_what_this_process_lacks_is_said_and_nobody_is_struck_for_it(verb: str) -> None:
    tier = Tier(payload_seal=STEP)
    safe = await tier.append(payload(100))
    await tier.sync(safe)
    tier.shards[2].fault = failing(verb, DeviceUnasked("Too many open files", "device 2"))
    stripe = PendingStripe(payload(2 * STEP))  # fills its volume

    async def write() -> None:
        await tier.writer.append(stripe)
        await tier.writer.sync([stripe])
        await tier.writer.append(PendingStripe(b"x"))  # in a new one

    with pytest.raises(DeviceUnasked):
        await write()
    assert tier.struck == []
    assert len(tier.fleet.up("hot")) == 6
    tier.shards[2].fault = None
    await tier.writer.sync([stripe])
    assert await tier.read(stripe.at, 0, 2 * STEP) == payload(2 * STEP)
    assert await tier.read(safe, 0, 100) == payload(100)
    await tier.writer.close()
    assert tier.ledger.ends.keys() == tier.ledger.volumes.keys()
    known = {ShardName(volume, CellIndex(index)) for volume in tier.ledger.volumes for index in range(6)}
    assert {name for shards in tier.shards for name in shards.contents} == known


async def test_a_struck_device_gets_nothing_more_even_in_another_volume() -> None:
    tier = Tier(payload_seal=10)
    older = await tier.append(payload(10))
    current = await tier.append(payload(5))
    assert older.volume != current.volume
    tier.shards[1].fault = failing("datasync", DeviceFailed("device 1: EIO", "device 1"))
    await tier.sync(older)
    tier.shards[1].fault = failing("write_at", AssertionError("it is struck"))
    assert tier.ledger.ends.keys() >= {older.volume, current.volume}
    await tier.append(b"x")
    (moved,) = await tier.sync(current)
    assert moved.volume != current.volume


async def test_a_device_without_room_gets_no_volume() -> None:
    tier = Tier()
    lacking = list(tier.devices.values())
    lacking[0].free = lambda: STEP
    assert lacking[0].id not in tier.info(await tier.append(b"x")).devices
    await tier.writer.close()
    for device in lacking[:4]:
        device.free = lambda: STEP
    with pytest.raises(DeviceFull):
        await tier.new_writer().append(PendingStripe(b"x"))
    assert tier.struck == []


async def test_a_failed_creation_leaves_no_files() -> None:
    tier = Tier()
    tier.shards[4].fault = failing("create", DeviceFailed("device 4: EIO", "device 4"))
    at = await tier.append(b"x")
    assert tier.struck == [4]
    assert list(tier.ledger.volumes) == [at.volume]
    assert sorted(name for shards in tier.shards for name in shards.contents) == [
        ShardName(at.volume, CellIndex(index)) for index in range(5)
    ]


async def test_a_device_that_is_struck_while_a_volume_is_opened_is_none_of_its() -> None:
    tier = Tier()
    opened = tier.ledger.opened

    async def strike_and_open(volume: VolumeInfo) -> None:
        tier.ledger.opened = opened  # type: ignore[method-assign]
        await opened(volume)
        await tier.fleet.strike(DeviceId(b"\1" * 16), DeviceFailed("EIO", "device 1"))

    tier.ledger.opened = strike_and_open  # type: ignore[method-assign]
    at = await tier.append(b"x")
    first, second = tier.ledger.volumes
    assert tier.ledger.ends == {first: (0, 0)}
    assert at.volume == second
    assert DeviceId(b"\1" * 16) not in tier.info(at).devices


@pytest.mark.parametrize("verb", ["create", "write_at", "preallocate", "datasync"])
async def test_a_device_that_stalls_past_the_deadline_is_struck(verb: str) -> None:
    tier = Tier()
    if verb != "create":
        await tier.append(b"first")
    gate = Gate(verb)
    tier.shards[3].fault = gate
    size = 5 * STEP if verb == "preallocate" else 10
    moved: list[Location] = []

    async def put() -> None:
        moved.extend(await tier.sync(await tier.append(payload(size))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.to_thread.run_sync(gate.reached.acquire)
        await pass_deadline(tier, nursery, but=[3])
    assert tier.struck == [3]
    assert "has not answered for 30 s" in str(tier.fleet.state(DeviceId(b"\3" * 16))[1])
    assert await tier.read(moved[0], 0, size) == payload(size)
    assert DeviceId(b"\3" * 16) not in tier.info(moved[0]).devices
    assert gate.count == 1
    gate.open.set()


async def test_threads_that_hang_take_no_place_from_others() -> None:
    tier = Tier()
    await tier.append(b"first")
    gate = Gate("write_at")
    tier.shards[3].fault = gate
    async with trio.open_nursery() as nursery:
        for number in range(CODING_THREADS):
            nursery.start_soon(tier.append, payload(10, number))
        for _ in range(CODING_THREADS):
            await trio.to_thread.run_sync(gate.reached.acquire)
        await pass_deadline(tier, nursery, but=[3])
    await tier.append(b"others write")
    gate.open.set()


async def test_when_all_devices_stall_nobody_is_struck_and_writes_go_on_afterwards() -> None:
    tier = Tier()
    at = await tier.append(payload(10))
    gates = [Gate("datasync", "probe") for _ in tier.shards]
    for shards, gate in zip(tier.shards, gates, strict=True):
        shards.fault = gate
    synced: list[Location] = []

    async def sync() -> None:
        synced.extend(await tier.sync(at))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        for gate in gates:
            await trio.to_thread.run_sync(gate.reached.acquire)
        for _ in range(3):
            await pass_deadline(tier, nursery)
        assert tier.fleet.waiting is not None
        assert not synced
        for gate in gates:
            gate.open.set()
    assert synced == [at]
    assert tier.struck == []


async def test_volumes_rotate_and_are_sealed_when_idle() -> None:
    tier = Tier(payload_seal=3000)
    locations = [await tier.append(payload(1000, number)) for number in range(7)]
    assert len({location.volume for location in locations}) == 3
    await tier.writer.seal_idle(3600)
    assert tier.ledger.ends == {}
    await tier.writer.seal_idle(0)
    assert sorted(tier.ledger.ends.values()) == [(378, 1), (3 * 378, 3), (3 * 378, 3)]
    for number, location in enumerate(locations):
        assert await tier.read(location, 0, 1000) == payload(1000, number)
    await tier.sync(locations[0])  # sealed: safe


async def test_sealing_cuts_shards_and_leaves_tables_on_parity_first() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
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
    location = await tier.append(payload(1000))
    shards = tier.shards_of(location.volume, 5)
    shards.fault = failing("write_at", DeviceFull("full", "it"))
    await tier.writer.seal(location.volume)
    assert len(tier.shard(location.volume, 5)) == 378
    assert location.volume in tier.ledger.ends


async def test_sealing_is_resumed_when_only_the_ledger_failed() -> None:
    tier = Tier()
    location = await tier.append(payload(1000))
    tier.ledger.failure = StoreReadOnly("not now")
    with pytest.raises(StoreReadOnly):
        await tier.writer.seal(location.volume)
    tier.ledger.failure = None
    await tier.writer.seal_idle(0)
    assert tier.ledger.ends == {location.volume: (378, 1)}


async def test_sealing_waits_for_appends_under_way() -> None:
    tier = Tier()
    first = await tier.append(b"x")
    gate = Gate("write_at")
    tier.shards[0].fault = gate
    late: list[Location] = []

    async def put() -> None:
        late.append(await tier.append(payload(400)))

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
    await tier.append(b"x")
    gate = Gate("write_at")
    tier.shards[0].fault = gate
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tier.append, payload(100))
            await trio.to_thread.run_sync(gate.reached.acquire)
            scope.cancel()
            gate.open.set()
    tier.shards[0].fault = None
    volume = next(iter(tier.ledger.volumes))
    cells = list(walk.walk_cells(tier.shards_of(volume, 0), ShardName(volume, CellIndex(0)), STORE))
    assert [cell.whole for cell in cells] == [True, True]
    after = await tier.append(payload(50))
    assert after.stripe == 2


async def test_open_volumes_are_bounded() -> None:
    tier = Tier(1, 1, payload_seal=100)
    for number in range(VOLUMES_OPEN_MAX + 5):
        await tier.append(payload(100, number))
    assert tier.writer.statistics()["volumes_open"] <= VOLUMES_OPEN_MAX
    assert len(tier.ledger.ends) >= 5


async def test_closing_seals_and_refuses_more() -> None:
    tier = Tier()
    location = await tier.append(b"x")
    await tier.writer.close()
    assert location.volume in tier.ledger.ends
    with pytest.raises(StoreClosing):
        await tier.append(b"y")


@pytest.mark.parametrize("size", [0, FULL + 1])
async def test_what_is_no_stripe_is_refused(size: int) -> None:
    with pytest.raises(GeometryError):
        await Tier().append(bytes(size))


@pytest.mark.parametrize(("k", "m"), [(1, 0), (1, 2), (3, 0), (20, 5)])
async def test_every_geometry_works(k: int, m: int) -> None:
    tier = Tier(k, m)
    location = await tier.append(payload(12345))
    await tier.writer.close()
    assert await tier.read(location, 5, 12000) == payload(12345)[5:12005]

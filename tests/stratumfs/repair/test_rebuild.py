"""Shards made anew from the others."""

import threading
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from stratumfs.errors import DeviceFailed, DeviceSilent
from stratumfs.ids import CellIndex, DeviceId, StripeNo
from stratumfs.location import Location
from stratumfs.repair import answer
from stratumfs.repair import rebuild as rebuilding
from stratumfs.repair import stripes as listing
from stratumfs.repair.rebuild import Pace, RebuildPlan, Rebuilt, rebuild
from stratumfs.repair.stripes import Stripes, all_stripes
from stratumfs.repair.verify import verify_volume
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.volumes import toc
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, stripes_of
from stratumfs.volumes.threads import LendingThreads
from stratumfs.volumes.walk import read_toc
from tests.suites.tier import STORE, Tier, payload

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SIZES = (1000, 70_000, 5, 300_000, 16_384)


class Sealed:
    """A tier with one sealed volume of some stripes, of which rows name all but one."""

    def __init__(self, tier: Tier, at: list[Location]) -> None:
        self.tier, self.at = tier, at
        self.volume = at[0].volume
        self.info = tier.info(at[0])
        self.length, _ = tier.ledger.ends[self.volume]
        self.stripes = [next(iter(stripes_of(each, 1))) for each in at]
        self.named = [each for number, each in enumerate(self.stripes) if number != 2]
        self.lacking: set[int] = set()
        self.before = [bytes(tier.shard(self.volume, index)) for index in range(tier.code.n)]

    def target(self, index: int) -> AttachedDevice:
        return self.tier.devices[self.info.devices[index]]

    def lose(self, index: int) -> None:
        self.tier.shards_of(self.volume, index).contents.clear()

    async def rebuild(self, *indexes: int, to: AttachedDevice | None = None, pace: Pace | None = None) -> Rebuilt:
        plan = RebuildPlan(
            STORE,
            self.info,
            (await self.all_stripes(self.named)).found,
            self.names,
            self.length,
            {CellIndex(index): to or self.target(index) for index in indexes},
            toc.pack([]),
        )
        return await rebuild(plan, self.tier.devices, LendingThreads(1), pace or no_pace, self.lacks)

    async def all_stripes(self, named: Sequence[StripeAt], *sources: int) -> Stripes:
        """As the headers of *sources* tell, of all shards if none is given."""
        devices = {self.target(index).id: self.target(index) for index in sources or range(self.tier.code.n)}
        return await all_stripes(STORE, self.info, named, self.length, devices)

    async def names(self) -> Sequence[StripeAt]:
        await trio.lowlevel.checkpoint()
        return self.named

    async def lacks(self, cells: Collection[CellIndex]) -> None:
        await trio.lowlevel.checkpoint()
        self.lacking |= set(cells)

    def silence(self, index: int, asks: int = 1 << 30) -> "Silent":
        """From now on the device of shard *index* does not answer in time when it is asked something, so many times."""
        device = self.target(index)
        silent = self.tier.devices[device.id] = Silent(device.id, device.label, device.shards, device.disk)
        silent.asks = asks
        return silent

    def spoil(self, stripe: int, *indexes: int) -> None:
        for index in indexes:
            self.tier.shard(self.volume, index)[self.stripes[stripe].position + 200] ^= 1

    async def damage(self, stripes: Sequence[StripeAt] | None = None) -> list[tuple[int, int]]:
        found = await verify_volume(
            STORE, self.info, stripes or self.stripes, self.tier.devices, trio.CapacityLimiter(1)
        )
        return sorted((each.index, each.stripe.stripe) for each in found)


class Silent(AttachedDevice):
    """A device that is not heard of within any deadline, until it was asked often enough."""

    asks = 0
    asked = 0

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        self.asked += 1
        if self.asked <= self.asks:
            raise DeviceSilent(f"device {self.label} does not answer", self.label)
        return await trio.to_thread.run_sync(fn, *args)

    def reading(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        raise DeviceSilent(f"device {self.label} does not answer", self.label)


def spare_device() -> AttachedDevice:
    return AttachedDevice(DeviceId(b"spare".ljust(16)), "spare", MemoryShards("spare"))


async def no_pace(seconds: float, written: int) -> None:
    await trio.lowlevel.checkpoint()


async def sealed(**options: int) -> Sealed:
    tier = Tier(**options)
    at = [await tier.append(payload(size, number)) for number, size in enumerate(SIZES)]
    await tier.writer.close()
    return Sealed(tier, at)


async def test_missing_shards_are_byte_for_byte_what_they_were() -> None:
    found = await sealed()
    for lost in ((0, 5), (1, 2), (4, 5)):
        for index in lost:
            found.lose(index)
        result = await found.rebuild(*lost)
        assert (result.installed, result.failures, result.bad, result.lost) == (set(lost), {}, {}, [])
        for index in lost:
            assert bytes(found.tier.shard(found.volume, index))[: found.length] == found.before[index][: found.length]
    assert await found.damage() == []


async def test_the_table_of_contents_is_written_where_it_belongs() -> None:
    found = await sealed()
    for index in (0, 4):
        found.lose(index)
    await found.rebuild(0, 4)
    assert len(found.tier.shard(found.volume, 0)) == found.length
    assert read_toc(found.tier.shards_of(found.volume, 4), ShardName(found.volume, CellIndex(4))) == []


async def test_damaged_cells_are_made_from_the_others_and_good_ones_kept() -> None:
    """Each shard has a bad cell in another stripe: only with all the good ones can all be made."""
    found = await sealed()
    for index, stripe in enumerate(found.stripes[:3]):
        found.tier.shard(found.volume, index)[stripe.position + 130] ^= 1
        found.tier.shard(found.volume, index + 3)[stripe.position + 20] ^= 255
    result = await found.rebuild(0, 1, 2)
    assert (result.installed, result.lost) == ({0, 1, 2}, [])
    assert await found.damage() == []


async def test_damage_that_is_met_elsewhere_is_told() -> None:
    found = await sealed()
    found.lose(0)
    found.tier.shard(found.volume, 1)[found.stripes[3].position + 200] ^= 1
    result = await found.rebuild(0)
    assert (result.installed, set(result.bad)) == ({0}, {1})
    assert await found.damage() == [(1, 3)]


async def test_a_stripe_that_cannot_be_made_costs_no_good_cell_of_an_old_file() -> None:
    found = await sealed()
    at = found.stripes[3].position + 200
    for index in (0, 1, 2):
        found.tier.shard(found.volume, index)[at] ^= 1
    found.tier.shard(found.volume, 0)[found.stripes[0].position + 200] ^= 1
    before = bytes(found.tier.shard(found.volume, 0))
    result = await found.rebuild(0)
    assert (result.installed, [each.stripe for each in result.lost]) == (set(), [3])
    assert bytes(found.tier.shard(found.volume, 0)) == before


async def test_a_missing_shard_is_made_as_far_as_it_can_be() -> None:
    found = await sealed()
    found.lose(0)
    for index in (1, 2):
        found.tier.shard(found.volume, index)[found.stripes[3].position + 200] ^= 1
    result = await found.rebuild(0)
    assert (result.installed, [each.stripe for each in result.lost]) == ({0}, [3])
    assert found.lacking == {0}
    assert await found.damage() == [(0, 3), (1, 3), (2, 3)]


async def test_stripes_that_no_row_names_are_made_too() -> None:
    found = await sealed()
    found.lose(3)
    await found.rebuild(3)
    assert await found.damage([found.stripes[2]]) == []


async def test_headers_of_another_shard_go_on_where_one_is_damaged() -> None:
    found = await sealed()
    found.named = []
    found.lose(5)
    found.tier.shard(found.volume, 0)[found.stripes[1].position : found.stripes[2].position] = bytes(
        found.stripes[2].position - found.stripes[1].position
    )
    assert await found.all_stripes([], 0, 1) == Stripes(found.stripes, frozenset())


async def test_a_gap_that_no_header_tells_of_ends_at_the_next_named_stripe() -> None:
    found = await sealed()
    found.tier.shard(found.volume, 0)[found.stripes[1].position : found.stripes[4].position] = b"?" * (
        found.stripes[4].position - found.stripes[1].position
    )
    stripes = await found.all_stripes(found.stripes[3:4], 0)
    assert [at.stripe for at in stripes.found] == [0, 3, 4]


async def test_headers_are_found_behind_a_stripe_that_was_never_written() -> None:
    """Its place was given out, and the volume given up before anything was written there, but not before the next one
    was written and synced."""
    found = await sealed()
    hole = slice(found.stripes[1].position, found.stripes[2].position)
    for index in range(found.tier.code.n):
        found.tier.shard(found.volume, index)[hole] = bytes(hole.stop - hole.start)
    stripes = await found.all_stripes([])
    assert [at.stripe for at in stripes.found] == [0, 2, 3, 4]
    assert stripes.silent == set()


async def test_headers_are_read_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "HEADERS_LISTED", 2)
    monkeypatch.setattr(listing, "REBUILD_BYTES", 50)
    found = await sealed()
    found.tier.shard(found.volume, 0)[found.stripes[1].position + 4] = 99
    found.tier.shard(found.volume, 0)[found.stripes[1].position : found.stripes[2].position - 100] = bytes(
        found.stripes[2].position - 100 - found.stripes[1].position
    )
    assert [at.stripe for at in (await found.all_stripes([], 0)).found] == [0, 2, 3, 4]


async def test_a_shard_is_made_on_another_device() -> None:
    found = await sealed()
    found.lose(2)
    spare = spare_device()
    result = await found.rebuild(2, to=spare)
    assert result.installed == {2}
    assert isinstance(spare.shards, MemoryShards)
    assert bytes(spare.shards.contents[ShardName(found.volume, CellIndex(2))]) == found.before[2]
    spare.shards.power_cut()
    assert bytes(spare.shards.contents[ShardName(found.volume, CellIndex(2))]) == found.before[2]


async def test_no_more_than_a_few_bytes_are_left_for_one_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy disk must not be struck for what it was given to do."""
    found = await sealed()
    found.lose(2)
    monkeypatch.setattr(rebuilding, "REBUILD_BYTES", 1)
    monkeypatch.setattr(rebuilding, "REBUILD_SYNC_BYTES", 1)
    monkeypatch.setattr(rebuilding, "REBUILD_BATCHES", 1)
    calls: list[str] = []
    found.tier.shards_of(found.volume, 2).fault = lambda verb, name: calls.append(verb)
    assert (await found.rebuild(2)).installed == {2}
    writes = [verb for verb in calls if verb in ("write_at", "datasync")]
    assert writes.count("write_at") >= len(found.stripes)
    assert all(second == "datasync" for first, second in pairwise(writes) if first == "write_at")


@pytest.mark.parametrize("verb", ["begin_anew", "preallocate", "write_at", "cut", "datasync", "install"])
async def test_a_target_that_fails_stops_no_other(verb: str) -> None:
    found = await sealed()
    for index in (0, 1):
        found.lose(index)

    def fail(asked: str, name: ShardName | None) -> None:
        if asked == verb:
            raise DeviceFailed("no", "device")

    found.tier.shards_of(found.volume, 0).fault = fail
    result = await found.rebuild(0, 1)
    assert (result.installed, set(result.failures)) == ({1}, {0})
    assert found.tier.shards_of(found.volume, 0).contents == {}


async def test_too_few_shards_name_every_stripe_that_is_lost() -> None:
    found = await sealed()
    for index in (0, 1, 2):
        found.lose(index)
    result = await found.rebuild(0)
    assert {each.stripe for each in result.lost} == {StripeNo(0), StripeNo(1), StripeNo(3), StripeNo(4)}


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_shard_that_leaves_a_sound_device_is_copied_and_made_from_others_where_it_is_damaged(
    damaged: bool,
) -> None:
    found, spare = await sealed(), spare_device()
    found.named = found.stripes  # nothing is looked for
    if damaged:
        found.spoil(3, 1)
    asked: set[int] = set()
    for index in range(6):
        found.tier.shards_of(found.volume, index).fault = lambda verb, name, at=index: (  # type: ignore[misc]
            asked.add(at) if verb == "read_at" else None
        )
    result = await found.rebuild(1, to=spare)
    assert (result.installed, result.lost) == ({1}, [])
    assert isinstance(spare.shards, MemoryShards)
    made = bytes(spare.shards.contents[ShardName(found.volume, CellIndex(1))])
    assert made[: found.length] == found.before[1][: found.length]
    if damaged:
        assert len(asked) >= 4
    else:
        assert asked == {1}


async def test_a_volume_of_one_data_cell_is_made_from_its_one_copy() -> None:
    found = await sealed(k=1, m=2)
    for index in (0, 2):
        found.lose(index)
    assert (await found.rebuild(0, 2)).installed == {0, 2}
    assert await found.damage() == []


async def test_a_source_that_hangs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "REBUILD_READ_S", 2)
    found = await sealed()
    found.lose(0)
    hang = trio.CapacityLimiter(1)
    hang.acquire_on_behalf_of_nowait("somebody who reads for ever")
    found.target(1).readers = hang
    result = await found.rebuild(0)
    assert (result.installed, result.bad) == ({0}, {})


async def test_a_source_that_hangs_in_the_middle_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "REBUILD_READ_S", 1.0)
    monkeypatch.setattr(answer, "REBUILD_READ_S", 1.0)
    monkeypatch.setattr(rebuilding, "REBUILD_BYTES", 1)  # stripe after stripe
    monkeypatch.setattr(rebuilding, "REBUILD_BATCHES", 1)
    found = await sealed()
    found.lose(0)
    answers = threading.Event()
    read = found.tier.shards_of(found.volume, 1).read_at
    hangs_at = found.stripes[3].position

    def read_at(name: ShardName, position: int, length: int) -> bytes:
        if position >= hangs_at:
            answers.wait()
        return read(name, position, length)

    found.tier.shards_of(found.volume, 1).read_at = read_at  # type: ignore[method-assign]  # it hangs from there on
    try:
        result = await found.rebuild(0)
        assert (result.installed, result.bad, result.silent) == ({0}, {}, set())
        assert bytes(found.tier.shard(found.volume, 0))[: found.length] == found.before[0][: found.length]
    finally:
        answers.set()


async def test_cells_that_are_met_bad_one_after_the_other_cost_those_stripes_alone() -> None:
    """What most shards give at once, and what only others have, comes together in order."""
    found = await sealed()
    found.lose(0)
    for stripe in (1, 3):
        found.spoil(stripe, 2)
    result = await found.rebuild(0)
    assert (result.installed, set(result.bad)) == ({0}, {2})
    assert bytes(found.tier.shard(found.volume, 0))[: found.length] == found.before[0][: found.length]


async def test_a_source_that_was_silent_is_asked_again_before_a_stripe_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuilding, "REBUILD_BYTES", 1)  # stripe after stripe
    monkeypatch.setattr(rebuilding, "REBUILD_BATCHES", 1)
    found = await sealed()
    for index in (0, 5):
        found.lose(index)
    wakes_up = found.silence(2, 1)
    result = await found.rebuild(0)
    assert wakes_up.asked == 1 + len(found.stripes)
    assert (result.installed, result.lost, result.silent, found.lacking) == ({0}, [], set(), set())
    assert {index for index, _ in await found.damage()} == {5}


async def test_a_source_that_is_silent_is_not_lost_and_nothing_is_installed_without_it() -> None:
    found = await sealed()
    for index in (0, 5):
        found.lose(index)
    found.silence(2)
    result = await found.rebuild(0)
    assert (result.installed, result.lost, result.silent, result.bad.keys()) == (set(), [], {2}, {5})
    shards = found.tier.shards_of(found.volume, 0)
    assert shards.contents == {}
    assert list(map(len, shards.unfinished.values())) == [0]


async def test_a_stripe_that_no_row_names_yet_is_not_left_out_while_a_source_is_silent() -> None:
    """Whoever wrote it may be about to name it."""
    found = await sealed()
    for index in (0, 5):
        found.lose(index)
    found.named = []
    found.silence(2)
    result = await found.rebuild(0, 5)
    assert (result.installed, result.silent) == (set(), {2})


async def test_what_rows_name_when_it_is_put_into_place_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "REBUILD_BYTES", 1)  # stripe after stripe
    found = await sealed()
    found.lose(0)
    found.named = found.stripes[:3]
    found.spoil(3, 1, 2)

    async def named_meanwhile(seconds: float, written: int) -> None:
        await trio.lowlevel.checkpoint()
        found.named = found.stripes

    result = await found.rebuild(0, pace=named_meanwhile)
    assert ([each.stripe for each in result.lost], found.lacking, result.installed) == ([3], {0}, {0})


async def test_of_a_stripe_that_was_written_in_part_and_never_named_no_shard_is_bad() -> None:
    found = await sealed()
    found.lose(0)
    found.named = found.stripes[:3]
    torn = slice(found.stripes[3].position, found.stripes[4].position)
    for index in (3, 4, 5):
        found.tier.shard(found.volume, index)[torn] = bytes(torn.stop - torn.start)
    result = await found.rebuild(0)
    assert (result.installed, result.lost, result.bad, result.failures) == ({0}, [], {}, {})


async def test_a_header_whose_payload_length_is_damaged_costs_nothing() -> None:
    """A cell counts without that field, and the parity that could correct it."""
    found = await sealed()
    found.lose(0)
    for at in found.stripes[:2]:
        for number in (*range(56, 60), *range(100, 128)):
            found.tier.shard(found.volume, 1)[at.position + number] ^= 255
    result = await found.rebuild(0)
    assert (result.installed, result.failures, result.bad, result.lost) == ({0}, {}, {}, [])
    assert bytes(found.tier.shard(found.volume, 0))[: found.length] == found.before[0][: found.length]


async def test_a_silent_source_that_nobody_needs_stops_nothing() -> None:
    found = await sealed()
    found.lose(0)
    found.silence(2)
    result = await found.rebuild(0)
    assert (result.installed, result.silent) == ({0}, set())


async def test_the_old_shard_helps_when_it_moves() -> None:
    found = await sealed()
    found.spoil(3, 4, 5)
    found.target(2).strike(DeviceFailed("a sync failed"))
    result = await found.rebuild(2, to=spare_device())
    assert (result.installed, result.lost) == ({2}, [])


async def test_the_old_shard_is_not_asked_while_the_others_do() -> None:
    found = await sealed()
    old = found.silence(2)
    old.strike(DeviceFailed("it stalls"))
    result = await found.rebuild(2, to=spare_device())
    assert (result.installed, old.asked) == ({2}, 0)


async def test_a_shard_does_not_move_without_its_stripes_while_the_old_one_is_there() -> None:
    found = await sealed()
    found.spoil(3, 1, 2, 4)
    spare = spare_device()
    result = await found.rebuild(2, to=spare)
    assert (result.installed, [each.stripe for each in result.lost]) == (set(), [3])
    found.lose(2)
    result = await found.rebuild(2, to=spare)
    assert (result.installed, [each.stripe for each in result.lost], found.lacking) == ({2}, [3], {2})


async def test_a_shard_does_not_move_without_its_stripes_while_nobody_knows_of_the_old_one() -> None:
    found = await sealed()
    found.spoil(3, 1, 4, 5)
    found.silence(2)
    result = await found.rebuild(2, to=spare_device())
    assert (result.installed, result.silent) == (set(), {2})


async def test_a_sector_that_cannot_be_read_costs_one_cell() -> None:
    found = await sealed()
    found.lose(0)
    found.spoil(1, 5)
    found.target(2).doubtful = True  # too few are left that nothing is known against: all are read in runs
    shards = found.tier.shards_of(found.volume, 1)
    read, bad = shards.read_at, found.stripes[3].position + 200

    def read_at(name: ShardName, position: int, length: int) -> bytes:
        if position <= bad < position + length:
            raise DeviceFailed("Input/output error", "device")
        return read(name, position, length)

    shards.read_at = read_at  # type: ignore[method-assign]  # a fault of one place, which no verb's hook sees
    result = await found.rebuild(0)
    assert (result.installed, result.lost, result.bad.keys()) == ({0}, [], {1, 5})


async def test_a_gap_is_asked_of_a_silent_device_once() -> None:
    found = await sealed()
    found.lose(0)
    found.named = [found.stripes[1], found.stripes[3]]
    silent = found.silence(1)
    assert await found.all_stripes(found.named, 1, 2) == Stripes(found.stripes, frozenset())
    assert silent.asked == 1


async def test_a_gap_that_only_a_silent_device_could_tell_of_is_said() -> None:
    found = await sealed()
    found.silence(1)
    found.lose(2)
    assert await found.all_stripes(found.named, 1, 2) == Stripes(found.named, frozenset({CellIndex(1)}))


async def test_devices_in_doubt_are_asked_for_a_gap_last() -> None:
    found = await sealed()
    silent = found.silence(1)
    silent.doubtful = True
    assert await found.all_stripes([], 1, 2) == Stripes(found.stripes, frozenset())
    assert silent.asked == 0

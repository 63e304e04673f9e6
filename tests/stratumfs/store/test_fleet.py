"""States of devices: who is struck, who is not, and what is recorded."""

import threading
from collections.abc import Callable, Sequence

import pytest
import trio

from stratumfs.catalog.standings import DeviceRow
from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, DeviceFull, DeviceUnasked, InvalidArgument, StoreBusy
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.limits import DEVICE_DEADLINE_S, DEVICE_FULL_S, DEVICE_SUSPECT_S
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.store.fleet import Absent, Fleet
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fleet import SealMark

EIO = DeviceFailed("EIO", "d0")
MARK = SealMark(VolumeId(b"v" * 16), 100, 2)


def ident(number: int) -> DeviceId:
    return DeviceId(bytes([number]) * 16)


class World:
    """A fleet over six devices in memory, a clock that stands still, a ledger that remembers."""

    def __init__(
        self,
        rows: Sequence[DeviceRow] = (),
        absent: Sequence[Absent] = (),
        draining: Sequence[DeviceId] = (),
    ) -> None:
        self.now = 1000.0
        self.hang = {number: threading.Event() for number in range(6)}
        for event in self.hang.values():
            event.set()
        gone = {each.id for each in absent}
        found = [self._device(number) for number in range(6) if ident(number) not in gone]
        self.devices = {each.id: each for each in found}
        self.recorded: list[tuple[DeviceId, DeviceState, str, Sequence[SealMark]]] = []
        self.told: list[DeviceId] = []
        self.steps: list[str] = []
        self.failure: Exception | None = None
        self.fleet = Fleet(
            self.devices,
            {"hot": Code(4, 2)},
            self,
            rows=rows,
            absent=absent,
            draining=draining,
            epoch=self._epoch,
            welcome=lambda device: self.steps.append("welcome"),
        )
        self.fleet.listeners.append(self.told.append)
        self.fleet.writers.append(self)

    def _device(self, number: int) -> AttachedDevice:
        def fault(verb: str, name: ShardName | None) -> None:
            assert self.hang[number].wait(60)

        return AttachedDevice(ident(number), f"d{number}", MemoryShards(f"d{number}", fault), clock=lambda: self.now)

    def fresh(self, number: int) -> AttachedDevice:
        return AttachedDevice(ident(number), f"d{number}", MemoryShards(f"d{number}"), clock=lambda: self.now)

    async def _epoch(self, device: DeviceId, reason: str) -> None:
        self.steps.append("epoch")
        await trio.lowlevel.checkpoint()

    def give_up(self, device: DeviceId) -> Sequence[SealMark]:
        self.steps.append("give up")
        return [MARK]

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.steps.append("record")
        self.recorded.append((device, state, reason, marks))

    async def restored(self, device: DeviceId) -> None:
        self.steps.append("restore")

    async def drained(self, device: DeviceId, wanted: bool) -> None:
        if self.failure is not None:
            raise self.failure
        self.steps.append("drain" if wanted else "keep")

    async def stall(self, nursery: trio.Nursery, *numbers: int) -> None:
        """Each of these gets a write that does not come back."""
        for number in numbers:
            self.hang[number].clear()
            nursery.start_soon(self._write, number)
        await until(lambda: all(self.devices[ident(each)].writing_since() is not None for each in numbers))

    async def _write(self, number: int) -> None:
        await self._write_to(self.devices[ident(number)])

    async def _write_to(self, device: AttachedDevice) -> None:
        try:
            await device.write(device.shards.probe)
        except DeviceFailed:
            assert device.struck is not None

    async def answer(self, *numbers: int) -> None:
        for number in numbers:
            device = self.devices[ident(number)]
            await device.write(device.shards.probe)

    def catching_up(self, number: int, nursery: trio.Nursery) -> AttachedDevice:
        """It is opened anew, and a write of it does not come back."""
        self.hang[number].clear()
        back = self.fleet.returning = self._device(number)
        nursery.start_soon(self._write_to, back)
        return back

    async def pass_deadline(self, nursery: trio.Nursery, *but: int) -> None:
        """All devices but these answer something, then the deadline passes."""
        self.now += 1
        await self.answer(*(number for number in range(6) if number not in but))
        self.now += DEVICE_DEADLINE_S
        await self.look(nursery)

    async def look(self, nursery: trio.Nursery) -> None:
        self.fleet.look(nursery)
        await trio.testing.wait_all_tasks_blocked()
        await until(lambda: all(map(_has_begun, self.devices.values())))
        await trio.testing.wait_all_tasks_blocked()


async def until(condition: Callable[[], bool]) -> None:
    """What a thread does next is waited for."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


def _has_begun(device: AttachedDevice) -> bool:
    """Each call that it was given; one whose thread comes late would begin at a later time of the test's clock."""
    return device.writers.borrowed_tokens == len(device._writing_since)


def states(world: World) -> list[DeviceState]:
    return [world.fleet.state(ident(number))[0] for number in range(6)]


async def test_a_struck_device_is_recorded_with_the_ends_of_its_volumes() -> None:
    world = World()
    await world.fleet.strike(ident(0), EIO)
    assert world.recorded == [(ident(0), DeviceState.FAILED, "EIO", (MARK,))]
    assert world.steps == ["give up", "epoch", "record"]
    assert world.told == [ident(0)] * 2  # at once, for it must not come back; and when its volumes are sealed
    assert [device.id for device in world.fleet.up("hot")] == [ident(number) for number in range(1, 6)]
    with pytest.raises(DeviceFailed, match="d0 was given up: EIO"):
        await world.devices[ident(0)].write(world.devices[ident(0)].shards.probe)


async def test_a_strike_is_done_once_and_all_who_ask_wait_for_it() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(world.fleet.strike, ident(1), EIO, DeviceState.READ_ONLY)
        nursery.start_soon(world.fleet.strike, ident(2), EIO)
    found = sorted((device, state) for device, state, _, _ in world.recorded)
    assert found == [(ident(1), DeviceState.READ_ONLY), (ident(2), DeviceState.FAILED)]
    await world.fleet.strike(ident(1), EIO)
    assert len(world.recorded) == 2


async def test_what_could_not_be_recorded_is_recorded_by_a_later_look() -> None:
    world = World(absent=[Absent(ident(5), "hot", "d5", "not mounted")])
    world.failure = StoreBusy("8192 commits wait already")
    with pytest.raises(StoreBusy):
        await world.fleet.strike(ident(0), EIO)
    assert world.fleet.state(ident(0)) == (DeviceState.FAILED, "EIO")
    assert world.told == [ident(0)]  # it is not taken back at once
    async with trio.open_nursery() as nursery:
        await world.look(nursery)
        assert world.recorded == []
        world.failure = None
        for _ in range(2):
            await world.look(nursery)
    assert world.recorded == [(ident(0), DeviceState.FAILED, "EIO", (MARK,))]
    assert world.told == [ident(0)] * 2


async def test_a_device_that_is_back_before_its_strike_was_recorded_leaves_no_volume_open() -> None:
    world = World()
    world.failure = StoreBusy("8192 commits wait already")
    with pytest.raises(StoreBusy):
        await world.fleet.strike(ident(0), EIO)
    world.failure = None
    await world.fleet.restore(world.fresh(0))
    assert world.recorded == [(ident(0), DeviceState.FAILED, "EIO", (MARK,))]
    assert world.steps[-3:] == ["record", "restore", "welcome"]
    async with trio.open_nursery() as nursery:
        await world.look(nursery)
    assert len(world.recorded) == 1


async def test_a_strike_is_not_cut_short_by_cancellation() -> None:
    world = World()
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.fleet.strike(ident(0), EIO)
    assert len(world.recorded) == 1


async def test_nobody_is_struck_for_what_this_process_lacks() -> None:
    world = World()
    with pytest.raises(DeviceUnasked):
        await world.fleet.strike(ident(0), DeviceUnasked("Too many open files"))
    assert world.fleet.state(ident(0)) == (DeviceState.ONLINE, None)
    assert world.recorded == []


async def test_struck_devices_stay_struck_over_restarts() -> None:
    row = DeviceRow(ident(3), "read_only", 1, "a sync failed")
    world = World([row], [Absent(ident(4), "hot", "d4", "not mounted")])
    assert world.fleet.state(ident(3)) == (DeviceState.READ_ONLY, "a sync failed")
    assert world.fleet.state(ident(4)) == (DeviceState.FAILED, "not mounted")
    assert len(world.fleet.up("hot")) == 4
    assert world.devices[ident(3)].struck is not None
    assert world.fleet.struck == [ident(3), ident(4)]
    await world.fleet.restore(world.fresh(3))
    assert world.fleet.state(ident(3)) == (DeviceState.ONLINE, None)
    assert world.steps == ["restore", "welcome"]
    await world.answer(3)


async def test_with_fewer_than_one_and_m_devices_nothing_is_written() -> None:
    world = World()
    for number in range(3):
        assert world.fleet.refusal("hot") is None
        await world.fleet.strike(ident(number), EIO)
    assert world.fleet.refusal("hot") is None  # 1+2
    await world.fleet.strike(ident(3), DeviceFailed("gone", "d3"))
    found = world.fleet.refusal("hot")
    assert found is not None
    assert "2 of 6 devices of tier hot are up, and writes need 3" in found
    assert "d3 (gone)" in found
    await world.fleet.restore(world.fresh(3))
    assert world.fleet.refusal("hot") is None


async def test_a_full_device_is_up_and_takes_no_volumes_for_a_while() -> None:
    world = World()
    world.fleet.full(ident(0), DeviceFull("no room", "d0"))
    assert world.fleet.state(ident(0)) == (DeviceState.FULL, "no room")
    assert (len(world.fleet.up("hot")), len(world.fleet.taking("hot"))) == (6, 5)
    world.fleet.suspect(ident(0), "a read failed")
    assert world.fleet.state(ident(0))[0] is DeviceState.FULL
    async with trio.open_nursery() as nursery:
        world.now += DEVICE_FULL_S
        await world.look(nursery)
    assert len(world.fleet.taking("hot")) == 6
    assert not world.recorded


async def test_an_erring_device_is_read_last_for_a_while_and_told_of() -> None:
    world = World()
    world.fleet.suspect(ident(5), "a read failed")
    assert world.fleet.state(ident(5)) == (DeviceState.SUSPECT, "a read failed")
    assert world.devices[ident(5)].doubtful
    assert world.told == [ident(5)]
    assert len(world.fleet.taking("hot")) == 6
    async with trio.open_nursery() as nursery:
        world.now += DEVICE_SUSPECT_S
        await world.look(nursery)
    assert states(world) == [DeviceState.ONLINE] * 6
    assert not world.devices[ident(5)].doubtful


async def test_a_device_whose_reads_hang_is_suspect_and_not_struck() -> None:
    world = World()
    device = world.devices[ident(1)]
    world.hang[1].clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.read, device.shards.probe)
        await until(lambda: device.stalled(-1))
        world.now += DEVICE_DEADLINE_S + 1
        await world.look(nursery)
        await world.look(nursery)
        world.hang[1].set()
    assert world.fleet.state(ident(1)) == (DeviceState.SUSPECT, "a read has not come back for 30 s")
    assert world.told == [ident(1)]
    assert not world.recorded


async def test_a_file_system_that_the_kernel_made_read_only_is_observed_and_not_recorded() -> None:
    world = World()
    world.fleet.read_only(ident(2), "its file system is read-only")
    assert states(world)[2] is DeviceState.READ_ONLY
    assert len(world.fleet.up("hot")) == 5
    assert not world.recorded


async def test_devices_that_stall_are_struck_while_the_others_answer() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0, 3)
        world.now += 1
        await world.answer(1, 2, 4, 5)
        await world.look(nursery)
        assert states(world) == [DeviceState.ONLINE] * 6
        world.now += DEVICE_DEADLINE_S
        await world.look(nursery)
        assert states(world)[0] is states(world)[3] is DeviceState.FAILED
        assert "d0 has not answered for 30 s" in str(world.fleet.state(ident(0))[1])
        assert sorted(device for device, _, _, _ in world.recorded) == [ident(0), ident(3)]
        assert world.fleet.waiting is None
        for event in world.hang.values():
            event.set()


async def test_who_has_not_answered_since_is_asked_before_anybody_is_struck() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0)
        world.hang[1].clear()
        world.hang[2].clear()
        world.now += DEVICE_DEADLINE_S
        await world.look(nursery)  # nobody has said anything: all are asked
        assert world.fleet.waiting == "6 of 6 devices of tier hot do not answer"
        await until(lambda: all(world.devices[ident(number)].answered >= world.now for number in (3, 4, 5)))
        world.now += 1
        await world.look(nursery)
        assert world.fleet.waiting == "3 of 6 devices of tier hot do not answer"
        assert not world.recorded
        for number in (1, 2):
            world.hang[number].set()
            await until(lambda number=number: world.devices[ident(number)].answered >= world.now)  # type: ignore[misc]
        await world.pass_deadline(nursery, 0)
        assert [device for device, _, _, _ in world.recorded] == [ident(0)]
        world.hang[0].set()


async def test_what_stalled_together_is_not_blamed_for_coming_back_one_after_the_other() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0, 1, 2, 3, 4, 5)
        for _ in range(10):
            world.now += 4
            await world.look(nursery)
        world.now += 1
        for number in range(4):
            world.hang[number].set()
        await until(lambda: all(world.devices[ident(each)].writing_since() is None for each in range(4)))
        await world.look(nursery)
        assert states(world) == [DeviceState.ONLINE] * 6
        assert world.fleet.waiting == "2 of 6 devices of tier hot do not answer"
        world.hang[4].set()
        await until(lambda: world.devices[ident(4)].writing_since() is None)
        await world.pass_deadline(nursery, 5)
        assert [device for device, _, _, _ in world.recorded] == [ident(5)]
        world.hang[5].set()


async def test_what_is_idle_and_stalled_with_others_is_not_taken_for_the_one_that_answers() -> None:
    """One had a call under way; the others are asked in the middle of the stall, and come back one after the other."""
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0)
        for number in range(1, 6):
            world.hang[number].clear()
        for _ in range(10):
            world.now += 4
            await world.look(nursery)
        for number in range(1, 5):
            world.hang[number].set()
        await until(lambda: all(world.devices[ident(each)].writing_since() is None for each in range(1, 5)))
        world.now += 1
        await world.look(nursery)
        assert not world.recorded
        for event in world.hang.values():
            event.set()


async def test_a_strike_that_takes_long_is_no_standstill_and_holds_up_no_other_strike() -> None:
    world = World()
    go_on = trio.Event()

    async def epoch(device: DeviceId, reason: str) -> None:
        await go_on.wait()

    world.fleet._epoch = epoch
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0)
        world.now += 20
        await world.stall(nursery, 1)
        world.now += 10
        await world.answer(2, 3, 4, 5)
        await world.look(nursery)
        assert states(world)[:2] == [DeviceState.FAILED, DeviceState.ONLINE]
        world.now += 20
        await world.answer(2, 3, 4, 5)
        await world.look(nursery)
        assert states(world)[:2] == [DeviceState.FAILED] * 2
        go_on.set()
        for event in world.hang.values():
            event.set()
    assert [device for device, _, _, _ in world.recorded] == [ident(0), ident(1)]


async def test_a_device_that_catches_up_is_given_up_while_the_others_answer() -> None:
    """Those that are struck and hang are no excuse: it keeps the repair of what they held waiting."""
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0, 1)
        await world.pass_deadline(nursery, 0, 1)
        await world.fleet.strike(ident(2), EIO)
        back = world.catching_up(2, nursery)
        await until(lambda: back.writing_since() is not None)
        await world.pass_deadline(nursery, 0, 1, 2)
        assert str(back.struck) == "device d2 has not answered for 30 s"
        assert world.fleet.waiting is None
        for event in world.hang.values():
            event.set()


async def test_a_device_that_catches_up_is_not_given_up_in_a_stall_of_all() -> None:
    world = World()
    await world.fleet.strike(ident(2), EIO)
    async with trio.open_nursery() as nursery:
        back = world.catching_up(2, nursery)
        await until(lambda: back.writing_since() is not None)
        for event in world.hang.values():
            event.clear()
        for _ in range(10):
            world.now += 4
            await world.look(nursery)
        for number in (0, 1, 3, 4):
            world.hang[number].set()
        await until(lambda: all(world.devices[ident(each)].writing_since() is None for each in (0, 1, 3, 4)))
        world.now += 1
        await world.look(nursery)
        assert back.struck is None
        for event in world.hang.values():
            event.set()


async def test_a_device_that_catches_up_is_not_given_up_for_a_standstill(mock_clock: trio.testing.MockClock) -> None:
    world = World()
    await world.fleet.strike(ident(2), EIO)
    async with trio.open_nursery() as nursery:
        await world.look(nursery)
        back = world.catching_up(2, nursery)
        await until(lambda: back.writing_since() is not None)
        world.now += DEVICE_DEADLINE_S
        mock_clock.jump(DEVICE_DEADLINE_S)
        await world.look(nursery)
        assert back.struck is None
        world.hang[2].set()


async def test_when_more_than_m_stall_it_is_the_machine_and_nobody_is_struck() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0, 1, 2, 3, 4, 5)
        for _ in range(5):
            world.now += DEVICE_DEADLINE_S
            await world.look(nursery)
        assert states(world) == [DeviceState.ONLINE] * 6
        assert world.fleet.waiting == "6 of 6 devices of tier hot do not answer"
        for event in world.hang.values():
            event.set()
    async with trio.open_nursery() as nursery:
        await world.look(nursery)
    assert world.fleet.waiting is None


async def test_nobody_is_struck_for_slowness_below_one_and_m() -> None:
    world = World([DeviceRow(ident(number), "failed", 1, "EIO") for number in (3, 4, 5)])
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0)
        world.now += 1
        await world.answer(1, 2)
        world.now += DEVICE_DEADLINE_S
        await world.look(nursery)
        assert not world.recorded
        assert world.fleet.waiting == "1 of 3 devices of tier hot do not answer"
        world.hang[0].set()


async def test_a_process_that_was_stopped_blames_nobody(mock_clock: trio.testing.MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.look(nursery)
        await world.stall(nursery, 0)
        world.now += 1
        await world.answer(1, 2, 3, 4, 5)
        world.now += DEVICE_DEADLINE_S
        mock_clock.jump(DEVICE_DEADLINE_S)
        await world.look(nursery)
        assert not world.recorded
        assert world.fleet.waiting is None
        await world.pass_deadline(nursery, 0)
        assert [device for device, _, _, _ in world.recorded] == [ident(0)]
        world.hang[0].set()


async def test_a_struck_device_that_hangs_still_is_one_of_the_m() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        for number in (0, 1, 2):
            await world.stall(nursery, number)
            world.now += 1
            await world.answer(3, 4, 5)
            world.now += DEVICE_DEADLINE_S
            await world.look(nursery)
        assert sorted(device for device, _, _, _ in world.recorded) == [ident(0), ident(1)]
        assert world.fleet.waiting is not None
        world.hang[0].set()  # it is back, and struck all the same
        await until(lambda: world.devices[ident(0)].writing_since() is None)
        await world.pass_deadline(nursery, 0, 1, 2)
        assert sorted(device for device, _, _, _ in world.recorded) == [ident(0), ident(1), ident(2)]
        for event in world.hang.values():
            event.set()


async def test_an_old_hang_of_a_struck_device_is_no_answer_of_the_others() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await world.stall(nursery, 0)
        await world.fleet.strike(ident(0), DeviceFailed("Input/output error", "d0"))
        world.now += 7200
        await world.answer(1, 2, 3, 4, 5)
        for number in (2, 3, 4, 5):
            world.hang[number].clear()
        await world.stall(nursery, 1)
        world.now += DEVICE_DEADLINE_S
        await world.look(nursery)  # the machine stalls, and only d1 was asked anything since
        assert states(world)[1] is DeviceState.ONLINE
        assert world.fleet.waiting == "5 of 5 devices of tier hot do not answer"
        for event in world.hang.values():
            event.set()


async def test_a_replaced_device_that_hangs_is_none_of_the_m() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        for number in (0, 1):
            await world.stall(nursery, number)
            await world.fleet.replace(ident(number), world.fresh(8 + number))
        world.now += 1
        await world.stall(nursery, 2)
        world.now += 1
        await world.answer(3, 4, 5, 8, 9)
        world.now += DEVICE_DEADLINE_S
        await world.look(nursery)
        assert world.fleet.state(ident(2))[0] is DeviceState.FAILED
        assert world.fleet.waiting is None
        for event in world.hang.values():
            event.set()


async def test_a_device_that_is_replaced_never_comes_back_and_its_successor_is_up() -> None:
    world = World()
    await world.fleet.replace(ident(2), world.fresh(9))
    state, reason = world.fleet.state(ident(2))
    assert (state, reason) == (DeviceState.GONE, "it was replaced by d9")
    assert [device for device, state, _, _ in world.recorded if state is DeviceState.GONE] == [ident(2)]
    assert (len(world.fleet.up("hot")), world.fleet.state(ident(9)), world.fleet.struck) == (
        6,
        (DeviceState.ONLINE, None),
        [],
    )
    assert world.told[-1] == ident(9)


async def test_a_device_that_is_replaced_while_it_comes_back_does_not() -> None:
    """The last step of its return waits behind the replacement."""
    world = World()
    await world.fleet.strike(ident(2), EIO)
    back = world.fresh(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fleet.replace, ident(2), world.fresh(9))
        await until(world.fleet._turn.locked)
        with pytest.raises(DeviceFailed, match="it was replaced by d9"):
            await world.fleet.restore(back)
    assert world.fleet.state(ident(2))[0] is DeviceState.GONE
    assert world.devices[ident(2)] is not back
    assert "restore" not in world.steps


async def test_a_device_that_is_drained_is_up_takes_no_volumes_and_stays_so_whatever_is_observed() -> None:
    world = World()
    await world.fleet.drain(ident(1))
    world.fleet.full(ident(1), DeviceFull("no room"))
    world.fleet.suspect(ident(1), "EIO")
    assert world.fleet.state(ident(1))[0] is DeviceState.DRAINING
    assert world.devices[ident(1)].doubtful
    assert world.devices[ident(1)] in world.fleet.up("hot")
    assert world.devices[ident(1)] not in world.fleet.taking("hot")
    assert world.fleet.draining == [ident(1)]
    world.now += DEVICE_SUSPECT_S
    async with trio.open_nursery() as nursery:
        world.fleet.look(nursery)
    assert not world.devices[ident(1)].doubtful
    await world.fleet.drain(ident(1), False)
    assert world.fleet.state(ident(1)) == (DeviceState.ONLINE, None)
    assert world.steps == ["drain", "keep"]


async def test_a_device_that_fails_while_it_is_drained_is_drained_again_when_it_is_back() -> None:
    world = World()
    await world.fleet.drain(ident(1))
    await world.fleet.strike(ident(1), EIO)
    assert world.fleet.draining == []
    await world.fleet.restore(world.fresh(1))
    assert world.fleet.draining == [ident(1)]


async def test_a_drain_outlasts_an_owner_and_an_absence() -> None:
    world = World(
        rows=[DeviceRow(ident(1), "failed", 5, "EIO")],
        absent=[Absent(ident(2), "hot", "d2", "not mounted")],
        draining=[ident(0), ident(1), ident(2)],
    )
    assert [world.fleet.state(ident(each))[0] for each in range(3)] == ["draining", "failed", "failed"]
    for each in (1, 2):
        await world.fleet.restore(world.fresh(each))
    assert world.fleet.draining == [ident(0), ident(1), ident(2)]


async def test_a_drain_that_could_not_be_recorded_is_none() -> None:
    world = World()
    world.failure = StoreBusy("too much waits")
    with pytest.raises(StoreBusy):
        await world.fleet.drain(ident(1))
    assert world.fleet.state(ident(1)) == (DeviceState.ONLINE, None)


async def test_a_removed_device_never_comes_back_and_its_volumes_end() -> None:
    world = World()
    await world.fleet.drain(ident(1))
    await world.fleet.remove(ident(1))
    assert world.recorded == [(ident(1), DeviceState.GONE, "it was removed", (MARK,))]
    with pytest.raises(DeviceFailed, match="removed"):
        await world.fleet.restore(world.fresh(1))
    with pytest.raises(DeviceFailed, match="gone"):
        await world.fleet.drain(ident(1))
    world.fleet.forget(ident(1))
    assert ident(1) not in world.devices
    assert world.fleet.gone(ident(1))


async def test_regression_what_is_met_late_of_a_device_that_left_is_harmless() -> None:
    """A read of it had begun before it was removed, and ended in a KeyError in place of its bytes, read around it."""
    world = World()
    await world.fleet.drain(ident(1))
    await world.fleet.remove(ident(1))
    world.fleet.forget(ident(1))
    world.told.clear()
    world.fleet.suspect(ident(1), "a read failed")
    world.fleet.full(ident(1), DeviceFull("no room", "d1"))
    world.fleet.doubt(ident(1), "slow", 1.0)
    await world.fleet.strike(ident(1), DeviceFailed("a write failed"))
    assert world.fleet.gone(ident(1))
    assert not world.told
    assert len(world.recorded) == 1


async def test_a_device_that_takes_volumes_is_not_removed() -> None:
    world = World()
    with pytest.raises(InvalidArgument, match="online cannot become gone"):
        await world.fleet.remove(ident(1))
    assert world.recorded == []


async def test_a_removal_that_could_not_be_recorded_is_recorded_when_it_is_asked_for_again() -> None:
    world = World()
    await world.fleet.drain(ident(1))
    world.failure = StoreBusy("too much waits")
    with pytest.raises(StoreBusy):
        await world.fleet.remove(ident(1))
    world.failure = None
    await world.fleet.remove(ident(1))
    assert [each[:2] for each in world.recorded] == [(ident(1), DeviceState.GONE)]


async def test_a_device_that_was_gone_when_the_owner_ended_is_gone() -> None:
    rows = [DeviceRow(ident(1), "gone", 5, "it was removed"), DeviceRow(ident(2), "gone", 5, "it was removed")]
    world = World(rows, absent=[Absent(ident(2), "hot", "d2", "not mounted")])
    assert world.fleet.gone(ident(1))
    assert world.fleet.gone(ident(2))
    assert world.fleet.struck == []


async def test_an_added_device_is_up_when_it_is_admitted() -> None:
    world = World()
    world.fleet.join(new := world.fresh(6))
    assert world.fleet.state(ident(6))[0] is DeviceState.JOINING
    assert new not in world.fleet.taking("hot")
    world.fleet.admit(new)
    assert new in world.fleet.taking("hot")
    assert world.fleet.joining == {}
    assert world.told == [ident(6)]

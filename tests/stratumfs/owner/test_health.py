"""Who does badly beside the others is read last, and nobody is struck for it."""

import threading

import pytest
import trio

from stratumfs.devices.health import DeviceState
from stratumfs.devices.smart import Smart
from stratumfs.limits import HEALTH_LOOK_S, SLOW_SUSPECT_S
from stratumfs.owner import health
from stratumfs.owner.health import Health
from tests.stratumfs.store.test_fleet import World, ident


def calls(world: World, seconds: dict[int, float], kind: str = "read", count: int = 30) -> None:
    for number, each in seconds.items():
        for _ in range(count):
            world.devices[ident(number)].seconds.observe(kind, each)


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_a_device_that_is_slow_beside_the_others_is_read_last_for_a_while(kind: str) -> None:
    world = World()
    found = Health(world.fleet)
    calls(world, dict.fromkeys(range(6), 0.002), kind)
    found.look()
    assert {world.fleet.state(ident(number))[0] for number in range(6)} == {DeviceState.ONLINE}
    calls(world, {number: 0.3 if number == 4 else 0.002 for number in range(6)}, kind)
    found.look()
    state, reason = world.fleet.state(ident(4))
    assert (state, reason) == (DeviceState.SUSPECT, f"a {kind} takes 300 ms, on the others 2.0 ms")
    assert world.devices[ident(4)].in_doubt
    assert [number for number in range(6) if world.devices[ident(number)].in_doubt] == [4]
    assert world.told == []  # there is nothing to repair
    found.look()  # no calls since
    world.now += SLOW_SUSPECT_S
    async with trio.open_nursery() as nursery:
        world.fleet.look(nursery)
    assert world.fleet.state(ident(4))[0] is DeviceState.ONLINE
    assert not world.devices[ident(4)].in_doubt


async def test_what_was_slow_before_the_last_look_counts_no_more() -> None:
    world = World()
    found = Health(world.fleet)
    calls(world, {number: 0.3 if number == 4 else 0.002 for number in range(6)})
    found.look()
    world.now += SLOW_SUSPECT_S
    async with trio.open_nursery() as nursery:
        world.fleet.look(nursery)
    calls(world, dict.fromkeys(range(6), 0.002))
    found.look()
    assert world.fleet.state(ident(4))[0] is DeviceState.ONLINE


async def test_a_device_on_a_failing_disk_is_read_last_as_long_as_the_disk_says_so() -> None:
    world = World()
    found = Health(world.fleet)
    found.smart[ident(2)] = Smart("sdc", passed=False)
    found.smart[ident(3)] = Smart("sdd", passed=True)
    found.look()
    assert world.fleet.state(ident(2)) == (DeviceState.SUSPECT, "SMART: disk sdc says that it is failing")
    assert world.fleet.state(ident(3))[0] is DeviceState.ONLINE
    world.now += HEALTH_LOOK_S
    found.look()
    async with trio.open_nursery() as nursery:
        world.fleet.look(nursery)
    assert world.fleet.state(ident(2))[0] is DeviceState.SUSPECT


async def test_an_error_does_not_cut_short_the_time_of_one_that_is_slow() -> None:
    world = World()
    world.fleet.doubt(ident(1), "slow", SLOW_SUSPECT_S)
    world.fleet.suspect(ident(1), "EIO")
    world.now += SLOW_SUSPECT_S - 1
    async with trio.open_nursery() as nursery:
        world.fleet.look(nursery)
    assert world.fleet.state(ident(1))[0] is DeviceState.SUSPECT
    assert world.fleet.errors(ident(1)) == 1


async def test_each_disk_is_asked_once_and_one_that_hangs_not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for number in range(6):
        world.devices[ident(number)].disk = number // 2
    asked: list[int] = []
    go_on = threading.Event()

    def read(disk: int) -> Smart | None:
        asked.append(disk)
        if disk == 1:
            go_on.wait(60)
        return None if disk == 2 else Smart(f"disk{disk}", True)

    monkeypatch.setattr(health, "read_smart", read)
    monkeypatch.setattr(health, "SMART_WAIT_S", 1.0)  # of a machine that has other things to do
    found = Health(world.fleet)
    try:
        await found.ask_disks()
        assert sorted(asked) == [0, 1, 2]
        assert found.smart.keys() == {ident(0), ident(1)}
        await found.ask_disks()
        assert sorted(asked) == [0, 0, 1, 2, 2]
    finally:
        go_on.set()

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.errors import ConfigError, NotFound, StoreClosing, StoreFull
from stratumfs.owner.doors import DOORS_MAX, Doors, Kind, Ready, State


class FakeDoor:
    """Serves nothing; ``end`` makes it end by itself, with an error if one is given."""

    def __init__(self, where: str, journal: list[str] | None = None) -> None:
        self.where = (where,)
        self.end = trio.Event()
        self.error: Exception | None = None
        self.journal = journal if journal is not None else []

    def pending(self) -> str:
        return ""

    def details(self) -> dict[str, Any]:
        return {"fake": True}

    async def serve(self, stop: trio.Event, ready: Ready) -> None:
        ready(self)
        async with trio.open_nursery() as nursery:

            async def wait(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait, stop)
            nursery.start_soon(wait, self.end)
        self.journal.append(self.where[0])
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def opened() -> AsyncIterator[Doors]:
    async with trio.open_nursery() as nursery:
        yield Doors(nursery, lambda: 17.0)
        nursery.cancel_scope.cancel()


async def test_the_last_door_ends_the_owner_and_no_other_opens_after_it() -> None:
    async with opened() as doors:
        first, second = FakeDoor("/a"), FakeDoor("/b")
        one = await doors.open(Kind.MOUNT, first.serve)
        two = await doors.open(Kind.GATEWAY, second.serve)
        assert [door.where for door in doors] == ["/a", "/b"]
        assert doors.find("/b") is two
        await doors.close(one)
        assert not doors.idle
        second.end.set()
        await doors.wait_idle()
        assert two.closed.is_set()
        with pytest.raises(StoreClosing):
            await doors.open(Kind.MOUNT, FakeDoor("/c").serve)
        with pytest.raises(NotFound):
            doors.find("/a")


async def test_a_lease_keeps_an_owner_without_doors_alive() -> None:
    async with opened() as doors:
        async with doors.lease():
            door = await doors.open(Kind.MOUNT, FakeDoor("/a").serve)
            await doors.close(door)
            assert not doors.idle
        assert doors.idle
        with pytest.raises(StoreClosing):
            async with doors.lease():
                pass


async def test_a_door_that_cannot_open_is_its_openers_error_and_nobody_elses() -> None:
    async def refuse(stop: trio.Event, ready: Ready) -> None:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = False
            raise StoreFull("no room")

    async with opened() as doors, doors.lease():
        with pytest.raises(StoreFull, match="no room"):
            await doors.open(Kind.MOUNT, refuse)
        other = await doors.open(Kind.GATEWAY, FakeDoor("/b").serve)
        assert other.state is State.OPEN


async def test_a_door_that_fails_closes_alone_and_says_why() -> None:
    async with opened() as doors:
        failing, good = FakeDoor("/a"), FakeDoor("/b")
        failing.error = OSError(5, "the loop failed")
        one = await doors.open(Kind.MOUNT, failing.serve)
        await doors.open(Kind.GATEWAY, good.serve)
        failing.end.set()
        await one.closed.wait()
        assert "the loop failed" in one.failure
        assert [door.where for door in doors] == ["/b"]


async def test_a_gateway_beside_a_mount_closes_with_it() -> None:
    journal: list[str] = []
    async with opened() as doors:
        mount, gateway = FakeDoor("/a", journal), FakeDoor("/b", journal)
        one = await doors.open(Kind.MOUNT, mount.serve)
        one.beside = await doors.open(Kind.GATEWAY, gateway.serve)
        mount.end.set()
        await doors.wait_idle()
        assert journal == ["/a", "/b"]


async def test_ending_closes_mounts_before_gateways() -> None:
    journal: list[str] = []
    async with opened() as doors:
        await doors.open(Kind.GATEWAY, FakeDoor("gateway", journal).serve)
        await doors.open(Kind.MOUNT, FakeDoor("mount", journal).serve)
        await doors.close_all()
        assert journal == ["mount", "gateway"]
        assert doors.idle


async def test_closing_twice_waits_twice() -> None:
    async with opened() as doors:
        door = await doors.open(Kind.MOUNT, FakeDoor("/a").serve)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doors.close, door)
            nursery.start_soon(doors.close, door)
        await wait_all_tasks_blocked()
        assert door.summary() == {"kind": "mount", "where": ["/a"], "state": "closing", "since": 17.0, "fake": True}


async def test_there_is_a_bound() -> None:
    async with opened() as doors:
        for number in range(DOORS_MAX):
            await doors.open(Kind.GATEWAY, FakeDoor(f"/{number}").serve)
        with pytest.raises(ConfigError, match="close one first"):
            await doors.open(Kind.GATEWAY, FakeDoor("/more").serve)

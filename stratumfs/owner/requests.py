"""What the owner does for those who ask over the control socket: one method a request.

Answers to ``close`` of the last door and to ``shutdown`` are given when the store itself is closed, so that whoever
waited for them may pull the disks.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.config import Settings
from stratumfs.errors import ConfigError, StoreBusy
from stratumfs.limits import PROGRESS_S
from stratumfs.owner import mount_door
from stratumfs.owner.blame import cause_of, is_expected
from stratumfs.owner.collect import collect_garbage
from stratumfs.owner.control import Connection
from stratumfs.owner.device_change import change_device
from stratumfs.owner.doors import Door, Doors, Kind, Serve, State
from stratumfs.owner.durability import durability
from stratumfs.owner.heal import heal
from stratumfs.owner.images import back_up, dump_catalog, write_image
from stratumfs.owner.messages import (
    AddCold,
    AddDevice,
    AddWarm,
    Answer,
    BackUpCatalog,
    ClaimCold,
    CloseDoor,
    CollectGarbage,
    DeviceChange,
    Done,
    DrainDevice,
    DumpCatalog,
    Durability,
    Ended,
    Explain,
    Heal,
    Move,
    OpenGateway,
    OpenMount,
    Progress,
    RemoveDevice,
    ReplaceDevice,
    Request,
    RotateCold,
    Scrub,
    Shutdown,
    Status,
    TierInventory,
    TierLog,
    TierPin,
    TierPlan,
    TierPrice,
    TierReport,
    TierStatus,
    Usage,
    WriteImage,
    failed,
)
from stratumfs.owner.mounts import mount_at
from stratumfs.owner.moves import ended, progress_of
from stratumfs.owner.scrub import scrub_now, scrub_status
from stratumfs.owner.status import status
from stratumfs.owner.tier_answers import answer_of_tiers
from stratumfs.owner.tiers import change_tiers
from stratumfs.owner.usage import usage
from stratumfs.owner.wire import Running
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)


class Requests:
    """Carries out requests against one running store. *ended* is set when the store is closed."""

    def __init__(self, running: Running, doors: Doors, settings: Settings, ended: trio.Event) -> None:
        self._running = running
        self._doors = doors
        self._settings = settings
        self._ended = ended
        self._opening = trio.Lock()
        self._busy = 0
        self._quiet = trio.Event()
        self.first_answered = trio.Event()
        self.shutdown_asked = trio.Event()

    async def handle(self, request: Request, connection: Connection) -> bool:
        """Carry one request out and answer it; an error is an answer too. False after a held door has ended."""
        async with self._counted():
            try:
                answer = await self._dispatch(request, connection)
            except Exception as error:
                cause = cause_of(error)
                if not is_expected(cause):
                    _log.error("request_failed", request=type(request).__name__, exc_info=error)
                answer = failed(cause)
            finally:
                self.first_answered.set()
            await connection.send(answer)
        return not isinstance(answer, Ended)

    async def wait_answered(self) -> None:
        """Return when every request that came is answered."""
        if self._busy:
            await self._quiet.wait()

    async def _dispatch(self, request: Request, connection: Connection) -> Answer:
        match request:
            case OpenMount():
                return await self._open(request, request.hold, self._open_mount, connection)
            case OpenGateway():
                return await self._open(request, request.hold, self._open_gateway, connection)
            case CloseDoor(where):
                return await self._close(where, connection)
            case Status():
                return Done(await status(self._running, self._doors))
            case Explain(inode, bucket, key, at_ns):
                return Done(await self._running.explainer.explain(inode=inode, bucket=bucket, key=key, at_ns=at_ns))
            case Move():
                return await self._move(request, connection)
            case TierPlan():
                return await self._plan(request, connection)
            case TierStatus() | TierLog() | TierPin() | TierReport() | TierPrice() | TierInventory():
                async with self._doors.lease():
                    return Done(await answer_of_tiers(self._running, request))
            case ReplaceDevice() | AddDevice() | DrainDevice() | RemoveDevice():
                return await self._change_device(request, connection)
            case AddCold() | AddWarm() | ClaimCold() | RotateCold():
                async with self._doors.lease():
                    return Done(await change_tiers(self._running, request))
            case WriteImage():
                async with self._doors.lease():
                    return Done(await write_image(self._running.store.imager))
            case DumpCatalog(file):
                async with self._doors.lease():
                    return Done(await dump_catalog(self._running, file))
            case BackUpCatalog():
                async with self._doors.lease():
                    return Done(await back_up(self._running.backup, request))
            case Durability(inode, bucket, key):
                return Done(await durability(self._running, inode=inode, bucket=bucket, key=key))
            case Scrub():
                return await self._scrub(request, connection)
            case Heal():
                return await self._heal(request, connection)
            case CollectGarbage():
                return await self._collect(request, connection)
            case Usage():
                async with self._doors.lease():
                    return Done(await usage(self._running, request, connection.send))
            case Shutdown():
                return await self._shut_down(connection)

    async def _open(self, request: Any, hold: bool, opening: Callable[..., Any], connection: Connection) -> Answer:
        # One after the other: whoever comes second finds the first one's door, not its half-open port.
        async with self._opening:
            door, fresh = await opening(request)
        done = Done({"kind": str(door.kind), "where": list(door.opened.where), "already": not fresh})
        if not hold:
            return done
        await connection.send(done)
        self.first_answered.set()
        return await self._held(door, connection)

    async def _held(self, door: Door, connection: Connection) -> Answer:
        """The door belongs to this connection: close it when the client leaves, say so when it is closed."""
        async with trio.open_nursery() as nursery:

            async def close_with_client() -> None:
                await connection.wait_closed()
                await self._close_door(door, connection)

            nursery.start_soon(close_with_client)
            await door.closed.wait()
            nursery.cancel_scope.cancel()
        await self._wait_ended_if_last()
        return Ended(door.failure)

    async def _open_mount(self, request: OpenMount) -> tuple[Door, bool]:
        async with self._doors.lease():
            await self._check_no_mount(request.mountpoint)
            gateway = None
            if request.gateway is not None:
                gateway, fresh = await self._open_gateway(request.gateway)
                gateway = gateway if fresh else None
            try:
                door = await self._doors.open(Kind.MOUNT, mount_door.serving(self._running, request))
            except BaseException:
                if gateway is not None:
                    with trio.CancelScope(shield=True):
                        await self._doors.close(gateway)
                raise
            door.beside = gateway
        return door, True

    async def _check_no_mount(self, mountpoint: str) -> None:
        """A mount that somebody took away may still be writing what it took: wait for it. Raises: ConfigError."""
        for door in self._doors:
            if door.kind is not Kind.MOUNT:
                continue
            first = door.opened.where[0]
            if door.state is State.OPEN and mount_at(Path(first)) is not None:
                raise ConfigError(_second_mount(first, mountpoint))
            await door.closed.wait()

    async def _open_gateway(self, request: OpenGateway) -> tuple[Door, bool]:
        listen = set(request.listen or (self._settings.gateway.listen,))
        for door in self._doors:
            if door.kind is not Kind.GATEWAY or listen.isdisjoint(door.opened.where):
                continue
            if door.state is State.CLOSING:
                await door.closed.wait()
            elif request.hold or not listen.issubset(door.opened.where):
                raise ConfigError(f"this store is already served at {door.where}")
            else:
                return door, False
        serving = await in_thread(_gateway_door)
        return await self._doors.open(Kind.GATEWAY, serving(self._running, self._settings, request)), True

    async def _move(self, request: Move, connection: Connection) -> Answer:
        """Say once a second how far it is; a client that leaves stops it, and if it listens still, learns how far."""
        mover = self._running.mover
        ino = await mover.find(request.inode, request.bucket, request.key)
        move = await mover.ask(ino, request.to, connection.user, request.reason)

        async def stop_with_client() -> None:
            await connection.wait_closed()
            await mover.stop(move)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_with_client)
            while not move.ended.is_set():
                await connection.send(progress_of(move, mover))
                with trio.move_on_after(PROGRESS_S):
                    await move.ended.wait()
            nursery.cancel_scope.cancel()
        return ended(move)

    async def _close(self, where: str, connection: Connection) -> Answer:
        door = self._doors.find(where)
        if door.kind is Kind.MOUNT and door.state is State.OPEN:
            await self._unmount(door, connection)
        await self._close_door(door, connection)
        last = await self._wait_ended_if_last()
        return Done({"kind": str(door.kind), "where": list(door.opened.where), "last": last, "failure": door.failure})

    async def _unmount(self, door: Door, connection: Connection) -> None:
        """Take a mount off the tree, and wait as long as programs use it; a client that leaves gives it up.

        A signal or ``shutdown`` is less patient: there the session detaches a mount that stays in use.
        Raises: StoreBusy if the client left.
        """
        async with trio.open_nursery() as nursery:
            left = trio.Event()

            async def watch() -> None:
                await connection.wait_closed()
                left.set()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            while not await in_thread(mount_door.unmount, door.opened.where[0]):
                files = door.opened.details().get("open_files", 0)
                await connection.send(Progress(f"{door.where} is in use ({files} files are open)"))
                await trio.sleep(PROGRESS_S)
            nursery.cancel_scope.cancel()
        if left.is_set():
            raise StoreBusy(f"{door.where} is in use and stays mounted")

    async def _wait_ended_if_last(self) -> bool:
        """After a door was closed: if it was the last one, wait until the store is closed too."""
        if not self._doors.idle:
            return False
        await self._ended.wait()
        return True

    async def _close_door(self, door: Door, connection: Connection) -> None:
        """Close it, and say once a second what is still pending."""
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                while True:
                    await trio.sleep(PROGRESS_S)
                    pending = door.opened.pending()
                    if pending:
                        await connection.send(Progress(pending))

            nursery.start_soon(tell)
            await self._doors.close(door)
            nursery.cancel_scope.cancel()

    async def _change_device(self, request: DeviceChange, connection: Connection) -> Answer:
        """Say once a second how far it is; of a client that leaves it asks nothing, and goes on."""
        left = trio.Event()

        async def watch() -> None:
            await connection.wait_closed()
            left.set()

        async with self._doors.lease(), trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            result = await change_device(self._running, request, connection.send, left)
            nursery.cancel_scope.cancel()
        return Done(result)

    async def _scrub(self, request: Scrub, connection: Connection) -> Answer:
        if not request.now:
            return Done(await scrub_status(self._running))
        async with self._doors.lease(), trio.open_nursery() as nursery:
            left = trio.Event()

            async def watch() -> None:
                await connection.wait_closed()
                left.set()

            async def tell(progress: Progress) -> None:
                if not left.is_set():
                    await connection.send(progress)

            nursery.start_soon(watch)
            result = await scrub_now(self._running, tell)
            nursery.cancel_scope.cancel()
        return Done(result)

    async def _heal(self, request: Heal, connection: Connection) -> Answer:
        return await self._while_there(
            connection, partial(heal, self._running, request, connection.send), "what was mended by then is"
        )

    async def _collect(self, request: CollectGarbage, connection: Connection) -> Answer:
        return await self._while_there(
            connection, partial(collect_garbage, self._running, request, connection.send), "what was freed by then is"
        )

    async def _plan(self, request: TierPlan, connection: Connection) -> Answer:
        return await self._while_there(
            connection, partial(answer_of_tiers, self._running, request), "nothing was changed"
        )

    async def _while_there(
        self, connection: Connection, work: Callable[[], Awaitable[dict[str, Any]]], otherwise: str
    ) -> Done:
        """What *work* gives, which ends where it is when the client leaves. Raises: StoreBusy if it left."""
        result: dict[str, Any] | None = None
        async with self._doors.lease(), trio.open_nursery() as nursery:

            async def watch() -> None:
                await connection.wait_closed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            result = await work()
            nursery.cancel_scope.cancel()
        if result is None:
            raise StoreBusy(f"who asked has left: {otherwise}")
        return Done(result)

    async def _shut_down(self, connection: Connection) -> Answer:
        """End the owner; say meanwhile what is still pending."""
        doors = [{"kind": str(door.kind), "where": list(door.opened.where)} for door in self._doors]
        self.shutdown_asked.set()
        while not self._ended.is_set():
            with trio.move_on_after(PROGRESS_S):
                await self._ended.wait()
            for door in self._doors:
                if door.state is State.CLOSING and (pending := door.opened.pending()):
                    await connection.send(Progress(f"{door.opened.where[0]}: {pending}"))
        return Done({"doors": doors})

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()
                self._quiet = trio.Event()


def _gateway_door() -> Callable[[Running, Settings, OpenGateway], Serve]:
    """Loaded when the first gateway is opened, and in a thread: half a second that a mount beside should not wait."""
    from stratumfs.owner.gateway_door import serving

    return serving


def _second_mount(first: str, second: str) -> str:
    if first == second:
        return f"this store is already mounted on {first}"
    return (
        f"this store is already mounted on {first}, and one owner has one mount: "
        f"`mount --bind {first} {second}` shows it in a second place"
    )

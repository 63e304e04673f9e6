"""A mount's life: the only place that touches pyfuse3's module globals, of which a process has one set.

The end has an order: unmount while the loop still serves (dirty pages of mappings are written then), let the loop end,
close the session without unmounting, publish what is pending, let go of all inodes.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyfuse3
import structlog
import trio

from stratumfs.errors import CatalogCorrupt, ConfigError, StoreInUse
from stratumfs.fuse.afterwards import Afterwards
from stratumfs.fuse.door import DoorOptions
from stratumfs.fuse.kernel import tune
from stratumfs.fuse.mountinfo import Device, device_at
from stratumfs.fuse.operations import Operations
from stratumfs.fuse.reading import Reading, TrioForReading
from stratumfs.fuse.unmount import abort, detach, unmount
from stratumfs.fuse.wake import keep_awake
from stratumfs.ids import MIB, InodeNo
from stratumfs.latency import Latencies
from stratumfs.limits import FUSE_TASKS_IDLE, FUSE_TASKS_MAX, UNMOUNT_GRACE_S
from stratumfs.share import OF_MOUNT
from stratumfs.store.store import Store
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)
_ALWAYS = ("default_permissions", "subtype=stratumfs")
_RETRY_S = 0.1
_in_use = threading.Lock()  # it guards pyfuse3's module globals


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to mount.

    allow_other  None: if the owner is root
    kernel       words that libfuse understands: noatime, nosuid, dev …
    published    see ``DoorOptions``
    """

    read_only: bool = False
    allow_other: bool | None = None
    filesystem_name: str = "stratumfs"
    kernel: tuple[str, ...] = ("nosuid", "nodev")
    published: bool = False

    @property
    def words(self) -> set[str]:
        """For libfuse."""
        words = {*_ALWAYS, *self.kernel, f"fsname={_printable(self.filesystem_name)}"}
        if self.read_only:
            words.add("ro")
        if self.allow_other if self.allow_other is not None else os.geteuid() == 0:
            words.add("allow_other")
        return words


class Mounted:
    """A mount that answers, for whoever watches over it."""

    def __init__(self, mountpoint: str, operations: Operations) -> None:
        self.where = (mountpoint,)
        self._operations = operations

    def pending(self) -> str:
        """What is not on stable storage yet, in words; empty if nothing."""
        waiting = [buffer.pending_bytes for buffer in self._operations.buffers if buffer.pending]
        return f"{len(waiting)} files with {-(-sum(waiting) // MIB)} MiB to publish" if waiting else ""

    def details(self) -> dict[str, int]:
        return self._operations.statistics()

    @property
    def seconds(self) -> Latencies:
        """How long the kernel's requests took."""
        return self._operations.seconds

    @property
    def refusals(self) -> Mapping[tuple[str, int], int]:
        """Requests that were answered with an error, by handler and errno."""
        return self._operations.refusals


async def serve(
    store: Store,
    mountpoint: str,
    options: SessionOptions,
    stop: trio.Event,
    *,
    task_status: "trio.TaskStatus[Mounted]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount *store* at the absolute path *mountpoint* and serve until *stop* is set, or somebody unmounts it.

    Ends by itself where the store can't show any more what it has shown: the kernel must never see another history.

    ``task_status.started`` is called when the mount answers. When this returns, all that the mount took is on stable
    storage. Cancelled, it ends in the same order. Raises: ConfigError (cannot mount), StoreInUse (this process has a
    mount already), OSError (the loop failed), CatalogCorrupt (what was shown is lost).
    """
    quit_ = trio.Event()
    lost: list[str] = []
    with _exclusively():
        async with trio.open_nursery() as outer:
            outer.start_soon(_relay, stop, quit_)
            outer.start_soon(_quit_when_diverged, store, quit_, lost)
            with trio.CancelScope(shield=True):
                await _serve(store, mountpoint, options, quit_, task_status)
            outer.cancel_scope.cancel()
    if lost:
        raise CatalogCorrupt(f"the mount at {mountpoint} was ended: {lost[0]}")


@contextmanager
def _exclusively() -> Iterator[None]:
    if not _in_use.acquire(blocking=False):
        raise StoreInUse("one process has one mount: for a second mount point use `mount --bind`")
    try:
        yield
    finally:
        _in_use.release()


async def _relay(stop: trio.Event, quit_: trio.Event) -> None:
    """Cancelled from outside, or asked to stop: the same."""
    try:
        await stop.wait()
    finally:
        quit_.set()


async def _quit_when_diverged(store: Store, quit_: trio.Event, lost: list[str]) -> None:
    lost.append(await store.wait_diverged())
    _log.error("what the mount has shown is lost, and the mount ends", reason=lost[0])
    quit_.set()


async def _serve(
    store: Store,
    mountpoint: str,
    options: SessionOptions,
    quit_: trio.Event,
    task_status: "trio.TaskStatus[Mounted]",
) -> None:
    async with trio.open_nursery() as work:
        door = DoorOptions(published=options.published, atime="noatime" not in options.kernel and not options.read_only)
        operations = Operations(store, work, door, _tell_entry, _tell_inode)
        await in_thread(_mount, operations, mountpoint, options)
        store.changes.attach(operations.cache)
        operations.start()
        try:
            await _run(operations, mountpoint, quit_, task_status)
        finally:
            store.changes.detach(operations.cache)
            if await operations.cache.close():
                pyfuse3.close(unmount=False)
            else:
                _log.error("the kernel holds on to the session, which is left to it", mountpoint=mountpoint)
            await operations.finish()
            work.cancel_scope.cancel()


def _mount(operations: Operations, mountpoint: str, options: SessionOptions) -> None:
    try:
        pyfuse3.init(operations, mountpoint, options.words)
    except RuntimeError as error:
        if "mount" in str(error):
            pyfuse3.close(unmount=False)  # the session exists, it is not mounted
        raise ConfigError(f"cannot mount at {mountpoint}: libfuse refused, see the line it wrote") from error


async def _run(
    operations: Operations, mountpoint: str, quit_: trio.Event, task_status: "trio.TaskStatus[Mounted]"
) -> None:
    """Serve until the kernel ends the session; *quit_* makes us ask it to."""
    failures: list[Exception] = []
    async with trio.open_nursery() as serving:
        ended = trio.Event()
        serving.start_soon(_loop, mountpoint, ended, failures)
        serving.start_soon(keep_awake)
        await _first(operations.answering, ended)
        if not ended.is_set():
            device = await in_thread(device_at, mountpoint)
            await in_thread(tune, device)
            if device is not None:
                await serving.start(_be_survived, mountpoint, device)
            task_status.started(Mounted(mountpoint, operations))
            serving.start_soon(_unmount_when, quit_, mountpoint, device, ended, operations)
        await ended.wait()
        serving.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not operations.answering.is_set():
        raise ConfigError(f"cannot mount at {mountpoint}: it was unmounted before it answered")


async def _be_survived(
    mountpoint: str, device: Device, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED
) -> None:
    """By whoever ends the connection if we cannot, until cancelled. A mount without it serves as well."""
    try:
        afterwards = await in_thread(Afterwards, mountpoint, device)
    except OSError as error:
        _log.warning(
            "should this process be killed while it waits in the kernel, `umount -f` has to end its mount",
            mountpoint=mountpoint,
            error=str(error),
        )
        task_status.started()
        return
    try:
        task_status.started()
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(afterwards.close)


async def _loop(mountpoint: str, ended: trio.Event, failures: list[Exception]) -> None:
    OF_MOUNT.set(True)  # of this task, and of those that it starts
    reading = Reading()
    trio.lowlevel.add_instrument(reading)
    pyfuse3.trio = TrioForReading(reading)  # type: ignore[attr-defined] # its stubs do not say what it uses
    try:
        await pyfuse3.main(min_tasks=FUSE_TASKS_IDLE, max_tasks=FUSE_TASKS_MAX)
    except Exception as error:
        # Nobody answers any more: whoever waits for an answer gets ENOTCONN when the session is closed.
        _log.exception("the mount's loop failed", mountpoint=mountpoint)
        failures.append(error)
        await in_thread(_detach_dead, mountpoint)
    finally:
        pyfuse3.trio = trio  # type: ignore[attr-defined]
        trio.lowlevel.remove_instrument(reading)
        ended.set()


def _detach_dead(mountpoint: str) -> None:
    try:
        abort(mountpoint)
    except OSError as error:
        _log.error("a mount without an owner is left", mountpoint=mountpoint, error=str(error))


async def _first(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


async def _unmount_when(
    quit_: trio.Event, mountpoint: str, device: Device | None, ended: trio.Event, operations: Operations
) -> None:
    """Ask the kernel to end the session. If it is in use for too long, save what is pending and end it ourselves."""
    await quit_.wait()
    with trio.move_on_after(UNMOUNT_GRACE_S):
        while not await in_thread(_unmount_ours, mountpoint, device):  # noqa: ASYNC110 - others' files
            await trio.sleep(_RETRY_S)
        await ended.wait()  # who detached it before has files open in it still
        return
    _log.warning("the mount is in use and is detached: programs in it will get ENOTCONN", mountpoint=mountpoint)
    await in_thread(_detach_ours, mountpoint, device)
    await operations.buffers.publish_all()
    pyfuse3.terminate()


def _unmount_ours(mountpoint: str, device: Device | None) -> bool:
    """False if it is in use. What somebody else mounted at the same place since is not ours to unmount."""
    return device_at(mountpoint) != device or unmount(mountpoint)


def _detach_ours(mountpoint: str, device: Device | None) -> None:
    if device_at(mountpoint) == device:
        detach(mountpoint)


def _tell_entry(parent: InodeNo, name: bytes) -> None:
    pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), pyfuse3.FileNameT(name))


def _tell_inode(ino: InodeNo) -> None:
    pyfuse3.invalidate_inode(pyfuse3.InodeT(ino), attr_only=True)


def _printable(name: str) -> str:
    """libfuse takes ASCII, and a comma or backslash would be syntax."""
    return "".join(char if char.isascii() and char.isprintable() and char not in ",\\" else "?" for char in name)

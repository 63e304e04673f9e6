"""Devices that do not answer: whoever reads from them waits, nobody else does."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from pyfuse3 import EntryAttributes, FileNameT, InodeT, RequestContext

from stratumfs.fuse import invalidate
from stratumfs.fuse.operations import Operations
from stratumfs.ids import DeviceId
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.volumes.attached import AttachedDevice
from tests.mount.conftest import Mount, mounted_store

READERS = 200


class Stall:
    """All devices of a store; while ``closed`` their reads hang."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.hanging = threading.Event()
        idents = [DeviceId(bytes([slot]) * 16) for slot in range(6)]
        self.devices = {
            ident: AttachedDevice(ident, f"d{ident[0]}", MemoryShards(fault=self._fault)) for ident in idents
        }

    def _fault(self, verb: str, shard: ShardName | None) -> None:
        if verb == "read_at" and not self.open.is_set():
            self.hanging.set()
            self.open.wait()


@pytest.fixture
def stall() -> Iterator[Stall]:
    found = Stall()
    yield found
    found.open.set()


@pytest.fixture
def stalled(tmp_path: Path, stall: Stall) -> Iterator[tuple[Mount, list[bytes]]]:
    """A mount of READERS files in volumes, nothing of them cached."""
    data = [os.urandom(40_000) for _ in range(READERS)]
    with mounted_store(tmp_path, devices=stall.devices) as mount:
        bucket = mount.path / "bucket"
        bucket.mkdir()
        mount.run(_put_all, mount, bucket, data)
        for name in ("one", "two", "three"):
            (bucket / name).mkdir()
        yield mount, data


async def _put_all(mount: Mount, bucket: Path, data: list[bytes]) -> None:
    async with trio.open_nursery() as nursery:
        for number, each in enumerate(data):
            nursery.start_soon(mount.put_on_loop, bucket.name, b"f%d" % number, each)


def test_200_readers_that_hang_do_not_stop_a_stat(stalled: tuple[Mount, list[bytes]], stall: Stall) -> None:
    mount, data = stalled
    bucket = mount.path / "bucket"
    stall.open.clear()
    found: dict[int, bytes] = {}

    def read(number: int) -> None:
        found[number] = (bucket / f"f{number}").read_bytes()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    assert stall.hanging.wait(60)
    began = time.monotonic()
    assert (bucket / "one").is_dir()
    assert not (bucket / "missing").exists()
    assert len(os.listdir(bucket)) == READERS + 3
    os.rename(bucket / "two", bucket / "four")
    (bucket / "small").write_bytes(b"written meanwhile")
    assert time.monotonic() - began < 10
    assert not found
    stall.open.set()
    for reader in readers:
        reader.join(60)
    assert [found[number] for number in range(READERS)] == data


def test_a_call_that_the_kernel_does_not_take_costs_its_bound_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks a name up, and is not answered: the kernel lets no name of that directory go meanwhile."""
    asked, go_on = threading.Event(), threading.Event()
    known = Operations.lookup

    async def lookup(self: Operations, parent: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        if name == b"hangs":
            asked.set()
            await trio.to_thread.run_sync(go_on.wait)
        return await known(self, parent, name, ctx)

    monkeypatch.setattr(Operations, "lookup", lookup)
    with mounted_store(tmp_path) as mount:
        bucket = mount.path / "bucket"
        bucket.mkdir()
        for key in (b"one", b"two"):
            mount.put(bucket, key, b"old")
            assert (bucket / key.decode()).stat().st_size == 3
        waiter = threading.Thread(target=os.path.lexists, args=(bucket / "hangs",))
        waiter.start()
        assert asked.wait(60)
        try:
            monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 1.0)
            mount.put(bucket, b"one", b"newer")
            monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 3600.0)
            mount.put(bucket, b"two", b"newer")
            found = mount.statistics()
            assert (found["invalidations_late"], found["directories_in_doubt"]) == (1, 1)
        finally:
            go_on.set()
        waiter.join(60)
        while mount.statistics()["directories_in_doubt"]:
            time.sleep(0.001)
        os.listdir(bucket)  # so that the attributes of the bucket are kept, and told behind what is told now
        mount.put(bucket, b"two", b"newest")
        assert [(bucket / name).stat().st_size for name in ("one", "two")] == [5, 6]
        monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 5.0)

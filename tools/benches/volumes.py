"""Whole stripes through the writer to files, and back through the reader: healthy, and with m devices gone."""

import argparse
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.ids import DeviceId, StoreId, VolumeId, random_id
from stratumfs.limits import STRIPE_PAYLOAD_MAX, UNSYNCED_BYTES_MAX
from stratumfs.shards.local import LocalShards
from stratumfs.store.fleet import Fleet
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fleet import SealMark
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.pending import PendingStripe
from stratumfs.volumes.reader import VolumeReader
from stratumfs.volumes.toc import TocEntry
from stratumfs.volumes.writer import VolumeWriter


class Rows:
    """Ledgers in memory."""

    def __init__(self) -> None:
        self.volumes: dict[VolumeId, VolumeInfo] = {}

    async def opened(self, volume: VolumeInfo) -> None:
        self.volumes[volume.id] = volume

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None: ...

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None: ...

    async def restored(self, device: DeviceId) -> None: ...

    async def drained(self, device: DeviceId, wanted: bool) -> None: ...

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        return []


class Bench:
    def __init__(self, folder: Path, code: Code, mib: int, flight: int) -> None:
        self._store = StoreId(random_id())
        self._code = code
        self._rows = Rows()
        self._payload = os.urandom(STRIPE_PAYLOAD_MAX)
        self._count = max(mib * (1 << 20) // len(self._payload), 1)
        self._flight = flight
        self.devices: dict[DeviceId, AttachedDevice] = {}
        for number in range(code.n):
            path = folder / str(number)
            path.mkdir()
            ident = DeviceId(random_id())
            self.devices[ident] = AttachedDevice(ident, str(path), LocalShards(path))
        fleet = Fleet(self.devices, {"hot": code}, self._rows)
        self._writer = VolumeWriter(self._store, "hot", code, fleet, self._rows)
        self._stripes: list[PendingStripe] = []

    async def write(self) -> None:
        """All stripes, some in flight, synced every 64 MiB as a long stream is."""
        each = UNSYNCED_BYTES_MAX // len(self._payload)
        for start in range(0, self._count, each):
            limit = trio.CapacityLimiter(self._flight)
            async with trio.open_nursery() as nursery:
                for _ in range(start, min(start + each, self._count)):
                    nursery.start_soon(self._append, limit)
            await self._writer.sync(self._stripes[start:])
        await self._writer.close()

    async def read(self) -> None:
        """All of it, without a copy; nothing is cached between stripes."""
        reader = VolumeReader(self._store, self.devices, lambda *_: None, cache_bytes=0)
        for stripe in self._stripes:
            await reader.read_parts(self._rows.volumes[stripe.at.volume], stripe.at, 0, len(self._payload))

    async def durable_us(self, count: int = 200) -> float:
        """Microseconds from a stripe of 4 KiB until it is safe, one after the other."""
        began = time.perf_counter()
        for _ in range(count):
            stripe = PendingStripe(self._payload[:4096])
            await self._writer.append(stripe)
            await self._writer.sync([stripe])
        return (time.perf_counter() - began) / count * 1e6

    @asynccontextmanager
    async def row(self, table: Table, name: str) -> AsyncIterator[None]:
        began, busy = time.perf_counter(), time.process_time()
        yield
        took, cpu = time.perf_counter() - began, time.process_time() - busy
        mib = self._count * len(self._payload) / (1 << 20)
        table.add_row(name, f"{mib / took:.0f}", f"{cpu / mib * 1e3:.2f}")

    async def _append(self, limit: trio.CapacityLimiter) -> None:
        async with limit:
            stripe = PendingStripe(self._payload)
            await self._writer.append(stripe)
            self._stripes.append(stripe)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench volumes", description=__doc__)
    parser.add_argument("-k", type=int, default=4)
    parser.add_argument("-m", type=int, default=2)
    parser.add_argument("--mib", type=int, default=384)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        trio.run(_measure, Path(folder), Code(given.k, given.m), given.mib, given.in_flight)
    return 0


async def _measure(folder: Path, code: Code, mib: int, flight: int) -> None:
    bench = Bench(folder, code, mib, flight)
    table = Table(title=f"{code.k}+{code.m}, {mib} MiB in {folder}")
    for column in ("", "MiB/s", "CPU ms a MiB"):
        table.add_column(column, justify="left" if not column else "right")
    durable = await bench.durable_us()
    async with bench.row(table, "write and sync"):
        await bench.write()
    async with bench.row(table, "read, page cache warm"):
        await bench.read()
    for ident in list(bench.devices)[: code.m]:
        del bench.devices[ident]
    async with bench.row(table, f"read, {code.m} devices gone"):
        await bench.read()
    console = Console()
    console.print(table)
    console.print(f"4 KiB, until it is safe: {durable:.0f} µs")

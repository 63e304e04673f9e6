"""A device is replaced: how fast its shards are made anew, beside a copy of the same files that is as safe.

Three ways take turns. The copy: each of the lost shards' files is written, synced, renamed, and its folder synced.
The floor of any rebuild: the same, but of each file k others are read, hashed and decoded, and the result is hashed.
The rebuild: from the command to the last row. All have equally many files in their hands at once, and nobody uses
the store. All read from the page cache, or with --cold from the disk; where all devices are folders of one disk a
rebuild then reads k times as much from it as the copy.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from stratumfs.catalog.held import held
from stratumfs.config import SETTINGS_FILE, load
from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code, codec_for
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.ids import CellIndex
from stratumfs.limits import NEVER_NS, REBUILDS_MAX, STRIPE_PAYLOAD_MAX
from stratumfs.owner import wire
from stratumfs.owner.allocator import keep_freed_memory
from stratumfs.owner.create import make_store
from stratumfs.owner.messages import Credentials, Progress, ReplaceDevice
from stratumfs.owner.replace import replace_device
from stratumfs.room import room
from stratumfs.shards.layout import VOLUMES_FOLDER
from stratumfs.values import Conditions, ObjectSpec

TARGET = 0.7
COPY, FLOOR, REBUILD = "copy of the shard files", "floor of any rebuild", "rebuild"
MIB = 1 << 20


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench rebuild", description=__doc__)
    parser.add_argument("-k", type=int, default=4)
    parser.add_argument("-m", type=int, default=2)
    parser.add_argument("--mib", type=int, default=2048, help="of payload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--cold", action="store_true", help="read from the disk, not from the page cache")
    given = parser.parse_args(argv)
    keep_freed_memory()  # as an owner does
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return trio.run(_measure, Path(folder), Code(given.k, given.m), given.mib, given.rounds, given.cold)


Taken = tuple[float, float]
"""Seconds, and those of all processors."""


async def _measure(root: Path, code: Code, mib: int, rounds: int, cold: bool) -> int:
    devices = [root / f"d{slot}" for slot in range(code.n)]
    for path in devices:
        path.mkdir()
    make_store(root / "store", devices, code.k, code.m, Credentials("bench", "bench-secret"))
    taken: dict[str, list[Taken]] = {COPY: [], FLOOR: [], REBUILD: []}
    async with _opened(root / "store") as running:
        await _fill(running, mib)
        size = 0
        for number in range(rounds):
            listed = running.folders.identity.devices
            device = listed[number % code.n]
            others = [each.path for each in listed if each != device]
            size = (await held(running.store.catalog, device.id, NEVER_NS)).bytes
            for name, make in ((COPY, _copy_one), (FLOOR, partial(_floor_one, code, others))):
                _forget(root, cold)
                taken[name].append(await trio.to_thread.run_sync(_each_file, device.path, root / "copy", make))
            await trio.to_thread.run_sync(shutil.rmtree, device.path)
            _forget(root, cold)
            taken[REBUILD].append(await _replace(running, device.path, root / f"new{number}"))
    _tell(taken, size, f"{code.k}+{code.m}, {mib} MiB in {root}, {'cold' if cold else 'warm'}")
    return 0 if _ratio(taken, COPY) >= TARGET else 1


def _forget(root: Path, cold: bool) -> None:
    """What was written is synced, so that nobody pays for the other; cold: and read from the disk."""
    os.sync()
    for file in root.rglob(f"{VOLUMES_FOLDER}/*/*") if cold else ():
        number = os.open(file, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[wire.Running]:
    async with wire.locked(folder) as found, wire.opened(found, load(folder / SETTINGS_FILE)) as running:
        yield running


async def _fill(running: wire.Running, mib: int) -> None:
    store = running.store
    await store.objects.create_bucket("bench", time.time_ns())
    data = os.urandom(16 * MIB)
    for number in range(max(1, mib // 16)):
        async with store.objects.put("bench") as writer:
            await writer.write(data)
            await writer.finish()
            await writer.commit(b"%d" % number, ObjectSpec(), Conditions(), time.time_ns())
    await store.writer.volumes.seal_idle(0)


Make = Callable[[Path, Path], None]
"""The first file's bytes, in the second, which is not there yet."""


def _each_file(device: Path, target: Path, make: Make) -> Taken:
    """All shard files of a device made in *target*, durably."""
    files = sorted((device / VOLUMES_FOLDER).glob("*/*"))
    target.mkdir()

    def one(file: Path) -> None:
        made = target / f"{file.name}.new"
        make(file, made)
        made.rename(target / file.name)
        _sync(target)

    try:
        began, busy = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(REBUILDS_MAX) as threads:
            list(threads.map(one, files))
        return time.perf_counter() - began, time.process_time() - busy
    finally:
        shutil.rmtree(target)


def _copy_one(file: Path, made: Path) -> None:
    shutil.copyfile(file, made)
    _sync(made)


def _floor_one(code: Code, others: Sequence[Path], file: Path, made: Path) -> None:
    """Cells are taken to be as long as those of a full stripe, wherever they begin: it is the work that counts."""
    cell, size, codec = cell_size_for(STRIPE_PAYLOAD_MAX, code), file.stat().st_size, codec_for(code)
    sources = [
        found for each in others for found in (each / file.parent.relative_to(file.parents[2])).glob(f"{file.stem}.*")
    ]
    files = [os.open(source, os.O_RDONLY) for source in sources[: code.k]]
    wanted, present = (
        CellIndex(int(file.suffix[1:])),
        [CellIndex(int(source.suffix[1:])) for source in sources[: code.k]],
    )
    rooms = {index: room(cell) for index in present}
    target = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.posix_fallocate(target, 0, size)
        for position in range(0, size, cell):
            for number, index in zip(files, present, strict=True):
                os.preadv(number, [rooms[index]], position)
                digest(rooms[index])
            result = codec.recover(rooms, [wanted], cell)[wanted][: size - position]
            digest(result)
            os.pwrite(target, result, position)
        os.fdatasync(target)
    finally:
        for number in (*files, target):
            os.close(number)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


async def _replace(running: wire.Running, old: Path, new: Path) -> Taken:
    """Until nothing is left to be made, what the catalog does for it included."""
    await trio.Path(new).mkdir()
    began, busy = time.perf_counter(), time.process_time()
    found = await replace_device(running, ReplaceDevice(str(old), str(new)), _nobody, trio.Event())
    took = time.perf_counter() - began, time.process_time() - busy
    assert not found["bytes_left"], "it is not all made anew"
    return took


async def _nobody(progress: Progress) -> None:
    pass


def _tell(taken: Mapping[str, Sequence[Taken]], size: int, title: str) -> None:
    table = Table(title=title)
    for column in ("", "MiB/s", "CPU ms a MiB"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in taken.items():
        table.add_row(name, *(f"{size / MIB / _median(found, 0):.0f}", f"{_median(found, 1) / (size / MIB) * 1e3:.2f}"))
    console = Console()
    console.print(table)
    ratios = f"{_ratio(taken, COPY):.2f} of the copy and {_ratio(taken, FLOOR):.2f} of the floor"
    console.print(f"rebuild: {ratios}; at least {TARGET} of the copy is wanted")


def _ratio(taken: Mapping[str, Sequence[Taken]], beside: str) -> float:
    """The median of rounds: what else the machine does concerns both."""
    pairs = zip(taken[beside], taken[REBUILD], strict=True)
    return statistics.median(other[0] / rebuild[0] for other, rebuild in pairs)


def _median(taken: Sequence[Taken], which: int) -> float:
    return statistics.median(each[which] for each in taken)

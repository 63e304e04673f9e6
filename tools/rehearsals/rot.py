"""Plant rot of every kind in a store of many objects, scrub it, and look for what was missed, left, or was no damage.

Then the same store is served by both doors, and read through the S3 door: first alone, then beside a pass of the
scrubber, which must not slow the slowest of a hundred reads to more than half of its speed. Repeatable by its seed.
"""

import argparse
import json
import logging
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import trio
from rich.console import Console

from stratumfs.catalog.scrubs import Pass, last_passes
from stratumfs.owner.fsck import Wanted, fsck
from tests.doors import BIN, Doors, opened_doors
from tests.faults.rot import Planted, plant
from tests.faults.run import make_here, opened
from tests.faults.test_rot import content, fill, scrub
from tests.stratumfs.store.helpers import get

M = 2
QUIET_S = 10.0
SLOWER = 2.0
"""What the slowest of a hundred reads may become beside a scrub."""


class Missed(Exception):
    """Rot was not found or not mended, or something was taken for rot, or the doors felt it."""


async def mend(root: Path, planted: list[Planted], objects: int, seed: int) -> Pass:
    """One pass, the repairs, every object. Raises: Missed."""
    bad = {(each.shard.volume, each.shard.index) for each in planted if each.shard is not None}
    rows = len(planted) - len(bad)
    async with opened(root) as store:
        told = await scrub(store)
        done = (await store.catalog.read(last_passes))[0]
        if told != bad:
            raise Missed(f"{len(bad - told)} bad shards were not found, {len(told - bad)} good ones were taken for bad")
        if (done.bad_rows, store.catalog.mender.restored) != (rows, rows):
            raise Missed(f"{rows} rows rotted, {done.bad_rows} were found, {store.catalog.mender.restored} restored")
        if store.damaged:
            raise Missed(f"{len(store.damaged)} shards were not mended")
        for number in range(objects):
            if await get(store, f"o{number}".encode()) != content(number, seed):
                raise Missed(f"object {number} has other bytes")
    return done


def checked(root: Path) -> dict[str, Any]:
    """Raises: Missed."""
    found = fsck(root / "store", Wanted(mend=False, full=True), lambda text, done, total: None)
    if not found["clean"]:
        raise Missed(f"fsck finds {found['findings'][:3]}")
    return found


def read_times(doors: Doors, objects: int, seed: int, stop: Callable[[], bool]) -> list[float]:
    """Seconds of each GET, of one client after another object. Raises: Missed."""
    client, rng, times = doors.client(max_pool_connections=1), random.Random(seed), list[float]()  # noqa: S311
    while not stop():
        number = rng.randrange(objects)
        began = time.perf_counter()
        data = client.get_object(Bucket="bucket", Key=f"o{number}")["Body"].read()
        times.append(time.perf_counter() - began)
        if data != content(number, seed):
            raise Missed(f"object {number} was served with other bytes")
    client.close()
    return times


def beside(doors: Doors, objects: int, seed: int) -> tuple[list[float], list[float], float]:
    """Times of reads alone and beside a scrub, and how long that took."""
    until = time.monotonic() + QUIET_S
    alone = read_times(doors, objects, seed, lambda: time.monotonic() > until)
    began = time.monotonic()
    command = [str(BIN / "stratumfs"), "scrub", "--now", "--json", str(doors.store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as scrubbing:
        busy = read_times(doors, objects, seed, lambda: scrubbing.poll() is not None)
        assert scrubbing.stdout is not None
        json.load(scrubbing.stdout)
    return alone, busy, time.monotonic() - began


def slowest(times: list[float]) -> float:
    """Of a hundred."""
    return sorted(times)[int(len(times) * 0.99)]


def percentiles(times: list[float]) -> str:
    return f"p50 {1000 * sorted(times)[len(times) // 2]:.1f} ms, p99 {1000 * slowest(times):.1f} ms"


def run(root: Path, options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Raises: Missed."""
    for slot in range(6):
        (root / f"d{slot}").mkdir()
    make_here(root)
    trio.run(fill, root, options.objects, options.volumes, options.seed)
    planted = plant(root, M, options.faults, random.Random(options.seed))  # noqa: S311 - repeatable is the point
    began = time.monotonic()
    done = trio.run(mend, root, planted, options.objects, options.seed)
    say(
        f"{options.objects} objects in {done.volumes} volumes, {len(planted)} faults: {done.bad_shards} shards and "
        f"{done.bad_rows} rows found, all mended, none false, {time.monotonic() - began:.0f} s"
    )
    found = checked(root)
    say(f"fsck: clean, {found['rows']} extents, {found['shards']} shards, {found['cells']} cells")
    (root / "mount").mkdir()
    with opened_doors(root, [root / f"d{slot}" for slot in range(6)], seconds=3600) as doors:
        alone, busy, took_s = beside(doors, options.objects, options.seed)
    say(f"{len(alone)} reads alone: {percentiles(alone)}")
    say(f"{len(busy)} beside a scrub of {took_s:.1f} s: {percentiles(busy)}")
    if slowest(busy) > SLOWER * slowest(alone):
        raise Missed("the doors felt the scrub")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse rot", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--volumes", type=int, default=500, help="about so many; two shards of each can be spoilt")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    folder = Path(tempfile.mkdtemp(prefix="rehearse-rot-"))
    console = Console()
    try:
        run(folder, options, console.print)
    except Missed as error:
        console.print(f"[red]seed {options.seed}: {error}; left in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0

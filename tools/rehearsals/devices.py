"""Lose each pair of the devices and the store folder under load from both doors, replace them, rebuild, go on.

Each round two devices are emptied, die (EIO), are full (ENOSPC) or hang, while writers and readers work at both doors;
the store folder hangs, and then dies. No read fails, and every writer is answered within the deadline. Then devices are
replaced by empty ones and rebuilt, a store folder is there again for the next owner, and every file and object is
compared with what was promised. All the while the scrubber reads everything, over and over; behind each round fsck
does, and must find nothing. At last all devices stall at once, which strikes nobody. A run is known by its folder: the
same folder goes on where it was stopped.
"""

import argparse
import errno
import itertools
import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

from stratumfs.cli.exit import Exit
from tests.both.passthrough import Device, devices
from tests.doors import BIN, CommandFailed, Doors, begin, opened_doors, run
from tests.model.s3 import Reader
from tools.rehearsals._kill_load import GONE, MountWorker, Promises, S3Worker, Worker, digest

DEVICES = 6
STORE = DEVICES
PLACES = tuple(range(DEVICES + 1))
"""What can be lost: the six devices, by their slots, and the store folder."""
STORE_HANGS_S = 2.0
BY_S3, BY_MOUNT, STILL = "by-s3", "by-mount", "still"
STILL_FILE = 1_000_000
SMALL, SMALL_DATA = "small", b"of the catalog"
ALL_STALL, ALL_STALL_S = "all stall", 45.0
LOAD_S = 1.0
PAUSE_S = 0.1
"""Between two reads of a reader: devices that are Python programs take most of the processor."""
DEADLINE_S = 75.0
"""A device that hangs is struck after 30 s, a second one that hangs with it in the same look or the next."""
REBUILD_S = 600.0
EXPECTED = (
    "device_struck",
    "writes_wait",
    "device_not_used",
    "shard_not_removed",
    "sealed_without_a_table",
    "the catalog",
    "a place",
    "identity",
)
"""In the log's complaints: what was done to the devices."""


class Lost(Exception):
    """The store broke a promise."""


def _fail(code: int) -> Callable[[Device], None]:
    return lambda device: device.fail(code)


def _hang_and_die(device: Device) -> None:
    device.stall()
    time.sleep(STORE_HANGS_S)
    device.fail(errno.EIO)


KINDS: dict[str, Callable[[Device], None]] = {
    "emptied": Device.empty,
    "EIO": _fail(errno.EIO),
    "ENOSPC": _fail(errno.ENOSPC),
    "hanging": Device.stall,
}


class StillReader:
    """Reads what lies still, over and over, through one door. error: what a read got instead of its bytes."""

    def __init__(self, read: Callable[[str], bytes], still: dict[str, str], stop: threading.Event) -> None:
        self.error: Exception | None = None
        self.bytes = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._read, self._still, self._stop = read, still, stop

    def _run(self) -> None:
        try:
            for name in itertools.cycle(sorted(self._still)):
                if self._stop.is_set():
                    return
                data = self._read(name)
                if digest(data) != self._still[name]:
                    raise Lost(f"{STILL}/{name} has other bytes")  # noqa: TRY301
                self.bytes += len(data)
                time.sleep(PAUSE_S)
        except Exception as error:
            self.error = error


class Rehearsal:
    """A store whose devices are passthroughs of ours, both doors open, all well at the beginning and end of a round."""

    def __init__(self, doors: Doors, disks: Sequence[Device], size: int, seed: int, state: Path | None = None) -> None:
        self.doors, self.counts, self.round = doors, Counter[str](), 0
        self._disks, self._seed, self._state = disks, seed, state
        self._promises = Promises()
        self._still: dict[str, str] = {}
        doors.expected += EXPECTED
        if state is not None and state.exists():
            self._resume()
        for bucket in (BY_S3, BY_MOUNT, STILL):
            (doors.mount / bucket).mkdir(exist_ok=True)
        self._lay_down(size)

    def run_round(self, pair: Sequence[int], kind: str) -> None:
        """Raises: Lost."""
        if kind == ALL_STALL:
            self._stall_all()
        else:
            self._lose(pair, kind)
        self._compare()
        self._check_sound()
        self._fsck()
        self.round += 1
        self.counts[f"rounds, {kind}"] += 1
        self._save()

    def _lose(self, pair: Sequence[int], kind: str) -> None:
        with self._scrubbed(pair), self._load() as (workers, readers):
            self._wait_answered(workers, readers)
            for place in pair:
                (_hang_and_die if place == STORE else KINDS[kind])(self._disks[place])
            begun = time.monotonic()
            self._wait_answered(workers, readers)
            self.counts[f"ms until all writers were answered, most, {kind}"] = max(
                self.counts[f"ms until all writers were answered, most, {kind}"],
                int(1000 * (time.monotonic() - begun)),
            )
            time.sleep(LOAD_S)
            self._replace(pair)
            self._wait_answered(workers, readers)
        if STORE in pair:
            self._revive_store_folder(pair)

    def _stall_all(self) -> None:
        """Longer than one device would be waited for: writes wait, what lies in the catalog is read all the time, and
        when they go on nobody was struck."""
        client = self.doors.client(max_pool_connections=1)
        with self._scrubbed(()), self._load() as (workers, readers):
            self._wait_answered(workers, readers)
            for disk in self._disks[:DEVICES]:
                disk.stall()
            until = time.monotonic() + ALL_STALL_S
            try:
                while time.monotonic() < until:
                    found = [(self.doors.mount / STILL / SMALL).read_bytes()]
                    found.append(client.get_object(Bucket=STILL, Key=SMALL)["Body"].read())
                    if found != [SMALL_DATA] * 2:
                        raise Lost(f"{STILL}/{SMALL} has other bytes")
                    self.counts["reads while all stalled"] += 2
                    time.sleep(1.0)
            finally:
                for disk in self._disks[:DEVICES]:
                    disk.go_on()
            self._wait_answered(workers, readers)

    @contextmanager
    def _scrubbed(self, pair: Sequence[int]) -> Iterator[None]:
        """One pass of the scrubber after the other; the owner goes on with the last one by itself."""
        there = self._disks[next(slot for slot in PLACES if slot not in pair)].point
        stop = threading.Event()
        thread = threading.Thread(target=self._scrub, args=(there, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(DEADLINE_S)

    def _scrub(self, there: Path, stop: threading.Event) -> None:
        while not stop.is_set():
            with begin([BIN / "stratumfs", "scrub", "--now", there]) as asking:
                while asking.poll() is None and not stop.wait(PAUSE_S):
                    pass
                asking.terminate()
            self.counts["passes of the scrubber under the load"] += asking.returncode in (Exit.OK, Exit.DATA)

    @contextmanager
    def _load(
        self, number: int | None = None, *, refused: bool = False
    ) -> Iterator[tuple[list[Worker], list[StillReader]]]:
        """Writers and readers at both doors; the names of the writers have this *number*. Raises: Lost if one hangs,
        or is *refused* where none may be."""
        stop = threading.Event()
        # Names of its own: what was compared stays as it is.
        workers, readers = self._workers(stop, 2 * self.round if number is None else number), self._readers(stop)
        for each in (*workers, *readers):
            each.thread.start()
        try:
            yield workers, readers
        finally:
            stop.set()
            for each in (*workers, *readers):
                each.thread.join(DEADLINE_S)
        if any(each.thread.is_alive() for each in (*workers, *readers)):
            raise Lost("a call hangs")
        for each in (*workers, *readers):
            if each.error is not None and not refused:
                raise Lost(f"a call was refused: {each.error!r}")
        self.counts["acknowledged"] += sum(worker.acknowledged for worker in workers)
        self.counts["bytes read meanwhile"] += sum(reader.bytes for reader in readers)

    def _workers(self, stop: threading.Event, number: int) -> list[Worker]:
        seed = f"{self._seed} {number}"
        client = self.doors.client(max_pool_connections=1, read_timeout=DEADLINE_S)
        mount = MountWorker(self._promises, stop, f"mount {seed}", number, self.doors.mount / BY_MOUNT)
        return [S3Worker(self._promises, stop, f"s3 {seed}", number, client, BY_S3), mount]

    def _readers(self, stop: threading.Event) -> list[StillReader]:
        client = self.doors.client(max_pool_connections=1, read_timeout=DEADLINE_S)

        def by_s3(name: str) -> bytes:
            data: bytes = client.get_object(Bucket=STILL, Key=name)["Body"].read()
            return data

        def by_mount(name: str) -> bytes:
            return (self.doors.mount / STILL / name).read_bytes()

        return [StillReader(by_s3, self._still, stop), StillReader(by_mount, self._still, stop)]

    def _wait_answered(self, workers: Sequence[Worker], readers: Sequence[StillReader]) -> None:
        """Return when each writer and each reader got one more answer. Raises: Lost."""
        writes, reads = [each.acknowledged for each in workers], [each.bytes for each in readers]
        deadline = time.monotonic() + DEADLINE_S
        while any(each.acknowledged <= before for each, before in zip(workers, writes, strict=True)) or any(
            each.bytes <= before for each, before in zip(readers, reads, strict=True)
        ):
            for each in (*workers, *readers):
                if each.error is not None:
                    raise Lost(f"a call was refused: {each.error!r}")
            if time.monotonic() > deadline:
                raise Lost(f"not every writer and reader was answered within {DEADLINE_S} s")
            time.sleep(0.01)

    def _replace(self, pair: Sequence[int]) -> None:
        """New empty disks in the places of those that are devices."""
        begun = time.monotonic()
        store, slots = self._named(pair), [slot for slot in pair if slot != STORE]
        for slot in slots:
            self._disks[slot].fail(0)
            self._disks[slot].empty()
            self._replace_one(store, slot)
        for slot in slots:  # emptied under a busy owner, it may have been struck only after it was taken for whole
            self._replace_one(store, slot)
        self.counts["s of rebuilding"] += int(time.monotonic() - begun)

    def _replace_one(self, store: Path, slot: int) -> None:
        point = self._disks[slot].point
        run([BIN / "stratumfs", "device", "replace", store, f"hot:{slot}", point], timeout=REBUILD_S)

    def _named(self, pair: Sequence[int]) -> Path:
        """What names the store: its folder, or a device that is up, once the owner listens where that leads to."""
        if STORE not in pair:
            return self.doors.store
        device = self._disks[next(slot for slot in PLACES if slot not in pair)].point
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                run([BIN / "stratumfs", "status", device])
            except CommandFailed:
                if time.monotonic() > deadline:
                    raise
            else:
                return device

    def _revive_store_folder(self, pair: Sequence[int]) -> None:
        """It is there again with what was in it; the next owner makes the primary of the catalog anew in it."""
        run([BIN / "stratumfs", "stop", self._named(pair)])
        self._disks[STORE].fail(0)
        self.doors.start()

    def _check_sound(self) -> None:
        found = self.doors.status()
        said = {name: found[name] for name in ("missing_shards", "damaged_shards", "read_only", "devices_survived")}
        if said != {"missing_shards": 0, "damaged_shards": 0, "read_only": None, "devices_survived": 2}:
            raise Lost(f"not rebuilt: {said}")
        if complaints := self.doors.complaints():
            raise Lost(f"the owner complains: {complaints[0]}")

    def _fsck(self) -> None:
        """Raises: Lost."""
        self.doors.stop()
        found = self.doors.fsck()
        if wrong := self.doors.findings(found):
            raise Lost(f"fsck finds {wrong[:3]}")
        self.counts["fsck clean"] += 1
        self.counts["cells that fsck read"] += found["cells"]
        self.doors.start()

    def _compare(self) -> None:
        """Every promised name, and all that lies still, through both doors. Raises: Lost."""
        reader = Reader(self.doors)
        try:
            for name, may in list(self._promises.may.items()):
                self._compare_name(name, may, reader)
            for name, expected in self._still.items():
                self._compare_name(f"{STILL}/{name}", {expected}, reader)
        finally:
            reader.close()

    def _compare_name(self, name: str, may: set[str], reader: Reader) -> None:
        bucket, _, key = name.partition("/")
        path = self.doors.mount / name
        data = path.read_bytes() if path.exists() else None
        got = reader.get(bucket, key.encode())
        if (got.data if got.status == 200 else None) != data:
            raise Lost(f"the doors disagree on {name}: {got.status}")
        if (GONE if data is None else digest(data)) not in may:
            raise Lost(f"{name} is {'missing' if data is None else 'wrong'}")
        self.counts["names compared"] += 1

    def _lay_down(self, size: int) -> None:
        (self.doors.mount / STILL / SMALL).write_bytes(SMALL_DATA)
        rng = random.Random(self._seed)  # noqa: S311 - repeatable is the point
        for number in range(max(1, size // STILL_FILE)):
            name, data = f"f{number}", rng.randbytes(STILL_FILE)
            self._still[name] = digest(data)
            path = self.doors.mount / STILL / name
            if not path.exists():
                path.write_bytes(data)

    def _save(self) -> None:
        if self._state is not None:
            new = self._state.with_suffix(".new")
            new.write_text(json.dumps({"seed": self._seed, "round": self.round, "counts": self.counts}))
            new.replace(self._state)

    def _resume(self) -> None:
        """Go on after the last round that was saved, with empty buckets: what the next one promised nobody knows."""
        assert self._state is not None
        state: dict[str, Any] = json.loads(self._state.read_text())
        if state["seed"] != self._seed:
            raise SystemExit(f"{self._state.parent} belongs to a run with --seed {state['seed']}")
        self.round, self.counts = state["round"], Counter(state["counts"])
        for bucket in (BY_S3, BY_MOUNT):
            shutil.rmtree(self.doors.mount / bucket)
        for slot in range(DEVICES):  # each round begins with all well; each of these waits until nothing is left to do
            self._replace_one(self.doors.store, slot)
        self._check_sound()


R = TypeVar("R", bound=Rehearsal)


@contextmanager
def rehearsal(folder: Path, size: int, seed: int, seconds: float, kind: type[R]) -> Iterator[R]:
    """A store in *folder*, made if it is not there, over devices of ours; audited at the end. Raises: Lost."""
    with devices(folder, len(PLACES)) as disks:
        (disks[STORE].point / "store").mkdir(exist_ok=True)
        if not (folder / "store").is_symlink():
            (folder / "store").symlink_to(disks[STORE].point / "store")
        with opened_doors(folder, [disk.point for disk in disks[:DEVICES]], seconds=seconds) as doors:
            yield kind(doors, disks, size, seed, folder / "state.json")
        if wrong := doors.audit(tables_missing=len(PLACES)):
            raise Lost(f"the audit finds: {wrong[0]}")


def rounds(seed: int) -> list[tuple[tuple[int, ...], str]]:
    """Each pair of places with each kind of loss in turn, in an order of the seed's; then all devices stall."""
    pairs = list(itertools.combinations(PLACES, 2))
    random.Random(seed).shuffle(pairs)  # noqa: S311 - repeatable is the point
    return [*zip(pairs, itertools.cycle(KINDS), strict=False), ((), ALL_STALL)]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse devices", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="MB that lie in the store; default: 1000")
    parser.add_argument("--rounds", type=int, help="default: one for each pair, and the last")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-devices-"))
    console = Console()
    plan = rounds(options.seed)[: options.rounds]
    at: tuple[Any, ...] = ()
    try:
        with (
            rehearsal(folder, options.size * 10**6, options.seed, 600.0 * len(plan), Rehearsal) as found,
            Progress(console=console) as progress,
        ):
            bar = progress.add_task("rounds", total=len(plan), completed=found.round)
            for at in plan[found.round :]:
                progress.update(bar, description=f"{at[1]} {', '.join(map(str, at[0]))}")
                found.run_round(*at)
                progress.update(bar, completed=found.round)
    except Lost as error:
        console.print(f"[red]{at}, seed {options.seed}: {error}; left in {folder}")
        return 1
    console.print(f"{len(plan)} rounds, seed {options.seed}: nothing acknowledged is missing, no byte is wrong")
    for what, count in sorted(found.counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0

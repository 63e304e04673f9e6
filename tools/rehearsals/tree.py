"""Copy a large part of this machine's own files through both doors, take devices away, and compare everything.

One bucket is filled through the mount (by tar), another one through S3 (by s5cmd). Each is then compared with the
source, file by file, through the other door; modes, times and links through the mount, which alone carries them. Then
two devices are emptied while the store is closed, later two others while it is open, and all is compared again.
A run is known by its folder: the same folder goes on where it was stopped.
"""

import argparse
import json
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.doors import BIN, Doors, opened_doors, run
from tests.folders import empty
from tests.model.s3 import Reader
from tools.rehearsals._tree_sample import Entry, digest, from_json, sample, to_json

BY_MOUNT, BY_S3 = "by-mount", "by-s3"
THREADS = 4
FILL_S = 3600.0

Tell = Callable[[str, int, int], None]
"""What is being done, how much of it is done, out of how much."""


class Different(Exception):
    """The store does not show what was copied into it."""


class Rehearsal:
    """*entries*: what is copied; the store is up at the beginning and at the end of each step but the last."""

    def __init__(self, doors: Doors, entries: list[Entry], tell: Tell) -> None:
        self.doors, self._tell = doors, tell
        self._entries = entries
        self._files = [entry for entry in entries if entry.is_file]
        self._aside = doors.folder / "aside"

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        return {
            "fill a bucket through the mount": self.fill_by_mount,
            "fill a bucket through S3": self.fill_by_s3,
            "compare": self.compare,
            "compare with two devices emptied while it was closed": self.compare_after_emptying_closed,
            "compare with two devices emptied while it is open": self.compare_after_emptying_open,
        }

    def fill_by_mount(self) -> None:
        bucket = self.doors.mount / BY_MOUNT
        bucket.mkdir(exist_ok=True)
        names = b"\0".join(os.fsencode(entry.path) for entry in self._entries)
        pack = ["tar", "--create", "--format=pax", "--no-recursion", "--directory=/", "--null", "--files-from=-"]
        with tempfile.TemporaryFile() as listed:
            listed.write(names)
            listed.seek(0)
            with subprocess.Popen(pack, stdin=listed, stdout=subprocess.PIPE) as packing:
                unpack = ["tar", "--extract", "--preserve-permissions", "--numeric-owner", f"--directory={bucket}"]
                subprocess.run(unpack, stdin=packing.stdout, check=True, timeout=FILL_S)
            if packing.returncode:
                raise Different(f"tar could not read its sources: exit {packing.returncode}")

    def fill_by_s3(self) -> None:
        program = [str(BIN / "s5cmd"), "--numworkers", "16"]
        environment = self.doors.environment()
        if not (self.doors.mount / BY_S3).exists():
            run([*program, "mb", f"s3://{BY_S3}"], env=environment)
        paths = [shlex.join((f"/{entry.path}", f"s3://{BY_S3}/{entry.path}")) for entry in self._files]
        batch = self.doors.folder / "batch"
        batch.write_text("".join(f"cp --raw {path}\n" for path in paths))
        run([*program, "--log", "error", "run", str(batch)], env=environment, timeout=FILL_S)

    def compare(self) -> None:
        """Raises: Different."""
        self._compare_through_s3()
        self._compare_through_mount()
        self._compare_metadata()

    def compare_after_emptying_closed(self) -> None:
        """Raises: Different."""
        self.doors.stop()
        lost = self.doors.devices[:2]
        for device in lost:
            self._aside.mkdir(exist_ok=True)
            device.rename(self._aside / device.name)
            device.mkdir()
        self.doors.start()
        self._expect_degraded(lost)
        self.compare()
        self.doors.stop()
        for device in lost:
            shutil.rmtree(device)
            (self._aside / device.name).rename(device)
        self.doors.start()

    def compare_after_emptying_open(self) -> None:
        """Raises: Different."""
        lost = self.doors.devices[2:4]
        for device in lost:
            empty(device, cut=True)
        self.compare()
        self._expect_degraded(lost)

    def _expect_degraded(self, lost: Iterable[Path]) -> None:
        status = self.doors.status()
        if status["devices_survived"] != 0:
            raise Different(f"without {', '.join(map(str, lost))} the status is {status}")

    def _compare_through_s3(self) -> None:
        """What came in through the mount. Links are no objects, directories are keys."""
        readers: Queue[Reader] = Queue()
        for _ in range(THREADS):
            readers.put(Reader(self.doors))

        def check(entry: Entry) -> None:
            reader = readers.get()
            try:
                got = reader.get(BY_MOUNT, os.fsencode(entry.path))
            finally:
                readers.put(reader)
            if got.status != 200 or len(got.data) != entry.size or digest(got.data) != entry.digest:
                raise Different(f"{entry.path} through S3: {got.status}, {len(got.data)} bytes, not {entry.size}")

        reader = readers.get()
        listed, _ = reader.list(BY_MOUNT)
        readers.put(reader)
        _compare_names(
            "through S3",
            {os.fsdecode(key) for key in listed},
            {entry.path + "/" * entry.is_directory for entry in self._entries if entry.is_file or entry.is_directory},
        )
        self._each("compare through S3", check, self._files)
        while not readers.empty():
            readers.get().close()

    def _compare_through_mount(self) -> None:
        """What came in through S3."""
        top = self.doors.mount / BY_S3

        def check(entry: Entry) -> None:
            data = (top / entry.path).read_bytes()
            if digest(data) != entry.digest:
                raise Different(f"{entry.path} through the mount: {len(data)} bytes, other than in the source")

        _compare_names("through the mount", _files_below(top), {entry.path for entry in self._files})
        self._each("compare through the mount", check, self._files)

    def _compare_metadata(self) -> None:
        """What the mount alone carries, of what came in through it."""
        top = self.doors.mount / BY_MOUNT

        def check(entry: Entry) -> None:
            seen = os.lstat(top / entry.path)
            if stat.S_ISLNK(entry.mode):
                if os.readlink(top / entry.path) != entry.target:
                    raise Different(f"{entry.path} leads elsewhere")
            elif seen.st_mode != entry.mode:
                raise Different(f"{entry.path} has mode {seen.st_mode:o}, not {entry.mode:o}")
            if seen.st_mtime_ns != entry.mtime_ns:
                raise Different(f"{entry.path} has mtime {seen.st_mtime_ns}, not {entry.mtime_ns}")
            if entry.is_file and seen.st_size != entry.size:
                raise Different(f"{entry.path} has {seen.st_size} bytes, not {entry.size}")

        self._each("compare modes, times and links", check, self._entries)

    def _each(self, what: str, check: Callable[[Entry], None], entries: list[Entry]) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            for done, _ in enumerate(threads.map(check, entries), 1):
                if done % 50 == 0 or done == len(entries):
                    self._tell(what, done, len(entries))


def _files_below(top: Path) -> set[str]:
    return {os.path.relpath(os.path.join(folder, name), top) for folder, _, names in os.walk(top) for name in names}


def _compare_names(where: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        missing, more = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise Different(f"names {where}: missing {missing}, unexpected {more}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse tree", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-tree-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    entries = _entries(folder / "sample.json", partial(sample, options.files, options.bytes, options.seed))
    files = [entry for entry in entries if entry.is_file]
    console.print(f"{len(files)} files, {sum(entry.size for entry in files)} bytes, {len(entries)} names in {folder}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with opened_doors(folder, seconds=4 * FILL_S) as doors, Progress(*columns, console=console) as progress:
        bars = progress.add_task("", total=None)
        rehearsal = Rehearsal(
            doors, entries, lambda what, done, all_: progress.update(bars, description=what, completed=done, total=all_)
        )
        done = folder / "done"
        for name, step in rehearsal.steps.items():
            if done.exists() and name in done.read_text().splitlines():
                continue
            progress.reset(bars, description=name, total=None)
            try:
                step()
            except Different as error:
                console.print(f"[red]{name}: {error}; left in {folder}")
                return 1
            console.print(f"done: {name}, {progress.tasks[0].elapsed or 0.0:.0f} s")
            with done.open("a") as file:
                file.write(f"{name}\n")
    console.print("everything that was copied in through one door is there through the other, to the byte")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def _entries(path: Path, choose: Callable[[], list[Entry]]) -> list[Entry]:
    """Those of the run in this folder; chosen now if it is new."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.write_text(json.dumps(to_json(choose())))
        new.replace(path)
    return from_json(json.loads(path.read_text()))

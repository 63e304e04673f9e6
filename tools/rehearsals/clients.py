"""A large file and a small tree up, down and about with every client, unmodified, and checked through the mount too.

The clients are aws (s3 and s3api), boto3 with its defaults, rclone, s5cmd and s3cmd. A run is known by its folder: the
same folder goes on with the client at which it was stopped.
"""

import argparse
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from tests.doors import CommandFailed, Doors, opened_doors
from tools.rehearsals._clients import CLIENTS, Client

MIB = 1 << 20
FILES = 60
_BLOCK = 16 * MIB


class Different(Exception):
    """A client does not get what it gave, or the mount shows something else."""


class Rehearsal:
    def __init__(self, doors: Doors, size: int, seed: int) -> None:
        self._doors, self._size = doors, size
        self._source = doors.folder / "source"
        self._digest = make_source(self._source, size, seed)
        self.rates: dict[str, dict[str, float]] = {}

    def run(self, kind: type[Client], step: Callable[[str], None] = lambda _: None) -> None:
        """One client from an empty bucket to none. Raises: Different, CommandFailed."""
        home = self._doors.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        client, rates = kind(self._doors, home), self.rates.setdefault(kind.name, {})
        large, bucket = self._source / "large", self._doors.mount / client.bucket
        if bucket.exists():  # left by a run that was stopped
            shutil.rmtree(bucket)
        client.make_bucket()
        with self._timed(rates, "put", step):
            client.put(large, "some/large")
        self._check(bucket / "some" / "large", f"{client.name}: put, read through the mount")
        with self._timed(rates, "get", step):
            client.get("some/large", home / "large")
        self._check(home / "large", f"{client.name}: get")
        (home / "large").unlink()
        with self._timed(rates, "copy", step):
            client.copy("some/large", "some/copy")
        self._check(bucket / "some" / "copy", f"{client.name}: copy, read through the mount")
        step("sync")
        client.sync(self._source / "tree", "tree")
        client.sync_back("tree", home / "back")
        for found in (bucket / "tree", home / "back"):
            if tree_digests(found) != tree_digests(self._source / "tree"):
                raise Different(f"{client.name}: sync: {found} is not what was synced")
        if (count := client.keys()) != FILES + 2:
            raise Different(f"{client.name} lists {count} keys, not {FILES + 2}")
        self._fetch_presigned(client)
        step("remove")
        client.remove_all()
        if bucket.exists():
            raise Different(f"{client.name}: the bucket is still there")

    def _fetch_presigned(self, client: Client) -> None:
        key = "tree/0/file 0"
        signer = self._doors.client(signature_version="s3v4")
        url = signer.generate_presigned_url("get_object", {"Bucket": client.bucket, "Key": key}, ExpiresIn=60)
        with urlopen(url, timeout=60) as answer:  # noqa: S310 - our own gateway
            if answer.read() != (self._source / key).read_bytes():
                raise Different(f"{client.name}: a presigned URL gives other bytes")

    def _check(self, path: Path, what: str) -> None:
        if file_digest(path) != self._digest:
            raise Different(f"{what}: {path.stat().st_size} bytes, other than the {self._size} that were given")

    @contextmanager
    def _timed(self, rates: dict[str, float], what: str, step: Callable[[str], None]) -> Iterator[None]:
        step(what)
        begun = time.monotonic()
        yield
        rates[what] = self._size / MIB / (time.monotonic() - begun)


def make_source(folder: Path, size: int, seed: int) -> str:
    """A file ``large`` and a ``tree`` of FILES files, made if they are not there. Returns the large one's digest."""
    rng = random.Random(seed)  # noqa: S311 - repeatable is the point
    large = folder / "large"
    if not large.exists() or large.stat().st_size != size:
        shutil.rmtree(folder, ignore_errors=True)
        for number in range(FILES):
            path = folder / "tree" / str(number % 7) / f"file {number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rng.randbytes(rng.choice((0, 100, 20_000, 300_000))))
        block = bytearray(rng.randbytes(_BLOCK))
        with large.open("wb") as file:
            for start in range(0, size, _BLOCK):
                block[:8] = start.to_bytes(8, "big")  # no two parts are alike
                file.write(block[: size - start])
    return file_digest(large)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse clients", description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the large file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-clients-"))
    folder.mkdir(parents=True, exist_ok=True)
    console, done = Console(), folder / "done"
    with opened_doors(folder, seconds=7200.0) as doors, Progress(console=console) as progress:
        rehearsal = Rehearsal(doors, options.bytes, options.seed)
        bar = progress.add_task("clients", total=len(CLIENTS))
        for kind in CLIENTS:
            if not done.exists() or kind.name not in done.read_text().splitlines():
                try:
                    rehearsal.run(kind, _teller(progress, bar, kind.name))
                except (Different, CommandFailed) as error:
                    console.print(f"[red]{error}; left in {folder}")
                    return 1
                with done.open("a") as file:
                    file.write(f"{kind.name}\n")
            progress.advance(bar)
    table = Table("client", "put MiB/s", "get MiB/s", "copy MiB/s", title=f"{options.bytes} bytes")
    for name, rates in rehearsal.rates.items():
        table.add_row(name, *(f"{rates[what]:.0f}" for what in ("put", "get", "copy")))
    console.print(table)
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def _teller(progress: Progress, bar: TaskID, client: str) -> Callable[[str], None]:
    return lambda step: progress.update(bar, description=f"{client}: {step}")

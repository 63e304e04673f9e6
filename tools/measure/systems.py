"""Who is measured: the store itself, the floors that it is held against, and its peers as their manuals start them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.doors import Doors
from tools.measure.endpoint import Endpoint
from tools.measure.load import drive
from tools.measure.processes import Server, cpu_s, free_port, is_mounted, listens, unmount
from tools.measure.row import OURS

PUBLISHED = "close=published"
"""The store itself, where close(2) returns when the publication has begun."""
BARE_HTTP, BARE_FUSE = "bare Hypercorn", "bare pyfuse3"
SEAWEED, RCLONE, JUICE = "SeaweedFS", "rclone", "JuiceFS"
BUCKET, LISTED = "bench", "listed"
_BIN = Path(sys.executable).parent
_KEYS = ("bench-access", "bench-secret-0123456789")


@dataclass
class System:
    """pids: whose processor time counts, with that of their children; place: a folder of its mount to work in."""

    name: str
    pids: tuple[int, ...]
    endpoint: Endpoint | None = None
    place: Path | None = None

    def cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))


def missing_peers() -> list[str]:
    return [name for name in ("weed", "rclone", "juicefs") if not (_BIN / name).exists()]


@contextmanager
def stratumfs(doors: Doors) -> Iterator[System]:
    """Both doors of a store that was made and has the bucket: six devices on this disk, 4+2."""
    doors.start()
    try:
        assert doors.pid is not None
        yield System(OURS, (doors.pid,), Endpoint(doors.port, *doors.credentials), doors.mount / BUCKET)
        doors.stop()
    finally:
        doors.destroy()


@contextmanager
def published(doors: Doors) -> Iterator[System]:
    """The mount of another store that was made so."""
    doors.start(PUBLISHED)
    try:
        assert doors.pid is not None
        yield System(PUBLISHED, (doors.pid,), place=doors.mount / BUCKET)
        doors.stop()
    finally:
        doors.destroy()


@contextmanager
def bare_http(folder: Path) -> Iterator[System]:
    port = free_port()
    command: list[str | Path] = [sys.executable, "-m", "tools.measure.floor_http", str(port), folder]
    with _running(command, folder, lambda: listens(port)) as server:
        yield System(BARE_HTTP, (server.pid,), Endpoint(port, *_KEYS))


@contextmanager
def bare_fuse(folder: Path) -> Iterator[System]:
    place = folder / "mount"
    place.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "tools.measure.floor_fuse", place, folder]
    try:
        with _running(command, folder, lambda: is_mounted(place)) as server:
            yield System(BARE_FUSE, (server.pid,), place=place)
    finally:
        unmount(place)


@contextmanager
def seaweed(folder: Path, *, mount: bool) -> Iterator[System]:
    """One process with master, volume server, filer and S3 door, and with *mount* one that mounts it.

    Volumes of 1 GiB and as many as the disk has room for: by default there are eight, and a bucket takes seven.
    """
    ports = {name: (free_port(), free_port()) for name in ("master", "volume", "filer", "s3")}
    command: list[str | Path] = [
        _BIN / "weed", "-logtostderr=true", "server", f"-dir={folder}", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-volume.max=0", "-master.volumeSizeLimitMB=1024", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    for name, (port, grpc) in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    keys = {"AWS_ACCESS_KEY_ID": _KEYS[0], "AWS_SECRET_ACCESS_KEY": _KEYS[1]}
    endpoint = Endpoint(ports["s3"][0], *_KEYS)
    with _running(command, folder, lambda: _answers(endpoint), keys) as server:
        system = System(SEAWEED, (server.pid,), endpoint)
        make_bucket(system)
        if not mount:
            yield system
            return
        place = folder / "mount"
        place.mkdir()
        filer = "-filer=127.0.0.1:{}.{}".format(*ports["filer"])
        command = [_BIN / "weed", "-logtostderr=true", "mount", filer, f"-dir={place}", f"-cacheDir={folder / 'cache'}"]
        try:
            with _running(command, folder, lambda: is_mounted(place), log="mount.log") as mounter:
                system.pids += (mounter.pid,)
                system.place = place / "work"
                system.place.mkdir()
                yield system
        finally:
            unmount(place)


@contextmanager
def rclone(folder: Path) -> Iterator[System]:
    port = free_port()
    served = folder / "served"
    served.mkdir()
    command: list[str | Path] = [_BIN / "rclone", "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", ",".join(_KEYS), served]
    with _running(command, folder, lambda: listens(port)) as server:
        system = System(RCLONE, (server.pid,), Endpoint(port, *_KEYS))
        make_bucket(system)
        yield system


@contextmanager
def juice(folder: Path) -> Iterator[System]:
    meta, place = f"sqlite3://{folder / 'meta.db'}", folder / "mount"
    place.mkdir()
    make: list[str | Path] = [
        _BIN / "juicefs",
        "format",
        "--storage",
        "file",
        "--bucket",
        f"{folder / 'data'}/",
        meta,
        BUCKET,
    ]
    subprocess.run(make, check=True, capture_output=True)
    command: list[str | Path] = [
        _BIN / "juicefs",
        "mount",
        "--no-usage-report",
        "--no-syslog",
        "--metrics",
        f"127.0.0.1:{free_port()}",
    ]
    command += ["--cache-dir", folder / "cache", meta, place]
    try:
        with _running(command, folder, lambda: is_mounted(place) and (place / ".config").exists()) as server:
            work = place / "work"
            work.mkdir()
            yield System(JUICE, (server.pid,), place=work)
    finally:
        unmount(place)


def make_bucket(system: System) -> None:
    assert system.endpoint is not None
    drive(system.endpoint.port, [system.endpoint.head("PUT", f"/{BUCKET}")], 1, lambda *_: True)


def _answers(endpoint: Endpoint) -> bool:
    """Whether it takes signed requests by now."""
    try:
        drive(endpoint.port, [endpoint.head("GET", "/")], 1, lambda *_: True)
    except Exception:  # refused, reset, a 500 while parts of it are starting
        return False
    return True


@contextmanager
def _running(
    command: Sequence[str | Path],
    folder: Path,
    ready: Callable[[], bool],
    environment: dict[str, str] | None = None,
    log: str = "server.log",
) -> Iterator[Server]:
    server = Server(command, folder / log, environment)
    try:
        server.wait_until(ready)
        yield server
    finally:
        server.end()

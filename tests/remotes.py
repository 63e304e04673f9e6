"""Somebody's S3, for tests: a real service on loopback, and one in memory."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratumfs.errors import DeviceFailed, ShardMissing
from stratumfs.ids import Buffer
from stratumfs.shards.remote import Listed, Patience, S3Remote
from stratumfs.shards.s3 import Keys
from tests.doors import BIN, TEST_S, Doors, opened_doors, run
from tools.measure.endpoint import Endpoint
from tools.measure.systems import BUCKET, seaweed

LISTED_AT_ONCE = 10
HASTE = Patience(pause_s=0.001, pause_s_max=0.001)
"""All the patience that there is, but next to no pauses."""


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """SeaweedFS with the bucket BUCKET."""
    with seaweed(tmp_path_factory.mktemp("seaweed"), mount=False) as system:
        assert system.endpoint is not None
        yield system.endpoint


@pytest.fixture(scope="session")
def service_keys(service: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the keys to it."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    write_keys(path, service)
    return path


def write_keys(path: Path, service: Endpoint) -> None:
    path.touch(0o600)
    path.write_text(
        f"[default]\naws_access_key_id = {service.access_key}\naws_secret_access_key = {service.secret_key}\n"
    )


def remote_at(
    service: Endpoint,
    prefix: str,
    *,
    url: str = "",
    read_back: bool = True,
    patience: Patience = HASTE,
    page: int = LISTED_AT_ONCE,
) -> S3Remote:
    """Below *prefix* of a service, by way of *url* if there is one."""
    keys = Keys(service.access_key, service.secret_key)
    where = url or f"http://{service.host}"
    return S3Remote(f"s3://{BUCKET}/{prefix}", where, lambda: keys, read_back=read_back, patience=patience, page=page)


@contextmanager
def opened_cold(
    folder: Path, url: str, keys: Path, settings: str = "", *, warm: int = 0, seconds: float = TEST_S
) -> Iterator[Doors]:
    """A store that mkfs.stratumfs makes, with a cold tier; *settings* are lines of its table [cold].

    warm     devices of a warm tier, 2+1, between
    seconds  see `opened_doors`
    """
    devices = [folder / f"d{slot}" for slot in range(6)]
    between = [folder / f"w{slot}" for slot in range(warm)]
    for path in (*devices, *between, folder / "mount"):
        path.mkdir()
    warmer = ["--warm", *between, "--warm-k", "2", "--warm-m", "1"] if between else []
    words = ["--cold", f"s3://{BUCKET}/{folder.name}", "--cold-endpoint", url]
    words += ["--cold-credentials", str(keys), "--cold-key-file", str(folder / "cold.key")]
    run([BIN / "mkfs.stratumfs", "--hot", *devices, *warmer, *words, folder / "store"])
    file = folder / "store" / "stratumfs.toml"
    file.write_text(file.read_text().replace("[cold]\n", f"[cold]\n{settings}"))
    with opened_doors(folder, seconds=seconds) as found:
        yield found


@pytest.fixture
def cold(tmp_path: Path, service: Endpoint, service_keys: Path) -> Iterator[Doors]:
    with opened_cold(tmp_path, f"http://{service.host}", service_keys) as found:
        yield found
        assert found.complaints() == []


class MemoryRemote:
    """A `Remote` in memory. *objects*, how old listings say that they are, and how far its clock is ahead may be
    changed by tests."""

    def __init__(self, label: str = "memory") -> None:
        self.label = label
        self.objects: dict[str, bytes] = {}
        self.ages_s: dict[str, float] = {}
        self.ahead_s = 0.0
        self._lock = threading.Lock()

    def put(self, name: str, source: Buffer) -> None:
        with self._lock:
            self.objects[name] = bytes(source)

    def get(self, name: str, offset: int, length: int) -> bytes:
        data = self._find(name)[offset : offset + length]
        if len(data) != length:
            raise DeviceFailed(f"{self.label}: {name} is shorter", self.label)
        return data

    def size(self, name: str) -> int:
        return len(self._find(name))

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)

    def names(self, prefix: str) -> Iterator[str]:
        with self._lock:
            found = [name for name in self.objects if name.startswith(prefix)]
        yield from found

    def listed(self, prefix: str) -> Iterator[Listed]:
        for name in self.names(prefix):
            age_s = self.ages_s.get(name, 0.0)
            yield Listed(name, len(self.objects[name]), age_s, time.time() + self.ahead_s - age_s)

    def close(self) -> None:
        pass

    def _find(self, name: str) -> bytes:
        with self._lock:
            if name not in self.objects:
                raise ShardMissing(f"{self.label} has no {name}")
            return self.objects[name]

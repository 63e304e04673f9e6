"""Backups of the catalog in a real S3 service, by the owner and by hand, and back from there."""

import io
import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from stratumfs.errors import DeviceFailed
from stratumfs.owner.backup_target import FolderTarget, Target, open_target
from tests.doors import BIN, Doors, run
from tests.model.s3 import Reader
from tools.measure.endpoint import Endpoint
from tools.measure.systems import BUCKET

pytestmark = [pytest.mark.slow, pytest.mark.client]


@pytest.fixture(params=["folder", "s3"])
def target(request: pytest.FixtureRequest, service: Endpoint, service_keys: Path, tmp_path: Path) -> Target:
    if request.param == "folder":
        return FolderTarget(tmp_path)
    return open_target(f"s3://{BUCKET}/{tmp_path.name}", f"http://{service.host}", str(service_keys))


class _Trickle(io.RawIOBase):
    """Gives few bytes at once, as a pipe does, and cannot go back."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._left = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        count = min(len(buffer), len(self._left), 100_000)
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _stream(data: bytes) -> IO[bytes]:
    return io.BufferedReader(_Trickle(data))


def _read(target: Target, name: str) -> bytes:
    parts: list[bytes] = []
    target.get(name, parts.append)
    return b"".join(parts)


def test_a_target_gives_back_what_it_was_given(target: Target) -> None:
    large = bytes(range(256)) * 80_000  # in several parts
    target.put("store/series/large", _stream(large))
    target.put("store/series/small", _stream(b"first"))
    target.put("store/series/small", _stream(b"second"))
    target.put("store/other/empty", _stream(b""))
    assert _read(target, "store/series/large") == large
    assert _read(target, "store/series/small") == b"second"
    assert _read(target, "store/other/empty") == b""
    assert target.names("") == ["store/other/empty", "store/series/large", "store/series/small"]
    assert target.names("store/series/") == ["store/series/large", "store/series/small"]
    target.delete("store/series/small")
    target.delete("store/series/small")
    assert target.names("store/series/") == ["store/series/large"]
    with pytest.raises(DeviceFailed):
        _read(target, "store/series/small")


@pytest.mark.mount
def test_a_catalog_comes_back_from_a_service(doors: Doors, service: Endpoint, service_keys: Path) -> None:
    to = f"s3://{BUCKET}/catalogs"
    doors.stop()
    with (doors.store / "stratumfs.toml").open("a") as file:
        file.write(f'\n[backup]\nto = "{to}"\nendpoint = "http://{service.host}"\n')
        file.write(f'credentials = "{service_keys}"\nevery_s = 1\n')
    doors.start()
    bucket = doors.mount / "bucket"
    bucket.mkdir()
    wanted = {}
    for number in range(2):
        wanted[f"file-{number}"] = bytes([number]) * (number * 40_000 + 10)
        (bucket / f"file-{number}").write_bytes(wanted[f"file-{number}"])
        run([BIN / "stratumfs", "catalog", "backup", doors.store])
    words = ["--endpoint", f"http://{service.host}", "--credentials", str(service_keys)]
    run([BIN / "stratumfs", "catalog", "backup", doors.store, f"{to}/by-hand", *words])
    (at,) = json.loads(run([BIN / "stratumfs", "catalog", "list", "--json", f"{to}/by-hand", *words]))[
        "stores"
    ].values()
    assert len(at) == 1
    doors.stop()
    run([BIN / "stratumfs", "catalog", "backup", doors.store])  # a command without an owner goes on, too
    listed = run([BIN / "stratumfs", "catalog", "list", to, *words])
    assert len([line for line in listed.splitlines() if line.startswith("  ")]) >= 1
    for source in (to, f"{to}/by-hand"):
        shutil.rmtree(doors.store)
        for copy in doors.folder.glob("d*/catalog"):
            shutil.rmtree(copy)
        command = [BIN / "stratumfs", "catalog", "restore", source, doors.devices[2], *words]
        done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        doors.start()
        with closing(Reader(doors)) as reader:
            for name, data in wanted.items():
                assert (bucket / name).read_bytes() == data
                assert reader.get("bucket", name.encode()).data == data
        doors.stop()
        assert doors.audit() == []

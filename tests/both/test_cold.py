"""A cold tier in a real S3 service: made by mkfs.stratumfs, moved to and from, read through both doors, deleted."""

import json
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest

from stratumfs.shards.remote import Remote
from tests.doors import BIN, Doors, run
from tests.remotes import remote_at
from tools.measure.endpoint import Endpoint
from tools.measure.systems import BUCKET

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]

DATA = {"large": os.urandom(5_000_000), "small": os.urandom(20_000), "empty": b""}


def test_files_go_there_and_come_back_and_go(cold: Doors, service: Endpoint) -> None:
    there = remote_at(service, cold.folder.name)
    key = cold.folder / "cold.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert all((folder / "cold-key.json").exists() for folder in (cold.store, *cold.devices))
    bucket = cold.mount / "bucket"
    bucket.mkdir()
    for name, data in DATA.items():
        (bucket / name).write_bytes(data)
    before = {name: os.stat(bucket / name) for name in DATA}
    move(bucket, "cold")
    assert volumes(there)
    assert all(name not in repr([*there.names("")]) for name in ("large", "small", "bucket"))
    assert not any(DATA["large"][at : at + 64] in whole(there, name) for name in volumes(there) for at in (0, 70_000))
    cold.restart()
    check(cold)
    assert {name: os.stat(bucket / name).st_mtime_ns for name in DATA} == {
        name: found.st_mtime_ns for name, found in before.items()
    }
    [tier] = cold.status()["remote_tiers"]
    assert (tier["name"], tier["used"], tier["read_only"]) == ("cold", 5_020_000, None)
    explained = json.loads(run([BIN / "stratum-tier", "explain", "--json", bucket / "large"]))
    assert explained["tiers"] == {"cold": 5_000_000}
    move(bucket / "large", "hot")
    cold.restart()
    check(cold)
    cold.stop()
    assert cold.audit() == []


def test_what_is_there_survives_the_loss_of_the_catalog(cold: Doors) -> None:
    """Moved there after the only image, so that only the object says so."""
    bucket = cold.mount / "bucket"
    bucket.mkdir()
    for name, data in DATA.items():
        (bucket / name).write_bytes(data)
    run([BIN / "stratumfs", "catalog", "image", cold.store])
    move(bucket, "cold")
    cold.stop()
    shutil.rmtree(cold.store)
    for device in cold.devices:
        shutil.rmtree(device / "catalog", ignore_errors=True)
    done = json.loads(run([BIN / "stratumfs", "catalog", "rebuild", "--json", cold.devices[0]]))
    assert (done["cold_not_looked"], done["lost_inline"], done["lost_shards"]) == (None, [], [])
    cold.start()
    assert os.getxattr(bucket / "large", "user.stratum.tier") == b"cold"
    check(cold)
    cold.stop()
    assert cold.audit() == []


def test_a_living_store_is_given_a_cold_tier(doors: Doors, service: Endpoint, service_keys: Path) -> None:
    bucket = doors.mount / "bucket"
    bucket.mkdir()
    for name, data in DATA.items():
        (bucket / name).write_bytes(data)
    words = ["--cold", f"s3://{BUCKET}/{doors.folder.name}", "--cold-endpoint", f"http://{service.host}"]
    run([BIN / "stratumfs", "tier", "add", doors.store, *words, "--cold-credentials", service_keys])
    assert stat.S_IMODE((doors.store / "cold.key").stat().st_mode) == 0o600
    move(bucket, "cold")
    doors.restart()
    check(doors)


def move(path: Path, tier: str) -> None:
    run([BIN / "stratum-tier", "move", path, "--to", tier])


def check(doors: Doors) -> None:
    with closing(doors.client()) as client:
        for name, data in DATA.items():
            assert (doors.mount / "bucket" / name).read_bytes() == data
            assert client.get_object(Bucket="bucket", Key=name)["Body"].read() == data
        ranged = client.get_object(Bucket="bucket", Key="large", Range="bytes=3000000-3000099")
        assert ranged["Body"].read() == DATA["large"][3_000_000:3_000_100]


def volumes(remote: Remote) -> list[str]:
    return [name for name in remote.names("") if "/volumes/" in name]


def whole(remote: Remote, name: str) -> bytes:
    return remote.get(name, 0, remote.size(name))

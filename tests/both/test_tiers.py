"""The tier engine in a running owner: what is read through a door goes up, what is idle goes down, by themselves."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doors import BIN, Doors, opened_doors, run
from tools.measure.endpoint import Endpoint
from tools.measure.systems import BUCKET

SIZE = 300_000
CAPACITY = 1_000_000
"""Of the hot tier: three objects."""

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


@pytest.fixture
def pressed(tmp_path: Path) -> Iterator[Doors]:
    """A store of two tiers whose engine looks ten times a second, does not warm up, and has little room in hot."""
    doors = Doors(tmp_path, warm=[tmp_path / f"w{slot}" for slot in range(3)])
    try:
        with doors.within(600):
            doors.make()
            settings = doors.store / "stratumfs.toml"
            text = settings.read_text().replace("[hot]\n", f"[hot]\ncapacity = {CAPACITY}\n")
            settings.write_text(text + "\n[tiering]\nwarmup_days = 0\ntick_s = 0.1\n")
            doors.start()
            yield doors
            if doors.pid is not None:
                doors.stop()
            assert doors.audit() == []
    finally:
        doors.destroy()
    assert doors.complaints() == []


@pytest.fixture
def offsite(tmp_path: Path, service: Endpoint, service_keys: Path) -> Iterator[Doors]:
    """A store with a hot tier and one in somebody's S3, whose engine looks ten times a second and does not warm up."""
    devices = [tmp_path / f"d{slot}" for slot in range(6)]
    for path in (*devices, tmp_path / "mount"):
        path.mkdir()
    words = ["--cold-key-file", str(tmp_path / "cold.key"), "--cold-credentials", str(service_keys)]
    words += ["--cold", f"s3://{BUCKET}/{tmp_path.name}", "--cold-endpoint", f"http://{service.host}"]
    run([BIN / "mkfs.stratumfs", "--hot", *devices, *words, tmp_path / "store"])
    with (tmp_path / "store" / "stratumfs.toml").open("a") as file:
        file.write("\n[tiering]\nwarmup_days = 0\ntick_s = 0.1\n")
    with opened_doors(tmp_path) as found:
        yield found
        assert found.complaints() == []


def ask(doors: Doors, *words: str) -> Any:
    return json.loads(run([BIN / "stratum-tier", *words, "--store", doors.store, "--json"]))


def wait_in(path: Path, tier: str) -> None:
    """The fixture's deadline ends it."""
    while os.getxattr(path, "user.stratum.tier").decode() != tier:
        pass


def test_objects_move_by_themselves_and_the_log_says_why(pressed: Doors) -> None:
    client, bucket = pressed.client(), pressed.mount / "bucket"
    client.create_bucket(Bucket="bucket")
    data = {f"f{number}": bytes([number]) * SIZE for number in range(4)}
    for name in ("f0", "f1", "f2"):
        (bucket / name).write_bytes(data[name])
        assert os.getxattr(bucket / name, "user.stratum.tier") == b"hot"
    for _ in range(6):
        for name in ("f0", "f1"):
            assert client.get_object(Bucket="bucket", Key=name)["Body"].read() == data[name]
    client.put_object(Bucket="bucket", Key="f3", Body=data["f3"])
    while os.getxattr(bucket / "f2", "user.stratum.tier") != b"warm":
        assert client.get_object(Bucket="bucket", Key="f3")["Body"].read() == data["f3"]
    # Bytes are elsewhere as soon as the swap is; how the move ended is known a little later.
    while (moves := ask(pressed, "log", str(bucket / "f2"))["moves"])[0]["outcome"] is None:
        pass
    [left] = moves
    assert (left["path"], left["from"], left["to"], left["bytes"]) == ("bucket/f2", "hot", "warm", SIZE)
    assert (left["outcome"], left["cause"]) == ("done", "policy")
    assert left["verdict"]["inputs"]["use"]["size"] == SIZE
    while os.getxattr(bucket / "f2", "user.stratum.tier") != b"hot":
        assert client.get_object(Bucket="bucket", Key="f2")["Body"].read() == data["f2"]
    found = ask(pressed, "status")
    assert found["warmup_left_s"] == 0
    hot, warm = found["tiers"]
    assert hot["used"] <= CAPACITY
    assert hot["objects"] + warm["objects"] == 4
    assert {name: (bucket / name).read_bytes() for name in data} == data
    assert "hot > warm" in run([BIN / "stratum-tier", "log", "--store", pressed.store])


def test_pins_and_heat_outlast_the_owner(pressed: Doors) -> None:
    client, bucket = pressed.client(), pressed.mount / "bucket"
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="kept/file", Body=bytes(SIZE))
    said = ask(pressed, "pin", str(bucket / "kept"), "--to", "warm")
    assert (said["path"], said["pin"], said["before"]) == ("bucket/kept/", "warm", None)
    wait_in(bucket / "kept" / "file", "warm")
    pressed.restart()
    assert (pressed.store / "heat").stat().st_size
    pressed.kill()
    pressed.destroy()
    pressed.start()
    pressed.client().put_object(Bucket="bucket", Key="kept/other", Body=bytes(SIZE))
    wait_in(bucket / "kept" / "other", "warm")
    assert os.getxattr(bucket / "kept" / "file", "user.stratum.tier") == b"warm"
    os.setxattr(bucket / "kept" / "file", "user.stratum.pin", b"hot")
    wait_in(bucket / "kept" / "file", "hot")
    with pytest.raises(OSError, match="Invalid argument"):
        os.setxattr(bucket / "kept" / "file", "user.stratum.pin", b"lukewarm")
    assert ask(pressed, "unpin", "s3://bucket/kept/")["before"] == "warm"
    # What is new lands there at once, and is not moved.
    assert [move["cause"] for move in ask(pressed, "log")["moves"]][-2:] == ["pin", "pin"]


def test_the_cold_tier_is_one_of_them_and_the_report_says_what_left_the_site(offsite: Doors) -> None:
    client, bucket = offsite.client(), offsite.mount / "bucket"
    client.create_bucket(Bucket="bucket")
    data = os.urandom(SIZE)
    (bucket / "file").write_bytes(data)
    assert ask(offsite, "report")["left_site"][0]["objects_count"] == 0
    ask(offsite, "pin", str(bucket), "--to", "cold")
    wait_in(bucket / "file", "cold")
    [left] = ask(offsite, "report")["left_site"]
    assert left["to"].endswith(f"{BUCKET}/{offsite.folder.name}")
    assert (left["tier"], left["objects_count"], left["objects"][0]["live"]) == ("cold", 1, SIZE)
    assert left["bytes"] > SIZE
    assert len(left["key"]) == 16
    assert "left the site" in run([BIN / "stratum-tier", "report", "--store", offsite.store])
    assert (bucket / "file").read_bytes() == data
    ask(offsite, "unpin", "s3://bucket")
    while os.getxattr(bucket / "file", "user.stratum.tier") != b"hot":
        assert client.get_object(Bucket="bucket", Key="file")["Body"].read() == data


def test_a_living_store_is_given_a_warm_tier_that_new_data_lands_in_by_its_hint(doors: Doors) -> None:
    client, bucket = doors.client(), doors.mount / "bucket"
    client.create_bucket(Bucket="bucket")
    data = os.urandom(3_000_000)
    client.put_object(Bucket="bucket", Key="before", Body=data)
    warm = [doors.folder / f"new{slot}" for slot in range(3)]
    for each in warm:
        each.mkdir()
    words = ["--warm", *warm, "--warm-k", "2", "--warm-m", "1", "--json"]
    added = json.loads(run([BIN / "stratumfs", "tier", "add", doors.store, *words]))
    assert (added["devices"], added["k"], added["m"]) == ([str(each) for each in warm], 2, 1)
    run([BIN / "stratum-tier", "move", bucket / "before", "--to", "warm"])
    client.put_object(Bucket="bucket", Key="hinted", Body=data, Metadata={"stratum-hint": "cold"})
    client.put_object(Bucket="bucket", Key="plain", Body=data)
    assert [tier_of(bucket / name) for name in ("before", "hinted", "plain")] == ["warm", "warm", "hot"]
    doors.restart()
    run([BIN / "stratum-tier", "pin", bucket, "--to", "warm"])
    wait_in(bucket / "plain", "warm")
    (bucket / "written").write_bytes(data)
    assert tier_of(bucket / "written") == "warm"
    for name in ("before", "hinted", "plain", "written"):
        assert (bucket / name).read_bytes() == data
        assert doors.client().get_object(Bucket="bucket", Key=name)["Body"].read() == data


def tier_of(path: Path) -> str:
    return os.getxattr(path, "user.stratum.tier").decode()

"""Why an object is where it is, asked at every door, and what was accessed there, replayed."""

import ctypes
import json
import os
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.doors import BIN, REGION, Doors, run
from tiering.recording import RECORDING_FOLDER, Kind, recorded

pytestmark = [pytest.mark.mount, pytest.mark.client]
SIZE = 1_000_000
TIER = BIN / "stratum-tier"


def signed(doors: Doors, target: str) -> Any:
    """The JSON that a GET of our own is answered with."""
    request = AWSRequest("GET", f"{doors.url}{target}")
    S3SigV4Auth(Credentials(*doors.credentials), "s3", REGION).add_auth(request)
    asked = urllib.request.Request(request.url, headers=dict(request.headers))
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.headers["content-type"] == "application/json"
        return json.load(answer)


def told_nobody(path: Path) -> bytes:
    """What a user is told who is neither root nor the owner's, whom this thread becomes for that."""
    libc, descriptor = ctypes.CDLL(None), os.open(path, os.O_RDONLY)
    libc.setfsuid(65534)
    try:
        return os.getxattr(descriptor, "user.stratum.explain")
    finally:
        libc.setfsuid(0)
        os.close(descriptor)


def lasting(found: Any) -> Any:
    """What no work in the background changes from one question to the next."""
    return {name: found[name] for name in ("bucket", "key", "inode", "size", "tier", "tiers", "moved", "placed")}


def test_every_door_explains_alike_and_what_they_served_is_replayed(tiered: Doors) -> None:
    client = tiered.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="a/big", Body=os.urandom(SIZE))
    client.put_object(Bucket="bucket", Key="a/more", Body=os.urandom(SIZE))
    path = tiered.mount / "bucket" / "a" / "big"
    run([TIER, "move", path, "--to", "warm", "--reason", "a test"])
    by_path = json.loads(run([TIER, "explain", "--json", path]))
    assert (by_path["tier"], by_path["placed"]["by"], by_path["placed"]["reason"]) == ("warm", "operator", "a test")
    others = (
        json.loads(run([TIER, "explain", "--json", "--store", tiered.store, "s3://bucket/a/big"])),
        json.loads(os.getxattr(path, "user.stratum.explain")),
        signed(tiered, "/bucket/a/big?stratum-explain"),
    )
    assert [lasting(each) for each in others] == [lasting(by_path)] * 3
    assert os.listxattr(path) == []
    if os.geteuid() == 0:  # else nobody but the owner's user sees the mount
        told = told_nobody(path)
        assert json.loads(told)["tier"] == "warm"
        assert b"a test" not in told
        with pytest.raises(PermissionError):
            told_nobody(path.parent)
    sums = signed(tiered, "/bucket?stratum-explain")["sums"]
    assert {tier: each["bytes"] for tier, each in sums["tiers"].items()} == {"hot": SIZE, "warm": SIZE}
    assert signed(tiered, "/bucket/a/?stratum-explain")["sums"]["objects"] == 2
    assert json.loads(os.getxattr(path.parent, "user.stratum.explain"))["sums"]["objects"] == 2
    with pytest.raises(urllib.error.HTTPError, match="404"):
        signed(tiered, "/bucket/none?stratum-explain")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{tiered.url}/bucket/a/big?stratum-explain", timeout=60)
    assert "costs" in run([TIER, "warm", "--yes", path])
    assert json.loads(run([TIER, "explain", "--json", path]))["tier"] == "hot"

    assert len(client.get_object(Bucket="bucket", Key="a/big")["Body"].read()) == SIZE
    assert len(path.with_name("more").read_bytes()) == SIZE
    tiered.stop()  # what was noted last is written
    accesses = list(recorded(tiered.store / RECORDING_FOLDER, 0))
    read = Counter[int]()
    for each in accesses:
        if each.kind == Kind.READ:  # of the mount it may be several: the kernel reads ahead, in no order
            read[each.ino] += each.length
    assert list(read.values()) == [SIZE, SIZE]
    policy = tiered.folder / "policy.toml"
    policy.write_text("[warm]\nusd_gb_month = 0.001\n")
    found = json.loads(run([TIER, "replay", "--policy", policy, "--since", "1d", "--json", "--store", tiered.store]))
    assert found["accesses"] == len(accesses)
    assert sum(found["now"]["read_bytes"].values()) == 2 * SIZE

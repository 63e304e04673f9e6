"""Storage classes say where the bytes are, and RestoreObject keeps them at hand, in a store with two tiers."""

import json
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doors import BIN, Doors, run

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]

DATA = os.urandom(3_000_000)
RESTORE = {"Days": 3, "GlacierJobParameters": {"Tier": "Bulk"}}


def classes(s3: Any) -> list[dict[str, str]]:
    """Of each object, as each kind of answer has it."""
    listed = s3.list_objects_v2(Bucket="bucket")["Contents"]
    versions = s3.list_object_versions(Bucket="bucket")["Versions"]
    found = [{each["Key"]: each["StorageClass"] for each in page} for page in (listed, versions)]
    for verb in (s3.head_object, s3.get_object):
        found.append({key: verb(Bucket="bucket", Key=key).get("StorageClass", "STANDARD") for key in found[0]})
    return found


def move(path: Path, tier: str) -> None:
    run([BIN / "stratum-tier", "move", path, "--to", tier])


def test_a_class_is_where_the_bytes_are(tiered: Doors) -> None:
    with closing(tiered.client()) as s3:
        s3.create_bucket(Bucket="bucket")
        asked = {"plain": "STANDARD", "ia": "STANDARD_IA", "zone": "ONEZONE_IA", "own": "INTELLIGENT_TIERING"}
        for key, name in asked.items():
            s3.put_object(Bucket="bucket", Key=key, Body=DATA, StorageClass=name)
        (tiered.mount / "bucket" / "written").write_bytes(DATA)
        s3.put_object(Bucket="bucket", Key="small", Body=b"lies in the catalog", StorageClass="STANDARD_IA")
        hot = dict.fromkeys((*asked, "written"), "STANDARD") | {"own": "INTELLIGENT_TIERING", "small": "STANDARD_IA"}
        assert (
            classes(s3) == [hot | {"ia": "STANDARD_IA", "zone": "ONEZONE_IA"}] * 4
        )  # written where they are asked for
        move(tiered.mount / "bucket", "warm")
        warm = dict.fromkeys(hot, "STANDARD_IA") | {"zone": "ONEZONE_IA", "own": "INTELLIGENT_TIERING"}
        assert classes(s3) == [warm] * 4
        with (tiered.mount / "bucket" / "plain").open("r+b") as file:  # the rest of it stays
            file.write(DATA[: 1 << 20][::-1])
        assert classes(s3) == [warm] * 4
        move(tiered.mount / "bucket", "hot")
        assert classes(s3) == [hot] * 4


def test_what_is_at_hand_is_kept_there_by_a_restore(tiered: Doors) -> None:
    with closing(tiered.client()) as s3:
        s3.create_bucket(Bucket="bucket")
        where = {"Bucket": "bucket", "Key": "a"}
        s3.put_object(**where, Body=DATA)
        assert "Restore" not in s3.head_object(**where)
        done = s3.restore_object(**where, RestoreRequest=RESTORE)
        assert done["ResponseMetadata"]["HTTPStatusCode"] == 200
        for verb in (s3.head_object, s3.get_object):
            said = verb(**where)["Restore"]
            assert said.startswith('ongoing-request="false", expiry-date="')
            assert said.endswith(' 00:00:00 GMT"')
        path = tiered.mount / "bucket" / "a"
        assert os.listxattr(path) == []
        assert os.getxattr(path, "user.stratum.restored").isdigit()
        with pytest.raises(PermissionError):
            os.setxattr(path, "user.stratum.restored", b"1")
        s3.put_object(**where, Body=b"another object")
        assert "Restore" not in s3.head_object(**where)
        for request, code in ((where | {"Key": "absent"}, "NoSuchKey"), (where | {"VersionId": "x"}, "NoSuchVersion")):
            with pytest.raises(ClientError) as caught:
                s3.restore_object(**request, RestoreRequest=RESTORE)
            assert caught.value.response["Error"]["Code"] == code
        with pytest.raises(ClientError) as caught:
            s3.restore_object(**where, RestoreRequest={"Days": 0})
        assert caught.value.response["Error"]["Code"] == "MalformedXML"


def test_what_is_cold_comes_back_by_a_restore(cold: Doors) -> None:
    with closing(cold.client()) as s3:
        s3.create_bucket(Bucket="bucket")
        where = {"Bucket": "bucket", "Key": "a"}
        s3.put_object(**where, Body=DATA)
        move(cold.mount / "bucket", "cold")
        assert classes(s3) == [{"a": "GLACIER_IR"}] * 4
        assert s3.restore_object(**where, RestoreRequest=RESTORE)["ResponseMetadata"]["HTTPStatusCode"] == 202
        while (said := s3.head_object(**where)["Restore"]) == 'ongoing-request="true"':
            with suppress(s3.exceptions.ClientError):  # "RestoreAlreadyInProgress", if it has not come meanwhile
                done = s3.restore_object(**where, RestoreRequest=RESTORE)
                assert done["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert said.startswith('ongoing-request="false"')
        assert classes(s3) == [{"a": "STANDARD"}] * 4
        assert s3.restore_object(**where, RestoreRequest=RESTORE)["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert s3.get_object(**where)["Body"].read() == DATA
        explained = json.loads(run([BIN / "stratum-tier", "explain", "--json", cold.mount / "bucket" / "a"]))
        assert "RestoreObject until" in json.dumps(explained)

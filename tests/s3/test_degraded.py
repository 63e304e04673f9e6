"""With two devices gone, reads and writes go on; with four gone, writes say which devices to replace."""

import os
import shutil
from pathlib import Path

import pytest
import trio

from tests.s3.door import gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client


def test_two_devices_are_gone_and_then_four(tmp_path: Path) -> None:
    small, large = os.urandom(1000), os.urandom(3_000_000)
    with gateway(tmp_path) as running:
        s3 = running.client()
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="small", Body=small)
        s3.put_object(Bucket="bucket", Key="large", Body=large)
    for slot in (0, 3):
        shutil.rmtree(tmp_path / f"store/d{slot}")
    with gateway(tmp_path) as running:
        s3 = running.client()
        assert s3.get_object(Bucket="bucket", Key="small")["Body"].read() == small
        assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == large
        assert s3.get_object(Bucket="bucket", Key="large", Range="bytes=5-99")["Body"].read() == large[5:100]
        assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 2
        s3.put_object(Bucket="bucket", Key="narrow", Body=large)
        s3.delete_object(Bucket="bucket", Key="large")
    for slot in (1, 2):
        shutil.rmtree(tmp_path / f"store/d{slot}")
    with gateway(tmp_path) as running:
        s3 = running.client()
        assert s3.get_object(Bucket="bucket", Key="small")["Body"].read() == small
        assert s3.get_object(Bucket="bucket", Key="narrow")["Body"].read() == large  # 2+2
        for call, said in (
            (s3.put_object, {"Key": "new", "Body": b"x"}),
            (s3.delete_object, {"Key": "small"}),
            (s3.delete_objects, {"Delete": {"Objects": [{"Key": "small"}]}}),
            (s3.copy_object, {"Key": "new", "CopySource": "bucket/small"}),
            (s3.create_multipart_upload, {"Key": "new"}),
            (s3.delete_bucket, {}),
        ):
            assert refusal(call, Bucket="bucket", **said) == (503, "ServiceUnavailable")
        assert refusal(s3.create_bucket, Bucket="new") == (503, "ServiceUnavailable")
        assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 2


def test_a_body_that_does_not_fit_is_refused_with_507_and_deletes_still_work(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        s3 = running.client()
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="before", Body=b"x")
        for device in running.store.devices.values():
            device.free = lambda: 0
        trio.from_thread.run(running.store.space.refresh, trio_token=running.token)
        body = os.urandom(1_000_000)
        assert refusal(s3.put_object, Bucket="bucket", Key="k", Body=body) == (507, "InsufficientStorage")
        upload = {"Bucket": "bucket", "Key": "k"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        assert refusal(s3.upload_part, **upload, PartNumber=1, Body=body) == (507, "InsufficientStorage")
        s3.abort_multipart_upload(**upload)
        s3.delete_object(Bucket="bucket", Key="before")
        assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 0

"""The whole pipeline, driven by real S3 clients over loopback."""

import io
import random
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import boto3
import pytest
import trio
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.gateway.memory import ACCESS_KEY, SECRET, Running, running

T = TypeVar("T")


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


def client(gateway: Running, secret: str = SECRET, access_key: str = ACCESS_KEY, **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=gateway.url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config),
    )


async def in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function)


@pytest.mark.client
async def test_objects_come_back_as_they_were_sent(gateway: Running) -> None:
    s3 = client(gateway)
    data = bytes(range(256)) * 1000
    key = "a dir/ünïcode+plus %41~*'().txt"

    def talk() -> dict[str, Any]:
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key=key, Body=data, Metadata={"colour": "green"}, ContentType="text/x-test")
        found: dict[str, Any] = s3.get_object(Bucket="bucket", Key=key)
        found["data"] = found["Body"].read()
        found["head"] = s3.head_object(Bucket="bucket", Key=key)
        found["list"] = s3.list_objects_v2(Bucket="bucket")
        return found

    found = await in_thread(talk)
    assert found["data"] == data
    assert found["Metadata"] == {"colour": "green"}
    assert found["ContentType"] == found["head"]["ContentType"] == "text/x-test"
    assert found["head"]["ContentLength"] == len(data)
    assert [item["Key"] for item in found["list"]["Contents"]] == [key]
    assert found["ResponseMetadata"]["RequestId"] != found["head"]["ResponseMetadata"]["RequestId"]
    assert "content-encoding" not in gateway.service.buckets["bucket"][key.encode()].headers


@pytest.mark.client
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
@pytest.mark.parametrize("seekable", [True, False])
async def test_checksums_of_all_kinds_are_verified(gateway: Running, algorithm: str, seekable: bool) -> None:
    """A seekable body has its checksum in a header over TLS-less HTTP, one that streams has it in a trailer."""
    s3 = client(gateway)
    data = b"x" * 3_000_000

    def talk() -> dict[str, Any]:
        s3.create_bucket(Bucket="bucket")
        body: Any = io.BytesIO(data) if seekable else data
        found: dict[str, Any] = s3.put_object(Bucket="bucket", Key="k", Body=body, ChecksumAlgorithm=algorithm)
        return found

    found = await in_thread(talk)
    assert found[f"Checksum{algorithm}"] == gateway.service.buckets["bucket"][b"k"].checksum.value
    assert gateway.service.buckets["bucket"][b"k"].data == data


@pytest.mark.client
async def test_a_large_upload_arrives_in_parts(gateway: Running) -> None:
    s3 = client(gateway)
    data = random.Random(1).randbytes(20 << 20)

    def talk() -> bytes:
        s3.create_bucket(Bucket="bucket")
        s3.upload_fileobj(io.BytesIO(data), "bucket", "large")
        found: bytes = s3.get_object(Bucket="bucket", Key="large")["Body"].read()
        return found

    assert await in_thread(talk) == data


@pytest.mark.client
@pytest.mark.parametrize("said", [{}, {"signature_version": "s3v4"}])
async def test_presigned_urls_work_both_ways(gateway: Running, said: dict[str, str]) -> None:
    """Who says nothing gets URLs of version 2 from boto3, for us-east-1."""
    s3 = client(gateway, **said)

    def talk() -> bytes:
        s3.create_bucket(Bucket="bucket")
        url = s3.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "p q"}, ExpiresIn=60)
        # urllib names a type if nobody does, and version 2 would sign one.
        put = urllib.request.Request(url, b"presigned", {"content-type": ""}, method="PUT")
        urllib.request.urlopen(put, timeout=60).close()
        url = s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "p q"}, ExpiresIn=60)
        with urllib.request.urlopen(url, timeout=60) as answer:
            data: bytes = answer.read()
            return data

    assert await in_thread(talk) == b"presigned"


@pytest.mark.client
@pytest.mark.parametrize(
    ("access_key", "secret", "code", "status"),
    [
        (ACCESS_KEY, "wrong", "SignatureDoesNotMatch", 403),
        ("nobody", SECRET, "InvalidAccessKeyId", 403),
    ],
)
async def test_wrong_credentials_are_refused(
    gateway: Running, access_key: str, secret: str, code: str, status: int
) -> None:
    s3 = client(gateway, secret, access_key)
    with pytest.raises(ClientError) as caught:
        await in_thread(lambda: s3.put_object(Bucket="bucket", Key="k", Body=b"data" * 100_000))
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert not gateway.service.seen


@pytest.mark.client
async def test_anonymous_requests_are_denied(gateway: Running) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=gateway.url, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError) as caught:
        await in_thread(s3.list_buckets)
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


@pytest.mark.client
async def test_errors_carry_what_clients_read(gateway: Running) -> None:
    s3 = client(gateway)
    with pytest.raises(ClientError) as caught:
        await in_thread(lambda: s3.get_object(Bucket="missing", Key="k"))
    error = caught.value.response
    assert error["Error"]["Code"] == "NoSuchBucket"
    assert dict(error["Error"])["BucketName"] == "missing"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert error["ResponseMetadata"]["RequestId"]
    with pytest.raises(ClientError) as caught:
        await in_thread(lambda: s3.head_object(Bucket="missing", Key="k"))
    assert caught.value.response["Error"]["Code"] == "404"
    with pytest.raises(ClientError) as caught:
        await in_thread(lambda: s3.get_bucket_policy(Bucket="missing"))
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "GetBucketPolicy" in caught.value.response["Error"]["Message"]

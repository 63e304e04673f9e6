"""A small S3 service in memory: enough of one to drive the protocol with real clients."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from gateway import checksums, xml, xml_requests
from gateway.app import Door, Readiness, make_app
from gateway.auth.gate import Gate
from gateway.auth.principal import Authenticated
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.limits import REQUEST_XML_MAX
from gateway.request import Request
from gateway.response import Buffer, Responder, Response, xml_response
from gateway.serve import Tls, serve
from stratumfs.ids import ROOT_INODE
from stratumfs.limits import CONNECTIONS_MAX
from stratumfs.values import BucketInfo, Checksum, ListedObject

ACCESS_KEY = "AKIASTRATUMTEST"
SECRET = "a secret/with+everything="
TIME_NS = 1_700_000_000_000_000_000
OWNER = xml.Owner("0" * 64, "owner")


class Credentials:
    def secret(self, access_key: str) -> str | None:
        return SECRET if access_key == ACCESS_KEY else None


@dataclass
class Stored:
    data: bytes
    etag: str
    headers: dict[str, str]
    checksum: Checksum


@dataclass
class Upload:
    algorithm: Algorithm
    parts: dict[int, Stored] = field(default_factory=dict)


class MemoryService:
    """``seen`` are the requests handled, in order.

    With ``hold`` a download waits after its first chunk until ``gate`` is set; ``entered`` says that it waits.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[bytes, Stored]] = {}
        self.uploads: dict[str, Upload] = {}
        self.seen: list[Request] = []
        self.hold = False
        self.chunks: Callable[[bytes], AsyncIterator[Buffer]] = self._held_chunks
        self.entered = trio.Event()
        self.gate = trio.Event()

    async def handle(self, request: Request, caller: Authenticated, send: Responder) -> None:
        assert caller.principal.access_key == ACCESS_KEY
        self.seen.append(request)
        handler = getattr(self, f"_{request.operation.name.lower()}", None)
        if handler is None:
            raise S3Error("NotImplemented", f"{request.operation} is not implemented.")
        await send(await handler(request, caller))

    def _objects(self, request: Request) -> dict[bytes, Stored]:
        if request.bucket not in self.buckets:
            raise S3Error("NoSuchBucket")
        return self.buckets[request.bucket]

    def _object(self, request: Request) -> Stored:
        found = self._objects(request).get(request.key or b"")
        if found is None:
            raise S3Error("NoSuchKey")
        return found

    async def _list_buckets(self, request: Request, caller: Authenticated) -> Response:
        infos = [BucketInfo(name, ROOT_INODE, TIME_NS) for name in sorted(self.buckets)]
        return xml_response(xml.list_buckets(infos, OWNER, "us-east-1"))

    async def _create_bucket(self, request: Request, caller: Authenticated) -> Response:
        xml_requests.parse_create_bucket(await caller.body.read(REQUEST_XML_MAX))
        self.buckets.setdefault(request.bucket or "", {})
        return Response(200, {"location": f"/{request.bucket}"})

    async def _head_bucket(self, request: Request, caller: Authenticated) -> Response:
        self._objects(request)
        return Response(200, {"x-amz-bucket-region": "us-east-1"})

    async def _get_bucket_location(self, request: Request, caller: Authenticated) -> Response:
        return xml_response(xml.location("us-east-1"))

    async def _put_object(self, request: Request, caller: Authenticated) -> Response:
        objects = self._objects(request)
        stored = await _receive(request, caller)
        objects[request.key or b""] = stored
        return Response(200, {"etag": f'"{stored.etag}"', **_checksum_headers(stored.checksum)})

    async def _get_object(self, request: Request, caller: Authenticated) -> Response:
        found = self._object(request)
        return Response(200, found.headers | {"etag": f'"{found.etag}"'}, self.chunks(found.data), len(found.data))

    async def _held_chunks(self, data: bytes) -> AsyncIterator[Buffer]:
        for start in range(0, len(data), 1 << 20):
            yield memoryview(data)[start : start + (1 << 20)]
            if self.hold:
                self.entered.set()
                await self.gate.wait()

    async def _head_object(self, request: Request, caller: Authenticated) -> Response:
        found = self._object(request)
        return Response(200, found.headers | {"etag": f'"{found.etag}"'}, length=len(found.data))

    async def _delete_object(self, request: Request, caller: Authenticated) -> Response:
        self._objects(request).pop(request.key or b"", None)
        return Response(204)

    async def _delete_objects(self, request: Request, caller: Authenticated) -> Response:
        entries, quiet = xml_requests.parse_delete(await caller.body.read(REQUEST_XML_MAX))
        for entry in entries:
            self._objects(request).pop(entry.key, None)
        return xml_response(xml.delete_result([] if quiet else [entry.key for entry in entries], []))

    async def _list_objects_v2(self, request: Request, caller: Authenticated) -> Response:
        prefix = request.query.get("prefix", "").encode()
        found = [
            ListedObject(key, len(stored.data), stored.etag, TIME_NS, "STANDARD", stored.checksum)
            for key, stored in sorted(self._objects(request).items())
            if key.startswith(prefix)
        ]
        url = request.query.get("encoding-type") == "url"
        page = xml.Page(request.bucket or "", prefix, b"", 1000, False, url)
        return xml_response(xml.list_objects_v2(page, found, [], None, None, None, None))

    async def _create_multipart_upload(self, request: Request, caller: Authenticated) -> Response:
        name = request.headers.get("x-amz-checksum-algorithm", "CRC64NVME")
        upload_id = f"upload{len(self.uploads)}"
        self.uploads[upload_id] = Upload(checksums.algorithm_named(name))
        return xml_response(xml.create_upload(request.bucket or "", request.key or b"", upload_id))

    async def _upload_part(self, request: Request, caller: Authenticated) -> Response:
        upload = self.uploads[request.query["uploadId"]]
        caller.body.expect(upload.algorithm)
        part = await _receive(request, caller)
        upload.parts[int(request.query["partNumber"])] = part
        return Response(200, {"etag": f'"{part.etag}"', **_checksum_headers(part.checksum)})

    async def _complete_multipart_upload(self, request: Request, caller: Authenticated) -> Response:
        upload = self.uploads.pop(request.query["uploadId"])
        listed = xml_requests.parse_complete(await caller.body.read(REQUEST_XML_MAX))
        parts = [upload.parts[part.number] for part in listed]
        checksum = checksums.composite(upload.algorithm, [part.checksum.value for part in parts])
        data = b"".join(part.data for part in parts)
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts)).hexdigest() + f"-{len(parts)}"
        self._objects(request)[request.key or b""] = Stored(data, etag, {}, checksum)
        key = request.key or b""
        return xml_response(xml.complete_upload("http://x/", request.bucket or "", key, etag, checksum))


async def _receive(request: Request, caller: Authenticated) -> Stored:
    data = b"".join([bytes(chunk) async for chunk in caller.body])
    digest = hashlib.md5(data)
    caller.body.check_md5(digest.digest())
    kept = {
        name: value
        for name, value in request.headers.items()
        if name.startswith("x-amz-meta-") or name in ("content-type", "content-encoding")
    }
    return Stored(data, digest.hexdigest(), kept, caller.body.checksum)


def _checksum_headers(checksum: Checksum) -> dict[str, str]:
    return {Algorithm(checksum.algorithm).header: checksum.value, "x-amz-checksum-type": "FULL_OBJECT"}


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway on loopback."""

    url: str
    port: int
    door: Door
    service: MemoryService
    stop: trio.Event


@asynccontextmanager
async def running(
    tls: Tls | None = None,
    domains: tuple[str, ...] = (),
    readiness: Callable[[], Readiness] = lambda: Readiness(True),
    connections_max: int = CONNECTIONS_MAX,
) -> AsyncIterator[Running]:
    service = MemoryService()
    door = make_app(service, Gate(Credentials()), readiness=readiness, domains=domains)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def started(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(door, ["127.0.0.1:0"], tls, stop.wait, connections_max=connections_max, task_status=task_status)

        [url] = await nursery.start(started)
        yield Running(url, int(url.rpartition(":")[2]), door, service, stop)
        stop.set()

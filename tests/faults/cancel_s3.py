"""Requests of S3 that break off at each of their checkpoints, each on a connection of its own to the gateway's code."""

import re
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import md5

import trio

from gateway.http.connection import Connection
from gateway.http.exchange import Place
from gateway.http.waiting import Waiting
from gateway.operations import Operation as Name
from stratumfs.store import multipart
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.cancel import Begun, Bench, Operation
from tests.faults.run import KEYS, smaller
from tests.faults.tree import DIRECTORY
from tests.gateway.requests import signed

_PLACE = Place(("127.0.0.1", 1), ("127.0.0.1", 2), "http", {})
_SENT_AHEAD = 4096
"""Bytes that the system holds between the two ends: both wait for each other, and a request breaks off in its body."""


@dataclass(slots=True)
class _Client:
    """Sends one request, and reads what it is answered. gone: it has hung up before."""

    stream: trio.SocketStream
    answer: bytearray = field(default_factory=bytearray)
    gone: bool = False
    ended: trio.Event = field(default_factory=trio.Event)

    async def ask(self, request: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self.stream:
                await self.stream.send_all(request)
                while more := await self.stream.receive_some():
                    self.answer += more
        self.ended.set()

    def hang_up(self) -> None:
        self.gone = True
        with suppress(OSError):  # it has ended
            self.stream.socket.shutdown(socket.SHUT_RDWR)


def asked(on: Bench, begun: Callable[[Callable[[], Awaitable[object]]], Begun], request: bytes, status: str) -> Begun:
    """*request* on a connection of its own, which must be answered with a *status* unless it breaks off."""
    ends = trio.socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_AHEAD)
    client, served = _Client(trio.SocketStream(ends[0])), trio.SocketStream(ends[1])

    async def do() -> None:
        on.nursery.start_soon(client.ask, request)
        async with served:
            await Connection(on.gateway, served, _PLACE, Waiting()).run()
        await client.ended.wait()
        assert client.gone or re.match(f"HTTP/1.1 {status}".encode(), client.answer), (request[:200], client.answer)

    return replace(begun(do), cut=client.hang_up)


def lines(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A signed request, the last of its connection."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    found = signed(method, f"http://s3.test{target}", sent, KEYS.access_key, KEYS.secret_key, body=body)
    head = [f"{method} {target} HTTP/1.1".encode(), b"connection: close", b"content-length: %d" % len(body)]
    head += [name + b": " + value for name, value in found.raw_headers if name != b"content-length"]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _reads(target: str, method: str = "GET", status: str = "200", body: bytes = b"", **headers: str) -> Operation:
    """What changes nothing. *target* may name what is THERE: an object that no cache has."""

    async def operation(on: Bench) -> Begun:
        path, tree = "", on.tree
        if "THERE" in target:
            path, data = on.name("there"), on.data(3 * STRIPED)
            tree = tree.put(path, data, await acts.put(on.store, path, data))
            await on.store.writer.volumes.seal_idle(0)
        request = lines(method, target.replace("THERE", path), body, **headers)
        return asked(on, lambda do: Begun(do, tree), request, status)

    return operation


async def create_bucket(on: Bench) -> Begun:
    name = f"fresh{on.turn}"
    tree = on.tree.make(f"{name}/", DIRECTORY)
    return asked(on, lambda do: Begun(do, on.tree, [tree]), lines("PUT", f"/{name}"), "200")


async def delete_bucket(on: Bench) -> Begun:
    name = f"fresh{on.turn}"
    await on.store.objects.create_bucket(name, 1)
    tree = on.tree.make(f"{name}/", DIRECTORY)
    return asked(on, lambda do: Begun(do, tree, [on.tree]), lines("DELETE", f"/{name}"), "204")


def _puts(size: int) -> Operation:
    async def operation(on: Bench) -> Begun:
        path, data = on.name("deep/new"), on.data(size)
        tree = on.tree.put(path, data, etag_of(data), kind="new")
        request = lines("PUT", f"/{path}", data, x_amz_meta_kind="new")
        return asked(on, lambda do: Begun(do, on.tree, [tree]), request, "200")

    return operation


async def copy(on: Bench) -> Begun:
    path, node = on.name("copy"), on.tree.nodes["main/striped"]
    tree = on.tree.put(path, node.data, node.etag, **dict(node.metadata))
    request = lines("PUT", f"/{path}", x_amz_copy_source="/main/striped")
    return asked(on, lambda do: Begun(do, on.tree, [tree]), request, "200")


async def delete(on: Bench) -> Begun:
    path, data = on.name("there"), on.data()
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    return asked(on, lambda do: Begun(do, tree, [on.tree]), lines("DELETE", f"/{path}"), "204")


async def delete_many(on: Bench) -> Begun:
    path, data = on.name("there"), on.data()
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    key = path.removeprefix("main/")
    listed = "".join(f"<Object><Key>{each}</Key></Object>" for each in (key, f"{key}-not"))
    body = f"<Delete>{listed}</Delete>".encode()
    request = lines("POST", "/main?delete", body, content_md5=b64encode(md5(body).digest()).decode())
    return asked(on, lambda do: Begun(do, tree, [on.tree]), request, "200")


async def restore(on: Bench) -> Begun:
    path, data = on.name("there"), on.data()
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    request = lines("POST", f"/{path}?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>")
    return asked(on, lambda do: Begun(do, tree, [tree.change(path)]), request, "200")


async def begin_upload(on: Bench) -> Begun:
    path = on.name("parts")
    tree = on.tree.upload(path, {})
    return asked(on, lambda do: Begun(do, on.tree, [tree]), lines("POST", f"/{path}?uploads"), "200")


async def put_part(on: Bench) -> Begun:
    path, data = on.name("parts"), on.data(3 * STRIPED)
    ident, tree = await acts.begin_upload(on.store, path), on.tree.upload(path, {1: data})
    request = lines("PUT", f"/{path}?partNumber=1&uploadId={_text(ident)}", data)
    return asked(on, lambda do: Begun(do, on.tree.upload(path, {}), [tree]), request, "200")


async def copy_part(on: Bench) -> Begun:
    path, data = on.name("parts"), on.tree.nodes["main/striped"].data
    ident, tree = await acts.begin_upload(on.store, path), on.tree.upload(path, {1: data})
    target = f"/{path}?partNumber=1&uploadId={_text(ident)}"
    request = lines("PUT", target, x_amz_copy_source="/main/striped")
    return asked(on, lambda do: Begun(do, on.tree.upload(path, {}), [tree]), request, "200")


async def complete(on: Bench) -> Begun:
    path, bodies = on.name("parts"), [on.data(), on.data(INLINE)]
    ident = await acts.begin_upload(on.store, path)
    etags = [(await acts.put_part(on.store, path, ident, at, data)).etag for at, data in enumerate(bodies, 1)]
    etag = f"{etag_of(b''.join(map(bytes.fromhex, etags)))}-2"
    listed = "".join(f"<Part><PartNumber>{at}</PartNumber><ETag>{one}</ETag></Part>" for at, one in enumerate(etags, 1))
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    request = lines("POST", f"/{path}?uploadId={_text(ident)}", body)
    tree = on.tree.upload(path, dict(enumerate(bodies, 1)))
    begun = asked(on, lambda do: Begun(do, tree, [on.tree.put(path, b"".join(bodies), etag)]), request, "200")

    async def do() -> None:
        with smaller(multipart, PART_MIN=1):
            await begun.do()

    return replace(begun, do=do)


async def abort(on: Bench) -> Begun:
    path, data = on.name("parts"), on.data()
    ident = await acts.begin_upload(on.store, path)
    await acts.put_part(on.store, path, ident, 1, data)
    tree, request = on.tree.upload(path, {1: data}), lines("DELETE", f"/{path}?uploadId={_text(ident)}")
    return asked(on, lambda do: Begun(do, tree, [on.tree]), request, "204")


async def list_parts(on: Bench) -> Begun:
    path, data = on.name("parts"), on.data()
    ident = await acts.begin_upload(on.store, path)
    await acts.put_part(on.store, path, ident, 1, data)
    tree, request = on.tree.upload(path, {1: data}), lines("GET", f"/{path}?uploadId={_text(ident)}")
    return asked(on, lambda do: Begun(do, tree), request, "200")


def _text(ident: bytes) -> str:
    return ident.hex()


def cancelled(operation: Operation) -> Operation:
    """Its task is cancelled, as at the end of a gateway, and the client stays."""

    async def without_cut(on: Bench) -> Begun:
        return replace(await operation(on), cut=None)

    return without_cut


_VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"

REQUESTS: Mapping[Name, tuple[Operation, ...]] = {
    Name.LIST_BUCKETS: (_reads("/"),),
    Name.CREATE_BUCKET: (create_bucket,),
    Name.DELETE_BUCKET: (delete_bucket,),
    Name.HEAD_BUCKET: (_reads("/main", "HEAD"),),
    Name.GET_BUCKET_LOCATION: (_reads("/main?location"),),
    Name.GET_BUCKET_VERSIONING: (_reads("/main?versioning"),),
    Name.PUT_BUCKET_VERSIONING: (_reads("/main?versioning", "PUT", "501", _VERSIONING),),
    Name.LIST_OBJECTS: (_reads("/main"),),
    Name.LIST_OBJECTS_V2: (_reads("/main?list-type=2&delimiter=%2F"),),
    Name.LIST_OBJECT_VERSIONS: (_reads("/main?versions"),),
    Name.PUT_OBJECT: (_puts(INLINE), _puts(3 * STRIPED)),
    Name.GET_OBJECT: (_reads("/main/inline"), _reads("/THERE"), _reads("/THERE", "GET", "206", range="bytes=9-70000")),
    Name.GET_EXPLANATION: (_reads("/main/striped?stratum-explain"),),
    Name.HEAD_OBJECT: (_reads("/main/striped", "HEAD"),),
    Name.COPY_OBJECT: (copy,),
    Name.DELETE_OBJECT: (delete,),
    Name.DELETE_OBJECTS: (delete_many,),
    Name.RESTORE_OBJECT: (restore,),
    Name.CREATE_MULTIPART_UPLOAD: (begin_upload,),
    Name.UPLOAD_PART: (put_part,),
    Name.UPLOAD_PART_COPY: (copy_part,),
    Name.ABORT_MULTIPART_UPLOAD: (abort,),
    Name.LIST_PARTS: (list_parts,),
    Name.LIST_MULTIPART_UPLOADS: (_reads("/main?uploads"),),
    Name.COMPLETE_MULTIPART_UPLOAD: (complete,),
}

OPERATIONS: Mapping[str, Operation] = {
    f"{name}-{at}-{how}": made(operation)
    for name, several in REQUESTS.items()
    for at, operation in enumerate(several)
    for how, made in (("hung-up", lambda each: each), ("cancelled", cancelled))
}
"""Each request whose client hangs up, and whose task is cancelled."""

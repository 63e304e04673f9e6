"""What users do to a store, in one call each."""

import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import md5

import trio

from stratumfs.ids import ROOT_INODE, Buffer, InodeNo, UploadId, VolumeId
from stratumfs.store.store import Store
from stratumfs.store.writer import PendingStripe, Writer
from stratumfs.values import (
    Attributes,
    CompletedPart,
    Conditions,
    Name,
    NewExtent,
    ObjectSpec,
    PartInfo,
    Publication,
)
from tests.faults.tree import FILE, LINK
from tiering.move import Mover

UID = GID = 1000


def etag_of(data: bytes) -> str:
    """Of what was written from its first byte on."""
    return md5(data).hexdigest()


def _split(path: str) -> tuple[str, bytes]:
    bucket, _, key = path.partition("/")
    return bucket, key.encode()


async def put(store: Store, path: str, data: bytes, **metadata: str) -> str:
    """PUT; returns the ETag."""
    (bucket, key), spec = _split(path), ObjectSpec(metadata=metadata)
    async with store.objects.put(bucket, key, spec) as writer:
        await writer.write(data)
        await writer.finish()
        info = await writer.commit(key, spec, Conditions(), time.time_ns())
    return info.etag


async def delete(store: Store, path: str) -> None:
    bucket, key = _split(path)
    assert await store.objects.delete(bucket, key, Conditions(), time.time_ns())


async def copy(store: Store, source: str, path: str) -> str:
    """CopyObject; returns the ETag."""
    info = await store.objects.copy(*_split(source), None, *_split(path), ObjectSpec(), Conditions(), time.time_ns())
    return info.etag


async def begin_upload(store: Store, path: str) -> UploadId:
    return (await store.uploads.create(*_split(path), ObjectSpec(), None, False, time.time_ns())).id


async def put_part(store: Store, path: str, ident: UploadId, number: int, data: bytes) -> PartInfo:
    async with store.uploads.part(*_split(path), ident) as writer:
        await writer.write(data)
        await writer.finish()
        return await writer.commit(number, None, time.time_ns())


async def complete(store: Store, path: str, ident: UploadId, parts: Sequence[PartInfo]) -> str:
    """Returns the ETag."""
    listed = [CompletedPart(part.number, part.etag) for part in parts]
    info = await store.uploads.complete(*_split(path), ident, listed, None, Conditions(), time.time_ns())
    return info.etag


async def abort(store: Store, path: str, ident: UploadId) -> None:
    await store.uploads.abort(*_split(path), ident)


async def find(store: Store, path: str) -> InodeNo:
    """The inode at *path*; the empty path is the top directory."""
    ino = ROOT_INODE
    for segment in path.rstrip("/").split("/") if path else ():
        ino = (await store.files.lookup(ino, Name(segment.encode()))).ino
    return ino


async def place(store: Store, path: str) -> tuple[InodeNo, Name]:
    """The directory of *path*, and the name in it."""
    above, _, name = path.rstrip("/").rpartition("/")
    return await find(store, above), Name(name.encode())


async def make(store: Store, path: str, kind: str = FILE, target: bytes = b"") -> Attributes:
    parent, name = await place(store, path)
    mode = {FILE: stat.S_IFREG | 0o640, LINK: stat.S_IFLNK | 0o777}[kind]
    return await store.files.make(parent, name, mode, UID, GID, time.time_ns(), target=target)


async def mkdir(store: Store, path: str) -> Attributes:
    return await store.files.make_directory(*await place(store, path), 0o750, UID, GID, time.time_ns())


async def rmdir(store: Store, path: str) -> None:
    await store.files.remove_directory(*await place(store, path), time.time_ns())


async def unlink(store: Store, path: str) -> None:
    await store.files.remove(*await place(store, path), time.time_ns())


async def link(store: Store, path: str, new: str) -> None:
    await store.files.link(await find(store, path), *await place(store, new), time.time_ns())


async def rename(store: Store, path: str, new: str, *, exchange: bool = False) -> None:
    source, target = await place(store, path), await place(store, new)
    await store.files.rename(*source, *target, time.time_ns(), exchange=exchange)


async def publish(
    store: Store,
    ino: InodeNo,
    pieces: Sequence[tuple[int, Buffer]],
    size: int,
    cut: int | None = None,
    *,
    durable: bool,
    etag: str | None = None,
) -> None:
    """What fsync and close do with buffered writes: stripes first, their sync, then one transaction."""
    short = [(at, data) for at, data in pieces if store.writer.inline.allows(len(data))]
    long = [(at, data) for at, data in pieces if not store.writer.inline.allows(len(data))]
    with holding(store.writer) as held:
        gathered = await store.writer.gather(long, held) if long else []
        await store.writer.sync([each.stripe for each in gathered])
        inline = [NewExtent(at, len(data), data=bytes(data)) for at, data in short]
        publication = Publication(cut, (*(each.extent for each in gathered), *inline), size, time.time_ns(), etag)
        await store.files.publish(ino, publication, time.time_ns(), durable=durable)


class _Holder:
    def __init__(self) -> None:
        self.stripes: list[PendingStripe] = []

    @property
    def volumes(self) -> set[VolumeId]:
        return {stripe.location.volume for stripe in self.stripes if stripe.location is not None}


@contextmanager
def holding(writer: Writer) -> Iterator[list[PendingStripe]]:
    """Stripes that are named before the end of this, as the buffer of a file holds its."""
    holder = _Holder()
    writer.keep(holder)
    try:
        yield holder.stripes
    finally:
        writer.let_go(holder)


async def write_file(store: Store, path: str, data: bytes) -> None:
    """create, write, fsync."""
    ino = (await make(store, path)).ino
    await publish(store, ino, [(0, data)], len(data), durable=True)


async def finish_moves(store: Store) -> None:
    """What the next owner does with moves that have not ended."""
    mover = Mover(store)
    await mover.resume()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mover.serve)
        for move in mover:
            await move.ended.wait()
            if move.error is not None:
                raise move.error
        nursery.cancel_scope.cancel()


async def move(store: Store, path: str, tier: str) -> None:
    """stratum-tier move."""
    mover = Mover(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mover.serve)
        asked = await mover.ask(await find(store, path), tier, UID, "by hand")
        await asked.ended.wait()
        if asked.error is not None:
            raise asked.error
        nursery.cancel_scope.cancel()

"""What an open store shows through its calls, as a `Tree`."""

import stat
from dataclasses import replace
from hashlib import md5

from stratumfs.catalog.engine import Transaction
from stratumfs.ids import Cookie, InodeNo
from stratumfs.store.store import Store
from stratumfs.values import Attributes
from tests.faults.tree import DIRECTORY, FILE, LINK, Node, Tree

_CHUNK = 100
_SPEAKING = {"inode": "ino", "entry": "inode", "xattr": "ino", "parts": "ino"}


async def look(store: Store) -> Tree:
    """Everything: names and bytes as the mount sees them, keys, ETags and metadata as S3 does, unfinished uploads."""
    nodes: dict[str, Node] = {}
    uploads: dict[str, dict[int, bytes]] = {}
    for bucket in await store.objects.buckets():
        nodes[f"{bucket.name}/"] = Node(DIRECTORY, bucket.ino)
        await _walk(store, bucket.ino, f"{bucket.name}/", nodes)
        await _ask_s3(store, bucket.name, nodes)
        for upload in (await store.uploads.list(bucket.name)).uploads:
            inodes = dict(await store.catalog.read(_part_inodes, upload.id))
            parts, more = await store.uploads.parts(bucket.name, upload.key, upload.id)
            assert not more
            path = f"{bucket.name}/{upload.key.decode()}"
            uploads[path] = {part.number: await _bytes(store, inodes[part.number], part.size) for part in parts}
    rows = await store.catalog.read(_rows)
    with_rows = {
        path: node if node.kind == DIRECTORY else replace(node, row=rows[node.number]) for path, node in nodes.items()
    }
    return Tree(with_rows, uploads)


async def _walk(store: Store, directory: InodeNo, path: str, nodes: dict[str, Node]) -> None:
    after: Cookie | None = Cookie(0)
    while after is not None:
        chunk, after = await store.files.entries(directory, after, _CHUNK)
        for entry in chunk:
            assert not entry.name.shadowed
            name = path + entry.name.segment.decode()
            if stat.S_ISDIR(entry.attributes.mode):
                nodes[f"{name}/"] = Node(DIRECTORY, entry.attributes.ino, explicit=False)
                await _walk(store, entry.attributes.ino, f"{name}/", nodes)
            else:
                nodes[name] = await _leaf(store, entry.attributes)


async def _leaf(store: Store, found: Attributes) -> Node:
    if stat.S_ISLNK(found.mode):
        return Node(LINK, found.ino, await store.files.read_link(found.ino))
    assert stat.S_ISREG(found.mode)
    return Node(FILE, found.ino, bytes(await store.reader.read(found.ino, 0, found.size)))


async def _ask_s3(store: Store, bucket: str, nodes: dict[str, Node]) -> None:
    """Each key is a node of the walk, of the same size; it tells ETag and metadata, and which directories are keys."""
    listing = await store.objects.list(bucket)
    assert listing.next_after is None
    for key in listing.objects:
        path = f"{bucket}/{key.key.decode()}"
        info = await store.objects.info(bucket, key.key)
        node = nodes[path]
        assert (info.size, info.etag, info.ino) == (key.size, key.etag, node.number), path
        nodes[path] = Node(
            node.kind,
            node.number,
            node.data,
            True,
            info.etag if node.kind == FILE else None,
            tuple(sorted(info.spec.metadata.items())),
        )
    files = {path for path, node in nodes.items() if node.kind == FILE and path.startswith(f"{bucket}/")}
    assert files <= {f"{bucket}/{key.key.decode()}" for key in listing.objects}


async def _bytes(store: Store, ino: InodeNo, size: int) -> bytes:
    """Of a part: its inode knows no size."""
    found = bytearray(size)
    for extent in await store.reader.layout(ino, 0, size):
        found[extent.offset : extent.offset + extent.length] = await store.reader.extent(extent)
    return bytes(found)


def _part_inodes(tx: Transaction, ident: bytes) -> list[tuple[int, InodeNo]]:
    return [(number, InodeNo(ino)) for number, ino in tx.all("select number, ino from part where upload = ?", (ident,))]


def _rows(tx: Transaction) -> dict[int, bytes]:
    """A digest of all rows that speak of an inode, by its number; not of its extents, which may move: their bytes are
    compared."""
    said: dict[int, list[object]] = {}
    for table, column in _SPEAKING.items():
        query = f"select {column}, * from {table} where {column} is not null order by 1, 2, 3"
        for number, *row in tx.all(query):
            said.setdefault(number, []).append((table, row))
    return {number: md5(repr(rows).encode()).digest() for number, rows in said.items()}

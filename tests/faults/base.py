"""The store that write paths begin with: something of everything, closed in order."""

from pathlib import Path

from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.disk import Image, image_below, write_image
from tests.faults.look import look
from tests.faults.run import make_here, opened
from tests.faults.tree import DIRECTORY, FILE, LINK, Tree

INLINE, STRIPED = 3000, 40_000
"""Sizes: below what is kept in the catalog, and above."""

_KEYS = {"main": {"inline": INLINE, "striped": STRIPED, "deep/er/key": 10}, "rest": {"striped": STRIPED}}
"""Objects of the buckets, with their sizes."""


def _bytes(seed: int, size: int) -> bytes:
    return bytes((seed * 31 + at * 7 + at // 251) % 256 for at in range(size))


async def furnish(store: Store) -> Tree:
    """Fill a new store; returns what it shows then."""
    tree = Tree()
    for number, (bucket, keys) in enumerate(_KEYS.items()):
        await store.objects.create_bucket(bucket, 1)
        tree = tree.make(f"{bucket}/", DIRECTORY)
        for key, size in keys.items():
            data = _bytes(number, size)
            etag = await acts.put(store, f"{bucket}/{key}", data, made="by s3")
            tree = tree.put(f"{bucket}/{key}", data, etag, made="by s3")
    for directory in ("main/dir/", "main/empty/"):
        await acts.mkdir(store, directory)
        tree = tree.make(directory, DIRECTORY)
    for name, size in (("file", INLINE), ("big", STRIPED)):
        await acts.write_file(store, f"main/dir/{name}", _bytes(size, size))
        tree = tree.make(f"main/dir/{name}", FILE, _bytes(size, size))
    await acts.link(store, "main/dir/file", "main/dir/hard")
    tree = tree.link("main/dir/file", "main/dir/hard")
    await acts.make(store, "main/symlink", LINK, b"dir/file")
    tree = tree.make("main/symlink", LINK, b"dir/file")
    ident = await acts.begin_upload(store, "main/upload")
    await acts.put_part(store, "main/upload", ident, 1, _bytes(3, STRIPED))
    return tree.upload("main/upload", {1: _bytes(3, STRIPED)})


async def make_base(root: Path, k: int = 4, m: int = 2) -> tuple[Image, Tree]:
    """A furnished store below *root*, which is left behind, and what it shows."""
    write_image({**{f"d{slot}": None for slot in range(k + m)}, **{f"w{slot}": None for slot in range(3)}}, root)
    make_here(root, k, m)
    async with opened(root) as store:
        expected = await furnish(store)
        await store.maintenance.round()
        tree = await look(store)
    assert not expected.differences(tree), expected.differences(tree)
    return image_below(root), tree

"""All that may have bytes below a directory, each when its turn comes."""

from collections.abc import AsyncGenerator

import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.moves import child_itself, children
from stratumfs.errors import NotFound
from stratumfs.ids import InodeNo


async def below(catalog: Catalog, top: InodeNo) -> AsyncGenerator[InodeNo, None]:
    """From *top* down, as it is when its turn comes: *top* itself if it is a file."""
    try:
        found = [await catalog.read(child_itself, top)]
    except NotFound:
        return  # removed since: nothing of it is left
    waiting: list[tuple[InodeNo, bytes]] = []  # directories, and behind which name to go on in each
    while True:
        for each in found:
            if not each.is_directory:
                yield each.ino
                continue
            if each.body is not None:
                yield each.body
            waiting.append((each.ino, b""))
        if not waiting:
            return
        directory, after = waiting.pop()
        found = await catalog.read(children, directory, after)
        if found:
            waiting.append((directory, found[-1].name))
        await trio.lowlevel.checkpoint()

"""The least that Hypercorn can do with a large body: a bare application, run as ``-m tools.measure.floor_http``.

PUT: MD5, 1.5 times the bytes into six files, all synced before the answer; one hop into a thread for each MiB.
GET: the bytes of one file, read and sent a MiB at a time.
"""

import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
MIB = 1 << 20
SHARDS, DATA_SHARDS = 6, 4


class Shards:
    """Six files that get a quarter of each piece, the last two the first's once more: 1.5 times the bytes."""

    def __init__(self, folder: Path) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._files = [os.open(folder / f"shard{index}", flags) for index in range(SHARDS)]

    def append(self, piece: bytes | bytearray) -> None:
        self._md5.update(piece)
        step = -(-len(piece) // DATA_SHARDS)
        view = memoryview(piece)
        for index, file in enumerate(self._files):
            start = index % DATA_SHARDS * step
            os.write(file, view[start : start + step])

    async def finish(self) -> str:
        """Synced, all at once; the digest."""
        async with trio.open_nursery() as nursery:
            for file in self._files:
                nursery.start_soon(trio.to_thread.run_sync, os.fsync, file)
        for file in self._files:
            os.close(file)
        return self._md5.hexdigest()


class App:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._put = 0
        self._file = os.open(folder / "data", os.O_RDONLY)
        self._size = os.fstat(self._file).st_size

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
        elif scope["method"] == "PUT":
            await self._take(receive, send)
        else:
            await self._give(send)

    async def _take(self, receive: Receive, send: Send) -> None:
        self._put += 1
        folder = self._folder / str(self._put % 16)
        folder.mkdir(exist_ok=True)
        shards = Shards(folder)
        piece = bytearray()
        more = True
        while more:
            message = await receive()
            piece += message.get("body", b"")
            more = message.get("more_body", False)
            if len(piece) >= MIB or not more:
                await trio.to_thread.run_sync(shards.append, piece)
                piece = bytearray()
        etag = await shards.finish()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"0"), (b"etag", etag.encode())],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    async def _give(self, send: Send) -> None:
        length = str(self._size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for at in range(0, self._size, MIB):
            piece = os.pread(self._file, MIB, at)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def main() -> None:
    port, folder = sys.argv[1:]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = None
    config.keep_alive_max_requests = 1_000_000_000
    trio.run(serve, App(Path(folder)), config)


if __name__ == "__main__":
    main()

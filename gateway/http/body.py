"""The body of one request on its connection: of a length that was said, or in chunks (RFC 9112, 7.1).

Chunk extensions and trailers are read and dropped: the application hears of no header that was not in the head.
"""

import re
from typing import Protocol

import trio

from gateway.http.head import RefusedError
from gateway.http.source import Source
from gateway.limits import CHUNK_HEADER_MAX, TRAILERS_MAX

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Body(Protocol):
    """*ended* says that all of it was taken, so that the next request is what comes behind it."""

    ended: bool

    async def some(self, limit: int) -> bytes:
        """Up to *limit* bytes; b"" at the end. Raises: EOFError if the client ends first; RefusedError."""
        ...

    async def into(self, view: memoryview) -> int:
        """As ``some``, into the caller's memory: how many bytes. Raises: as ``some``."""
        ...

    def held_into(self, view: memoryview) -> int:
        """As ``into``, of what has come by now; 0 also where that cannot be told at once."""
        ...


class SizedBody:
    __slots__ = ("_left", "_source", "ended")

    def __init__(self, source: Source, length: int) -> None:
        self._source, self._left = source, length
        self.ended = not length

    async def some(self, limit: int) -> bytes:
        if self.ended:
            return b""
        data = await self._source.some(min(limit, self._left))
        self._took(len(data))
        return data

    async def into(self, view: memoryview) -> int:
        if self.ended:
            return 0
        count = await self._source.into(view[: self._left])
        self._took(count)
        return count

    def held_into(self, view: memoryview) -> int:
        count = self._source.held_into(view[: self._left])
        if count:
            self._took(count)
        return count

    def _took(self, count: int) -> None:
        if not count:
            raise EOFError
        self._left -= count
        self.ended = not self._left


class CutBody:
    """What is left of one whose client ended, or broke the framing: what comes behind that is nothing any more."""

    ended = False

    async def some(self, limit: int) -> bytes:
        raise EOFError

    async def into(self, view: memoryview) -> int:
        raise EOFError

    def held_into(self, view: memoryview) -> int:
        return 0


class ChunkedBody:
    __slots__ = ("_begun", "_left", "_source", "ended")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0
        self._begun = False
        self.ended = False

    async def some(self, limit: int) -> bytes:
        await self._next_chunk()
        if self.ended:
            return b""
        data = await self._source.some(min(limit, self._left))
        self._took(len(data))
        return data

    async def into(self, view: memoryview) -> int:
        await self._next_chunk()
        if self.ended:
            return 0
        count = await self._source.into(view[: self._left])
        self._took(count)
        return count

    def held_into(self, view: memoryview) -> int:
        return 0

    def _took(self, count: int) -> None:
        if not count:
            raise EOFError
        self._left -= count

    async def _next_chunk(self) -> None:
        """Be inside a chunk, or at the end."""
        if self._left or self.ended:
            return
        # A chunk can be one byte: who sends many must not keep the loop from the others.
        await trio.lowlevel.checkpoint()
        if self._begun and await self._source.line(0):
            raise RefusedError("A chunk is longer than it says.")
        self._begun = True
        match = _CHUNK.fullmatch(await self._source.line(CHUNK_HEADER_MAX))
        if match is None:
            raise RefusedError("The size of a chunk is not valid.")
        self._left = int(match[1], 16)
        if not self._left:
            await self._drop_trailers()
            self.ended = True

    async def _drop_trailers(self) -> None:
        room = TRAILERS_MAX
        while line := await self._source.line(room):
            room -= len(line)
            if room < 0 or not _TRAILER.fullmatch(line):
                raise RefusedError("The trailers are not valid.")

"""The one implementation of Body: pulls bytes from the connection and lets none count that does not check."""

import hashlib
import hmac
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple, Protocol

import trio

from gateway import checksums
from gateway.asgi import Receive, ReceivedInto, ReceiveInto
from gateway.auth.body import Chunk
from gateway.auth.chunked import ChunkVerifier, Event, Trailers
from gateway.auth.pace import Pace
from gateway.checksums import Algorithm, Hasher
from gateway.errors import S3Error
from gateway.limits import HASH_BATCH, HASH_BATCH_EVENTS
from stratumfs.errors import DeviceUnasked
from stratumfs.limits import HASH_INLINE
from stratumfs.threads import in_thread
from stratumfs.values import Checksum

_FAST = (Algorithm.CRC32C, Algorithm.CRC64NVME)
"""14 µs a MiB: hashing on the loop costs less than a hop into a thread."""


class Framing(Protocol):
    def feed(self, data: bytes) -> Iterator[Event]: ...

    def finish(self) -> None: ...


class PlainReader:
    """A body without framing of its own."""

    def feed(self, data: bytes) -> Iterator[Event]:
        yield memoryview(data)

    def finish(self) -> None:
        return None


class Checks(NamedTuple):
    """What a body has to prove.

    sha256    hex digest that x-amz-content-sha256 gave; None if the payload is unsigned or its chunks are signed
    chunks    of a body whose chunks are signed
    declared  the checksum header of the body, or the algorithm of the trailer to come
    md5       Content-MD5
    """

    sha256: str | None = None
    chunks: ChunkVerifier | None = None
    declared: Checksum | None = None
    trailer: Algorithm | None = None
    md5: bytes | None = None


class VerifiedBody:
    """See ``gateway.auth.body.Body``. Owned by one task; hashing runs in a thread while that task waits for it.

    receive_into, received_into
                  if the server has them: a body without framing of its own is received straight into its reader's
                  memory, and what has come of it without waiting
    """

    def __init__(
        self,
        receive: Receive,
        length: int | None,
        framing: Framing,
        checks: Checks,
        limiter: trio.CapacityLimiter,
        receive_into: ReceiveInto | None = None,
        received_into: ReceivedInto | None = None,
    ) -> None:
        self.length = length
        self._receive = receive
        self._received_into = received_into
        self._receive_into = receive_into if isinstance(framing, PlainReader) else None
        self._framing = framing
        self._checks = checks
        self._limiter = limiter
        self._expected = checksums.DEFAULT
        self._begun = False
        self._checksum: Checksum | None = None

    @property
    def declared(self) -> Algorithm | None:
        if self._checks.declared is not None:
            return Algorithm(self._checks.declared.algorithm)
        return self._checks.trailer

    @property
    def checksum(self) -> Checksum:
        if self._checksum is None:
            raise RuntimeError("a checksum is known when all of the body has been read")
        return self._checksum

    def expect(self, algorithm: Algorithm) -> None:
        assert not self._begun
        self._expected = algorithm

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """No generator: one that its consumer leaves in the middle would have to be closed by somebody."""
        assert not self._begun, "a body can be read once"
        self._begun = True
        self._pace = Pace()
        self._ended = False
        self._received = 0
        self._ready: deque[memoryview] = deque()
        self._batch: list[Event] = []
        self._batched = 0
        self._trailers: dict[str, str] = {}
        self._sha256 = hashlib.sha256() if self._checks.sha256 is not None else None
        self._algorithm = self.declared or self._expected
        self._hasher: Hasher = checksums.hasher(self._algorithm)
        self._in_thread = self._sha256 is not None or self._checks.chunks is not None or self._algorithm not in _FAST
        return self

    async def __anext__(self) -> Chunk:
        while not self._ready:
            if self._checksum is not None:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def read_into(self, view: memoryview) -> int:
        if not self._begun:
            aiter(self)
        if self._receive_into is None:
            return await self._copy_into(view)
        if self._checksum is not None:
            return 0
        count = 0
        if self._received != self.length:  # else nothing comes, and nobody need be asked
            count = self._received_into(view) if self._received_into is not None else 0
            count = count or await self._next_into(self._receive_into, view)
        if not count:
            await self._end()
            return 0
        self._count(count)
        self._batch.append(view[:count])
        await self._batch_grew(count)
        return count

    async def _copy_into(self, view: memoryview) -> int:
        piece = memoryview(await anext(self, b""))
        count = min(len(piece), len(view))
        view[:count] = piece[:count]
        if count < len(piece):
            self._ready.appendleft(piece[count:])
        return count

    async def _advance(self) -> None:
        """Take what the connection has next, or come to the end."""
        data = await self._next()
        if not data:
            await self._end()
            return
        for event in self._framing.feed(data):
            self._batch.append(event)
            if isinstance(event, memoryview):
                self._count(len(event))
                self._ready.append(event)
        await self._batch_grew(len(data))

    async def _batch_grew(self, count: int) -> None:
        self._batched += count
        if self._batched >= HASH_BATCH or len(self._batch) >= HASH_BATCH_EVENTS:
            await self._digest()

    async def _end(self) -> None:
        self._framing.finish()
        await self._digest()
        self._conclude()

    async def read(self, limit: int) -> bytes:
        if self.length is not None and self.length > limit:
            raise S3Error("MaxMessageLengthExceeded")
        whole = bytearray()
        async for chunk in self:
            whole += chunk
            if len(whole) > limit:
                raise S3Error("MaxMessageLengthExceeded")
        if self._checks.md5 is not None:
            self.check_md5(hashlib.md5(whole, usedforsecurity=False).digest())
        return bytes(whole)

    def check_md5(self, digest: bytes) -> None:
        if self._checks.md5 is not None and not hmac.compare_digest(self._checks.md5, digest):
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=checksums.encode(self._checks.md5),
                CalculatedDigest=checksums.encode(digest),
            )

    async def _next(self) -> bytes:
        """The next bytes; b"" at the end. Raises: S3Error RequestTimeout, IncompleteBody."""
        while not self._ended:
            with self._pace.wait() as waiting:
                message = await self._receive()
            if waiting.cancelled_caught:
                raise S3Error("RequestTimeout")
            if message["type"] == "http.disconnect":
                raise S3Error("IncompleteBody")
            self._ended = not message.get("more_body", False)
            data: bytes = message.get("body", b"")
            self._pace.came(len(data))
            if data:
                return data
        return b""

    async def _next_into(self, receive_into: ReceiveInto, view: memoryview) -> int:
        """As ``_next``, in *view*."""
        count = 0
        with self._pace.wait() as waiting:
            try:
                count = await receive_into(view)
            except EOFError:
                raise S3Error("IncompleteBody") from None
        if waiting.cancelled_caught:
            raise S3Error("RequestTimeout")
        self._pace.came(count)
        return count

    def _count(self, size: int) -> None:
        self._received += size
        if self.length is not None and self._received > self.length:
            raise S3Error("IncompleteBody", "The request body is longer than its length header says.")

    async def _digest(self) -> None:
        """Check and hash what has come since the last time."""
        batch, large = self._batch, self._in_thread and self._batched > HASH_INLINE
        self._batch, self._batched = [], 0
        try:
            if large:
                await in_thread(self._consume, batch, limiter=self._limiter)
            else:
                self._consume(batch)
        except DeviceUnasked:  # there is no thread for it: here, then
            self._consume(batch)

    def _consume(self, batch: Iterable[Event]) -> None:
        if self._checks.chunks is not None:
            self._checks.chunks.consume(batch)
        for event in batch:
            if isinstance(event, memoryview):
                self._hasher.update(event)
                if self._sha256 is not None:
                    self._sha256.update(event)
            elif isinstance(event, Trailers):
                self._trailers = dict(event.pairs)

    def _conclude(self) -> None:
        algorithm = self._algorithm
        if self.length is not None and self._received != self.length:
            raise S3Error("IncompleteBody", "The request body is shorter than its length header says.")
        self._check_sha256()
        self._check_trailers()
        checksum = Checksum(algorithm.value, checksums.encode(self._hasher.digest()))
        declared = self._checks.declared.value if self._checks.declared else self._trailers.get(algorithm.header)
        if declared is not None:
            # Compared as bytes: base64 has more than one spelling for the same value.
            given = checksums.decode(algorithm, declared)
            if not hmac.compare_digest(given, self._hasher.digest()):
                raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
        self._checksum = checksum

    def _check_sha256(self) -> None:
        if self._sha256 is None or self._checks.sha256 is None:
            return
        computed = self._sha256.hexdigest()
        if not hmac.compare_digest(computed, self._checks.sha256):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=self._checks.sha256,
                S3ComputedContentSHA256=computed,
            )

    def _check_trailers(self) -> None:
        expected = {self._checks.trailer.header} if self._checks.trailer else set()
        if self._trailers.keys() != expected:
            raise S3Error("MalformedTrailerError")

"""The body of an authenticated request: verified bytes, in bounded memory.

A body ends well, or it raises: what its iterator yielded is only known to be what the caller sent once the iterator has
ended. So a handler writes chunks away as they come, and commits after the loop.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from gateway.checksums import Algorithm
from stratumfs.values import Checksum

Chunk = bytes | memoryview


class Body(Protocol):
    """Iterate it once.

    length  decoded bytes, if the client said: Content-Length, or x-amz-decoded-content-length of an aws-chunked body.
            None only for operations that take a small document; 0 if there is no body
    """

    @property
    def length(self) -> int | None: ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Chunks of the caller's bytes, framing removed; one that was yielded stays valid.

        Raises: S3Error: XAmzContentSHA256Mismatch, SignatureDoesNotMatch (of a chunk or trailer), BadDigest (header or
        trailer checksum), IncompleteBody, RequestTimeout, EntityTooLarge.
        """
        ...

    async def read_into(self, view: memoryview) -> int:
        """In place of iterating: the next bytes into *view*, at least one; how many, 0 at the end.

        What was put there must stay as it is until the body has ended: it is hashed later. Raises: as iterating.
        """
        ...

    async def read(self, limit: int) -> bytes:
        """The whole of a small document, Content-MD5 checked too. Raises: as iterating, and S3Error
        MaxMessageLengthExceeded above *limit* bytes."""
        ...

    def expect(self, algorithm: Algorithm) -> None:
        """Compute *algorithm* if the client declared no checksum. Call it before iterating.

        Without it the algorithm is CRC64NVME, as S3's is.
        """
        ...

    @property
    def declared(self) -> Algorithm | None:
        """The algorithm that the client declared a checksum by, in a header or as a trailer to come; known at once."""
        ...

    @property
    def checksum(self) -> Checksum:
        """Of all bytes, after the end: by the declared algorithm, then by the expected one. It was verified if it was
        declared. Raises: RuntimeError before the end."""
        ...

    def check_md5(self, digest: bytes) -> None:
        """Compare *digest*, the MD5 of all bytes, with Content-MD5 if there was one.

        Who streams a body computes its MD5 anyway, so iterating does not do it a second time.
        Raises: S3Error BadDigest.
        """
        ...

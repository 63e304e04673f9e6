"""The framing of aws-chunked bodies, and the check of their signatures. No I/O.

    <hex size>[;chunk-signature=<64 hex>]\\r\\n <size bytes> \\r\\n   …   0[;chunk-signature=…]\\r\\n
    [<trailer>:<value>\\r\\n …] [x-amz-trailer-signature:<64 hex>\\r\\n] \\r\\n

Source: Amazon S3 API reference, "Signature Calculations … Transferring Payload in Multiple Chunks".
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from gateway.auth.sigv4 import ChunkSigner, matches
from gateway.errors import S3Error
from gateway.limits import CHUNK_HEADER_MAX, CHUNK_MIN, SMALL_CHUNKS_MAX, TRAILERS_MAX
from stratumfs.limits import PART_MAX

TRAILER_SIGNATURE = "x-amz-trailer-signature"
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_SIGNATURE = re.compile(rb"chunk-signature=([0-9a-f]{64})")
_TRAILER = re.compile(r"([A-Za-z0-9-]+):[ \t]*([\x21-\x7e]*)[ \t]*")


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """All bytes of a chunk have come; signature: what the chunk's header claims, None if unsigned."""

    signature: str | None


@dataclass(frozen=True, slots=True)
class Trailers:
    """The last event. pairs: names in lowercase, in the order sent; signature: None if there was none."""

    pairs: tuple[tuple[str, str], ...]
    signature: str | None


Event = memoryview | ChunkEnd | Trailers


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    END = auto()


class ChunkedReader:
    """Turns received bytes into payload, chunk ends and trailers; keeps at most one unfinished line.

    signed  whether every chunk must carry a signature; an unsigned body must carry none
    """

    def __init__(self, *, signed: bool) -> None:
        self._signed = signed
        self._state = _State.HEADER
        self._line = bytearray()
        self._left = 0
        self._signature: str | None = None
        self._last = False
        self._trailers: list[tuple[str, str]] = []
        self._trailer_bytes = 0
        self._small = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of *data*, payload as views of it. Raises: S3Error IncompleteBody, MalformedTrailerError."""
        view = memoryview(data)
        position = 0
        while position < len(view):
            if self._state is _State.DATA:
                piece = view[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                yield piece
                if not self._left:
                    self._state = _State.DATA_END
            elif self._state is _State.END:
                raise S3Error("IncompleteBody", "There are bytes after the end of the aws-chunked body.")
            else:
                end = data.find(b"\n", position)
                stop = len(view) if end < 0 else end + 1
                self._extend(view[position:stop])
                position = stop
                if end >= 0:
                    yield from self._line_ended()

    def finish(self) -> None:
        """No more bytes will come. Raises: S3Error IncompleteBody."""
        if self._state is not _State.END:
            raise S3Error("IncompleteBody")

    def _extend(self, piece: memoryview) -> None:
        self._line += piece
        if len(self._line) > CHUNK_HEADER_MAX:
            raise S3Error("IncompleteBody", "A line of the aws-chunked framing is too long.")

    def _line_ended(self) -> Iterator[Event]:
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n"):
            raise S3Error("IncompleteBody", "A line of the aws-chunked framing does not end in CR LF.")
        line = line[:-2]
        if self._state is _State.HEADER:
            self._begin_chunk(line)
            if self._last:
                yield ChunkEnd(self._signature)
        elif self._state is _State.DATA_END:
            if line:
                raise S3Error("IncompleteBody", "A chunk is longer than its header says.")
            self._state = _State.HEADER
            yield ChunkEnd(self._signature)
        elif line:
            self._add_trailer(line)
        else:
            self._state = _State.END
            yield self._trailers_ended()

    def _begin_chunk(self, line: bytes) -> None:
        size, semicolon, extension = line.partition(b";")
        if not _SIZE.fullmatch(size) or int(size, 16) > PART_MAX:
            raise S3Error("IncompleteBody", "The size of a chunk is not valid.")
        match = _SIGNATURE.fullmatch(extension)
        if self._signed and match is None:
            raise S3Error("SignatureDoesNotMatch", "A chunk has no valid chunk-signature.")
        if not self._signed and semicolon:
            raise S3Error("IncompleteBody", "An unsigned chunk must not have a chunk extension.")
        self._signature = match[1].decode() if match else None
        self._left = int(size, 16)
        self._small += self._left < CHUNK_MIN
        if self._small > SMALL_CHUNKS_MAX:
            raise S3Error("InvalidChunkSizeError")
        self._last = not self._left
        self._state = _State.TRAILER if self._last else _State.DATA

    def _add_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        match = _TRAILER.fullmatch(line.decode("latin-1"))
        if match is None or self._trailer_bytes > TRAILERS_MAX:
            raise S3Error("MalformedTrailerError")
        self._trailers.append((match[1].lower(), match[2]))

    def _trailers_ended(self) -> Trailers:
        signatures = [value for name, value in self._trailers if name == TRAILER_SIGNATURE]
        pairs = tuple((name, value) for name, value in self._trailers if name != TRAILER_SIGNATURE)
        if len(signatures) > 1 or len({name for name, _ in pairs}) != len(pairs):
            raise S3Error("MalformedTrailerError", "A trailer was sent more than once.")
        return Trailers(pairs, signatures[0] if signatures else None)


class ChunkVerifier:
    """Checks each chunk's signature, which covers the one before it. May run in a thread, one call at a time.

    trailers  whether the trailers are signed too (they are whenever there may be some)
    """

    def __init__(self, signer: ChunkSigner, *, trailers: bool) -> None:
        self._signer = signer
        self._previous = signer.seed
        self._sha256 = hashlib.sha256()
        self._trailers = trailers

    def consume(self, events: Iterable[Event]) -> None:
        """Raises: S3Error SignatureDoesNotMatch."""
        for event in events:
            if isinstance(event, ChunkEnd):
                self._check(self._signer.chunk(self._previous, self._sha256.hexdigest()), event.signature)
                self._sha256 = hashlib.sha256()
            elif isinstance(event, Trailers):
                self._check_trailers(event)
            else:
                self._sha256.update(event)

    def _check_trailers(self, event: Trailers) -> None:
        if self._trailers:
            self._check(self._signer.trailer(self._previous, event.pairs), event.signature)
        elif event.signature is not None:
            raise S3Error("MalformedTrailerError")

    def _check(self, text: str, signature: str | None) -> None:
        if signature is None or not matches(self._signer.key, text, signature):
            raise S3Error("SignatureDoesNotMatch", "The signature of a chunk does not match.", StringToSign=text)
        self._previous = signature

"""aws-chunked bodies: the documentation's examples, and what must be refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import sigv4
from gateway.auth.chunked import ChunkedReader, ChunkEnd, ChunkVerifier, Event, Trailers
from gateway.auth.sigv4 import ChunkSigner, Scope
from gateway.errors import S3Error
from gateway.limits import SMALL_CHUNKS_MAX

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = Scope("20130524", "us-east-1", "s3")
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"


def signer(seed: str) -> ChunkSigner:
    return ChunkSigner(sigv4.derive_key(SECRET, SCOPE), "20130524T000000Z", SCOPE, seed)


DOCUMENTED = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
DOCUMENTED_TRAILER = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    + b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)


def read(data: bytes, *, signed: bool, step: int | None = None) -> list[Event]:
    reader = ChunkedReader(signed=signed)
    events: list[Event] = []
    for start in range(0, len(data), step or len(data)):
        events += reader.feed(data[start : start + (step or len(data))])
    reader.finish()
    return events


def payload(events: list[Event]) -> bytes:
    return b"".join(event for event in events if isinstance(event, memoryview))


@pytest.mark.parametrize("step", [None, 1000])
@pytest.mark.parametrize(
    ("data", "seed", "trailers"), [(DOCUMENTED, SEED, False), (DOCUMENTED_TRAILER, TRAILER_SEED, True)]
)
def test_the_examples_of_the_documentation(data: bytes, seed: str, trailers: bool, step: int | None) -> None:
    events = read(data, signed=True, step=step)
    assert payload(events) == b"a" * 66560
    ChunkVerifier(signer(seed), trailers=trailers).consume(events)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"aaaa\r\n400", b"aaab\r\n400"),
        (b"ad80c730", b"ad80c731"),
        (b"0;chunk-signature=b6", b"0;chunk-signature=b7"),
    ],
)
def test_a_changed_chunk_is_refused(old: bytes, new: bytes) -> None:
    events = read(DOCUMENTED.replace(old, new), signed=True)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        ChunkVerifier(signer(SEED), trailers=False).consume(events)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sOO8/Q==", b"sOO8/A=="),
        (b"x-amz-trailer-signature:d8", b"x-amz-trailer-signature:d9"),
        (b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n", b""),
    ],
)
def test_a_changed_trailer_is_refused(old: bytes, new: bytes) -> None:
    events = read(DOCUMENTED_TRAILER.replace(old, new), signed=True)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        ChunkVerifier(signer(TRAILER_SEED), trailers=True).consume(events)


@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=6), step=st.integers(1, 40))
def test_unsigned_chunks_come_out_whole_however_they_are_cut(chunks: list[bytes], step: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data += b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    events = read(data, signed=False, step=step)
    assert payload(events) == b"".join(chunks)
    assert sum(isinstance(event, ChunkEnd) for event in events) == len(chunks) + 1
    assert events[-1] == Trailers((("x-amz-checksum-crc32", "AAAAAA=="),), None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "IncompleteBody"),
        (b"5\r\nhello", "IncompleteBody"),
        (b"5\r\nhello\r\n", "IncompleteBody"),
        (b"5\r\nhello\r\n0\r\n", "IncompleteBody"),
        (b"5\r\nhello!\r\n0\r\n\r\n", "IncompleteBody"),
        (b"5\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"-5\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"+5\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b" 5\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"5_0\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"\r\n", "IncompleteBody"),
        (b"ffffffffffffffff\r\n", "IncompleteBody"),
        (b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0\r\n\r\n", "IncompleteBody"),
        (b"0\r\n\r\nmore", "IncompleteBody"),
        (b"0\r\nno colon\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\na:1\r\na:2\r\n\r\n", "MalformedTrailerError"),
        (b"0" * 2000 + b"\r\n", "IncompleteBody"),
        (b"0\r\n" + b"a:b\r\n" * 3000, "MalformedTrailerError"),
        (b"1\r\nx\r\n" * (SMALL_CHUNKS_MAX + 1), "InvalidChunkSizeError"),
    ],
)
def test_malformed_framing_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(data or b"", signed=False, step=4096)
    assert caught.value.code == code


@pytest.mark.parametrize("extension", [b"", b";chunk-signature=xyz", b";other=1", b";chunk-signature=" + b"F" * 64])
def test_every_chunk_of_a_signed_body_must_carry_a_signature(extension: Any) -> None:
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        read(b"5" + extension + b"\r\nhello\r\n", signed=True)

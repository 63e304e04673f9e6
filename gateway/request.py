"""One request, parsed and typed: what every handler is given."""

from collections.abc import Mapping

import msgspec

from gateway.operations import Operation


class Query(dict[str, str]):
    """The query string, percent-decoded; of a name that repeats, the first value counts. Nobody changes it.

    ``pairs`` are all of them as sent and in order, for the signature.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self.pairs = pairs
        for name, value in pairs:
            self.setdefault(name, value)

    def __repr__(self) -> str:
        return f"Query({self.pairs!r})"


class RequestIds(msgspec.Struct, frozen=True):
    """What an answer and the log call a request: ``x-amz-request-id`` and ``x-amz-id-2``."""

    request_id: str
    host_id: str


class Request(msgspec.Struct, frozen=True):
    """One request of the S3 protocol; not yet authenticated, its body not yet readable.

    bucket       the bucket's name, from path or host; None for operations of the service
    in_host      whether it is from the host
    key          UTF-8 bytes, percent-decoded once, without NUL, not empty; None for operations of a bucket
    version_id   of the query string; ``null`` is the version of a bucket that was never versioned
    headers      lowercase names; repeated ones joined by a comma, blanks at both ends cut; ``x-amz-*`` parameters of a
                 presigned URL stand here too, ``aws-chunked`` is taken out of Content-Encoding
    raw_headers  as received, for the signature; names in lowercase
    raw_path     as received, percent-encoded, without the query string
    host         the Host header as received
    """

    ids: RequestIds
    operation: Operation
    method: str
    bucket: str | None
    key: bytes | None
    version_id: str | None
    query: Query
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    raw_path: bytes
    host: str
    secure: bool
    client: str
    in_host: bool = False

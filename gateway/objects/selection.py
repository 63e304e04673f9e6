"""Which bytes of an object GET sends and HEAD speaks of: all, a range, or one part."""

import msgspec

from gateway.conditions import range_holds
from gateway.errors import S3Error
from gateway.headers import checksum_headers, object_headers, response_overrides
from gateway.numbers import part_number
from gateway.ranges import Span, parse_range
from gateway.request import Request
from stratumfs.values import ObjectInfo


class Selection(msgspec.Struct, frozen=True):
    """Bytes *start* to *stop* (exclusive), and the status and headers that go with them."""

    start: int
    stop: int
    status: int
    headers: dict[str, str]


def select(request: Request, info: ObjectInfo) -> Selection:
    """Raises: S3Error InvalidRange, InvalidPartNumber, InvalidArgument, InvalidRequest."""
    headers = object_headers(info, response_overrides(request.query))
    span: Span | None = None
    if "partNumber" in request.query:
        if "range" in request.headers:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        span = _part(part_number(request.query["partNumber"]), info)
        if info.part_sizes:
            headers["x-amz-mp-parts-count"] = str(len(info.part_sizes))
    elif range_holds(request.headers.get("if-range"), info):
        span = parse_range(request.headers.get("range"), info.size)
    if span is not None and span.length:
        headers["content-range"] = span.content_range
        return Selection(span.start, span.stop, 206, headers)
    if span is not None and span.size:
        # An empty part among others: no range can name it, and the whole is not it.
        return Selection(span.start, span.stop, 200, headers)
    # The checksum is of all bytes: beside some of them, a client would take those for damaged.
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers.update(checksum_headers(info.spec.checksum))
    return Selection(0, info.size, 200, headers)


def _part(number: int, info: ObjectInfo) -> Span:
    sizes = info.part_sizes or (info.size,)
    if number > len(sizes):
        raise S3Error("InvalidPartNumber", ActualPartCount=str(len(sizes)), PartNumberRequested=str(number))
    start = sum(sizes[: number - 1])
    return Span(start, start + sizes[number - 1], info.size)

"""Ranges: which bytes of an object a request asks for."""

import re
from dataclasses import dataclass

from gateway.errors import S3Error

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)
_DIGITS_MAX = 19
"""More digits than any offset has; longer numbers cost time and mean nothing."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes *start* to *stop* (exclusive) of an object of *size* bytes."""

    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def parse_range(value: str | None, size: int) -> Span | None:
    """The one range that a Range header names, cut at the object's end; None: send all.

    Unknown units, malformed values and several ranges mean all bytes: a server may ignore Range (RFC 9110, 14.2), and
    S3 does for these.
    Raises: S3Error InvalidRange if none of the bytes exist.
    """
    found = _RANGE.fullmatch(value) if value is not None else None
    if found is None or found[1] == found[2] == "" or max(len(found[1]), len(found[2])) > _DIGITS_MAX:
        return None
    if found[1] == "":
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < start:
            return None
        stop = min(last + 1, size)
    if start >= stop:
        unsatisfied = {"content-range": f"bytes */{size}"}  # RFC 9110, 15.5.17
        raise S3Error("InvalidRange", headers=unsatisfied, RangeRequested=value, ActualObjectSize=size)
    return Span(start, stop, size)


def parse_copy_range(value: str | None) -> tuple[int, int] | None:
    """First and last byte (inclusive) of ``x-amz-copy-source-range``; None: all.

    Raises: S3Error InvalidArgument for all but ``bytes=first-last``: what a copy takes is never guessed.
    """
    if value is None:
        return None
    found = _COPY_RANGE.fullmatch(value)
    if found is None or max(len(found[1]), len(found[2])) > _DIGITS_MAX or int(found[1]) > int(found[2]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    return int(found[1]), int(found[2])

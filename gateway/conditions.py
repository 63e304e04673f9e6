"""Conditional headers: what a request demands of the object that it finds (RFC 9110, section 13; S3's copy headers)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.errors import S3Error
from stratumfs.values import Conditions, ObjectInfo, ReadConditions

_ETAG = re.compile(r'\s*(?:W/)?(?:"([^"]*)"|([^",\s]+))\s*')
_COPY = "x-amz-copy-source-"


def read_conditions(headers: Mapping[str, str], prefix: str = "") -> ReadConditions | None:
    """Conditions of a read (of a copy's source, with *prefix*); None if there are none.

    Precedence (RFC 9110, 13.2.2) is settled here: a time beside an ETag condition of its kind is void.
    """
    match = _etags(headers.get(f"{prefix}if-match"))
    none_match = _etags(headers.get(f"{prefix}if-none-match"))
    modified = _seconds(headers.get(f"{prefix}if-modified-since")) if none_match is None else None
    unmodified = _seconds(headers.get(f"{prefix}if-unmodified-since")) if match is None else None
    if match is None and none_match is None and modified is None and unmodified is None:
        return None
    return ReadConditions(match, none_match, modified, unmodified)


def source_conditions(headers: Mapping[str, str]) -> ReadConditions:
    """Conditions that a copy makes on its source."""
    return read_conditions(headers, _COPY) or ReadConditions()


def write_conditions(headers: Mapping[str, str]) -> Conditions:
    """Conditions of a write on what it replaces; the store decides them inside the write's transaction.

    Raises: S3Error NotImplemented for conditions that no S3 write has, for to ignore one would be to lose data.
    """
    for name in ("if-modified-since", "if-unmodified-since"):
        if name in headers:
            raise S3Error("NotImplemented", Header=name)
    return Conditions(_etags(headers.get("if-match")), _etags(headers.get("if-none-match")))


def range_holds(condition: str | None, info: ObjectInfo) -> bool:
    """If-Range: whether a Range header still means this version (an ETag, or the exact Last-Modified)."""
    if condition is None:
        return True
    seconds = _seconds(condition)
    if seconds is not None:
        return seconds == info.modified_ns // 1_000_000_000
    # A weak ETag never holds: the bytes of two parts must fit together.
    return not condition.startswith("W/") and condition.strip().strip('"') == info.etag


def _etags(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else etag_list(value)


def etag_list(value: str) -> tuple[str, ...]:
    """ETags of a list, without quotes. S3 takes them without quotes too, and clients send them so.

    Raises: S3Error InvalidArgument.
    """
    found, at = [], 0
    while at < len(value):
        tag = _ETAG.match(value, at)
        if tag is None:
            raise S3Error("InvalidArgument", "The list of entity tags is not valid.", ArgumentValue=value)
        found.append(tag[1] if tag[1] is not None else tag[2])
        at = tag.end()
        if at < len(value) and value[at] != ",":
            raise S3Error("InvalidArgument", "The list of entity tags is not valid.", ArgumentValue=value)
        at += 1
    if not found:
        raise S3Error("InvalidArgument", "The list of entity tags is empty.", ArgumentValue=value)
    return tuple(found)


def _seconds(value: str | None) -> int | None:
    """An HTTP date, or the ISO form that S3 takes too; a date that is none is void, as RFC 9110 (13.1.3) wants it."""
    if value is None:
        return None
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() // 1)

"""The state of the engine as bytes: a line of JSON, and behind it the packed columns that it counts on.

Bytes: magic, CRC-32 of all that follows, length of the JSON, the JSON, then each column; a column stands in the JSON as
``{"bytes": length}``, in the order of the columns. Columns are in the byte order of the machine, which the JSON names:
this is a memory of heat, kept on the machine that has it, and what cannot be read is begun anew.
"""

import json
import struct
import sys
import zlib
from collections.abc import Generator
from typing import Any

_MAGIC = b"STRHEAT1"
_HEAD = struct.Struct("<8sII")


def drained(steps: Generator[None, None, dict[str, Any]]) -> dict[str, Any]:
    """What they come to, all at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            return found


def encode(state: dict[str, Any]) -> bytes:
    """*state*: plain values of JSON, and bytes in dicts and lists. No dict of it has the key ``bytes``."""
    columns: list[bytes] = []
    text = json.dumps({"order": sys.byteorder, "state": _stripped(state, columns)}).encode()
    rest = b"".join((text, *columns))
    return _HEAD.pack(_MAGIC, zlib.crc32(rest), len(text)) + rest


def decode(data: bytes) -> dict[str, Any]:
    """Raises: ValueError if *data* is not what `encode` gave, all of it."""
    if len(data) < _HEAD.size:
        raise ValueError("the state is cut off")
    magic, crc, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("the state is of another format")
    rest = memoryview(data)[_HEAD.size :]
    if zlib.crc32(rest) != crc:
        raise ValueError("the state is damaged")
    found = json.loads(bytes(rest[:length]))
    if found["order"] != sys.byteorder:
        raise ValueError("the state is of another machine")
    restored, end = _restored(found["state"], rest, length)
    if end != len(rest) or not isinstance(restored, dict):
        raise ValueError("the state is damaged")
    return restored


def _stripped(value: Any, columns: list[bytes]) -> Any:
    if isinstance(value, bytes):
        columns.append(value)
        return {"bytes": len(value)}
    if isinstance(value, dict):
        return {name: _stripped(each, columns) for name, each in value.items()}
    if isinstance(value, list):
        return [_stripped(each, columns) for each in value]
    return value


def _restored(value: Any, rest: memoryview, at: int) -> tuple[Any, int]:
    if isinstance(value, dict):
        if value.keys() == {"bytes"}:
            return bytes(rest[at : at + value["bytes"]]), at + value["bytes"]
        made = {}
        for name, each in value.items():
            made[name], at = _restored(each, rest, at)
        return made, at
    if isinstance(value, list):
        items = []
        for each in value:
            item, at = _restored(each, rest, at)
            items.append(item)
        return items, at
    return value, at

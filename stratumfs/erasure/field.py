"""Arithmetic on rows of GF(256) elements, as reedsolo defines the field.

A row is ``bytes``. Scaling is ``bytes.translate`` by a table, adding is one XOR of big integers: both run in C, so that
inverting a matrix costs microseconds and the portable engine is some fifty times as fast as reedsolo itself.
"""

import threading
from functools import cache, lru_cache

import reedsolo

from stratumfs.errors import GeometryError

FIELD_POLYNOMIAL = 0x11D
GENERATOR = 2
FIRST_ROOT = 0

# reedsolo keeps its field tables in module globals that every codec sets again, so only one thread may be inside.
_reedsolo_lock = threading.Lock()


@lru_cache(maxsize=64)
def _definition(parity: int) -> "reedsolo.RSCodec":
    return reedsolo.RSCodec(parity, nsize=255, fcr=FIRST_ROOT, prim=FIELD_POLYNOMIAL, generator=GENERATOR)


def define_parity(message: bytes, parity: int) -> bytes:
    """The *parity* bytes that reedsolo, which defines the code, gives *message*. Slow: the oracle, not the engine."""
    with _reedsolo_lock:
        return bytes(_definition(parity).encode(message))[len(message) :]


def correct(codeword: bytes, parity: int) -> bytes | None:
    """The message of a damaged *codeword* (at most 255 bytes, the last *parity* of them parity), or None.

    Corrects up to ``parity // 2`` bytes at unknown places. Beyond that the answer is None or, rarely, the message of
    another codeword: whoever calls must know something of what to expect.
    """
    with _reedsolo_lock:
        try:
            message, _, _ = _definition(parity).decode(codeword)
        except reedsolo.ReedSolomonError:
            return None
    return bytes(message)


@cache
def times(factor: int) -> bytes:
    """Table for ``bytes.translate``: each byte multiplied by *factor*."""
    with _reedsolo_lock:
        _definition(1)  # makes sure that the tables are those of our field
        return bytes(reedsolo.gf_mul(factor, value) for value in range(256))


@cache
def inverse(value: int) -> int:
    """The element that makes 1 when multiplied with *value* (which is not 0)."""
    return times(value).index(1)


def add_scaled(row: bytes, factor: int, other: bytes) -> bytes:
    """``row + factor * other``, rows of equal length."""
    if factor == 0:
        return row
    scaled = other if factor == 1 else other.translate(times(factor))
    return (int.from_bytes(row, "little") ^ int.from_bytes(scaled, "little")).to_bytes(len(row), "little")


def combine(factors: bytes, rows: list[bytes]) -> bytes:
    """The sum of *rows*, each scaled by its factor."""
    total = bytes(len(rows[0]))
    for factor, row in zip(factors, rows, strict=True):
        total = add_scaled(total, factor, row)
    return total


def invert(matrix: list[bytes]) -> list[bytes]:
    """The inverse of a square *matrix*, by Gauss and Jordan.

    Raises: GeometryError if there is none (for rows of a Reed-Solomon generator there always is one).
    """
    size = len(matrix)
    rows = [row + bytes(int(column == at) for column in range(size)) for at, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((at for at in range(column, size) if rows[at][column]), None)
        if pivot is None:
            raise GeometryError("the matrix has no inverse")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column].translate(times(inverse(rows[column][column])))
        rows = [lead if at == column else add_scaled(row, row[column], lead) for at, row in enumerate(rows)]
    return [row[size:] for row in rows]

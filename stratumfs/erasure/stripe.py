"""A stripe: a payload cut into *k* data cells, and the parity cells that belong to them."""

from stratumfs.erasure.code import Code, Codec
from stratumfs.errors import GeometryError
from stratumfs.ids import Buffer
from stratumfs.limits import STRIPE_PAYLOAD_MAX


def cell_size_for(payload: int, code: Code) -> int:
    """Bytes of each cell of a stripe of *payload* bytes.

    Raises: GeometryError if a stripe can't have that much payload, or none.
    """
    if not 0 < payload <= STRIPE_PAYLOAD_MAX:
        raise GeometryError(f"a stripe holds 1 to {STRIPE_PAYLOAD_MAX} bytes, not {payload}")
    return -(-payload // code.k)


def split(payload: Buffer, code: Code) -> list[memoryview]:
    """The *k* data cells of *payload*: views into it, but for those at its end that need padding by zeros."""
    view = memoryview(payload).cast("B")
    size = cell_size_for(len(view), code)
    whole = len(view) // size
    cells = [view[at * size : (at + 1) * size] for at in range(whole)]
    if whole < code.k:
        tail = bytearray((code.k - whole) * size)
        rest = view[whole * size :]
        tail[: len(rest)] = rest
        padded = memoryview(tail)
        cells += [padded[at * size : (at + 1) * size] for at in range(code.k - whole)]
    return cells


def encode(payload: Buffer, codec: Codec) -> list[memoryview]:
    """The *n* cells of a stripe, data first, by index; the data cells lie in *payload* where they can.

    Raises: GeometryError as `cell_size_for`.
    Source: Plank, "A Tutorial on Reed-Solomon Coding for Fault-Tolerance in RAID-like Systems", 1997.
    """
    data = split(payload, codec.code)
    return data + codec.encode(data, len(data[0]))

"""Ids and units. A NewType each, so that a checker catches the swap."""

import os
from collections.abc import Hashable
from typing import NewType, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes, lent by the caller."""

InodeNo = NewType("InodeNo", int)
"""For ever; 1 is the root. Never reused, comes in blocks (DESIGN: a commit that a power cut unmade must not hand its
ids out again)."""
Cookie = NewType("Cookie", int)
"""Position of an entry in its directory's readdir order; never reused."""
ExtentId = NewType("ExtentId", int)
"""Of one extent row; never reused, so that a stale swap cannot hit a newer extent."""
VolumeId = NewType("VolumeId", bytes)
"""128 random bits."""
UploadId = NewType("UploadId", bytes)
"""128 random bits."""
DeviceId = NewType("DeviceId", bytes)
"""128 random bits."""
PlaceId = NewType("PlaceId", bytes)
"""Of a place that can hold the catalog: a device's id, or `STORE_PLACE`."""
Disk: TypeAlias = Hashable
"""Equal for folders that fail together: their ``st_dev``."""
StoreId = NewType("StoreId", bytes)
"""128 random bits."""
StripeNo = NewType("StripeNo", int)
"""Number of a stripe in its volume, from 0; written once."""
CellIndex = NewType("CellIndex", int)
"""0 to k-1 are data cells, k to n-1 parity cells; also the index of the shard that holds it."""
Nonce = NewType("Nonce", int)
"""64 bits, of one write of one stripe; consecutive stripes of one run have consecutive nonces (mod 2**64)."""

ROOT_INODE = InodeNo(1)
STORE_PLACE = PlaceId(bytes(16))
"""The store folder."""

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def random_id() -> bytes:
    """128 random bits, for ids that leave the catalog."""
    return os.urandom(16)


def random_nonce() -> Nonce:
    """64 random bits: the nonce of the first stripe of a run."""
    return Nonce(int.from_bytes(os.urandom(8), "little"))

"""Where an extent's bytes lie: the one value that catalog, volumes and store share."""

from typing import NamedTuple

from stratumfs.ids import Nonce, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX

NONCE_MASK = (1 << 64) - 1
CELL_HEADER_SIZE = 128
"""Bytes before each cell in a shard file (format 1)."""


class Location(NamedTuple):
    """A run of bytes in consecutive stripes of one volume.

    All stripes of a run but the last are *full*: STRIPE_PAYLOAD_MAX payload bytes, the same cell_size, numbers,
    positions and nonces counting up from those of the first. A short stripe is a run of its own.

    stripe     number of the first stripe
    position   offset, in every shard file alike, of the header of that stripe's cell
    cell_size  bytes of one cell, header not counted
    skip       offset of the run's first byte in the first stripe's payload
    nonce      of the first stripe
    """

    volume: VolumeId
    stripe: StripeNo
    position: int
    cell_size: int
    skip: int
    nonce: Nonce

    @property
    def stride(self) -> int:
        """Bytes of a stripe in each shard file."""
        return CELL_HEADER_SIZE + self.cell_size

    def advanced(self, count: int) -> "Location":
        """The location of the byte *count* bytes further on in the run."""
        steps, skip = divmod(self.skip + count, STRIPE_PAYLOAD_MAX)
        return Location(
            self.volume,
            StripeNo(self.stripe + steps),
            self.position + steps * self.stride,
            self.cell_size,
            skip,
            Nonce((self.nonce + steps) & NONCE_MASK),
        )

    def continues(self, length: int, other: "Location") -> bool:
        """True if *other* begins exactly where a run of *length* bytes from here ends, so that both are one run."""
        return self.skip + length >= STRIPE_PAYLOAD_MAX and other.skip == 0 and self.advanced(length) == other

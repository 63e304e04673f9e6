"""The bytes of headers."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratumfs.erasure.code import Code
from stratumfs.erasure.field import define_parity
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import GeometryError, ShardCorrupt
from stratumfs.ids import CellIndex, DeviceId, Nonce, StoreId, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.volumes.block import corrected, seal_blocks
from stratumfs.volumes.format import (
    HEADER_SIZE,
    CellHeader,
    StripeAt,
    VolumeInfo,
    expected_digest,
    pack_headers,
    stripes_of,
    unpack_header,
)

HEADER = CellHeader(
    StoreId(b"S" * 16),
    VolumeId(b"V" * 16),
    Code(4, 2),
    CellIndex(5),
    StripeNo(7),
    Nonce(2**64 - 1),
    999,
    250,
    b"H" * 32,
)
VOLUME = VolumeInfo(HEADER.volume, "hot", HEADER.code, tuple(DeviceId(bytes([at]) * 16) for at in range(6)))
AT = StripeAt(HEADER.stripe, 0, HEADER.cell_length, HEADER.nonce)


def test_a_header_lies_as_the_manual_says() -> None:
    block = pack_headers([HEADER])[0]
    assert len(block) == HEADER_SIZE == 128
    assert block[:8] == b"sfCE" + bytes([1, 4, 2, 5])
    assert block[8:24] == b"S" * 16
    assert block[24:40] == b"V" * 16
    assert struct.unpack_from("<QQII", block, 40) == (7, 2**64 - 1, 999, 250)
    assert block[64:96] == b"H" * 32
    assert block[96:100] == bytes(4)
    assert block[100:] == define_parity(block[:100], 28)


@settings(deadline=None)
@given(st.sets(st.integers(0, 127), max_size=14), st.data())
def test_fourteen_flipped_bytes_anywhere_are_corrected(places: set[int], data: st.DataObject) -> None:
    block = bytearray(pack_headers([HEADER])[0])
    for place in places:
        block[place] ^= data.draw(st.integers(1, 255))
    assert unpack_header(block) == HEADER
    assert corrected(block) == pack_headers([HEADER])[0]


def test_more_damage_is_refused() -> None:
    block = bytearray(pack_headers([HEADER])[0])
    block[:60] = bytes(60)
    with pytest.raises(ShardCorrupt):
        unpack_header(block)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"sfXX"),
        (4, b"\x02"),
        (5, b"\x00"),
        (5, b"\xff\xff"),
        (7, b"\x06"),
        (60, bytes(4)),
        (56, bytes(4)),
        (56, b"\xe9\x03"),
    ],
)
def test_a_sound_block_that_is_no_possible_header_is_refused(offset: int, value: bytes) -> None:
    fields = bytearray(pack_headers([HEADER])[0][:100])
    fields[offset : offset + len(value)] = value
    with pytest.raises(ShardCorrupt):
        unpack_header(seal_blocks([bytes(fields)])[0])


def test_a_hash_is_believed_only_for_the_very_write_asked_for() -> None:
    block = pack_headers([HEADER])[0]
    assert expected_digest(block, HEADER.store, VOLUME, HEADER.index, AT) == HEADER.digest
    for at in (
        StripeAt(StripeNo(8), 0, 250, HEADER.nonce),
        StripeAt(HEADER.stripe, 0, 251, HEADER.nonce),
        StripeAt(HEADER.stripe, 0, 250, Nonce(1)),
    ):
        assert expected_digest(block, HEADER.store, VOLUME, HEADER.index, at) is None
    assert expected_digest(block, HEADER.store, VOLUME, CellIndex(4), AT) is None
    assert expected_digest(block, StoreId(bytes(16)), VOLUME, HEADER.index, AT) is None


def test_a_run_names_each_of_its_stripes() -> None:
    size = cell_size_for(STRIPE_PAYLOAD_MAX, Code(3, 2))
    run = Location(HEADER.volume, StripeNo(3), 1000, size, 5, Nonce(2**64 - 1))
    assert list(stripes_of(run, STRIPE_PAYLOAD_MAX - 4)) == [
        StripeAt(StripeNo(3), 1000, size, Nonce(2**64 - 1)),
        StripeAt(StripeNo(4), 1128 + size, size, Nonce(0)),
    ]
    assert len(list(stripes_of(run, STRIPE_PAYLOAD_MAX - 5))) == 1
    assert list(stripes_of(run, 0)) == []


def test_a_volume_has_a_device_for_each_shard() -> None:
    with pytest.raises(GeometryError):
        VolumeInfo(HEADER.volume, "hot", Code(4, 2), VOLUME.devices[:5])

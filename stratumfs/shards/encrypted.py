"""One volume as it lies in somebody's S3: encrypted in segments, so that ranges can be read. Pure.

Every byte is described in stratumfs-format(5). A header of ``HEADER_SIZE`` bytes has, wrapped by the master key, the
volume's id, its own random key and its length; behind it lie segments of ``SEGMENT`` bytes, each with its tag. The
nonce of a segment is its number and whether it is the last: segments that were swapped, left out, cut off, or come from
another object fail their check. That nonces count is safe, for a key is that of one object that is written once.

Source: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance",
2015 (STREAM).
"""

import os
import struct
from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratumfs.errors import ShardCorrupt
from stratumfs.ids import Buffer, StoreId, VolumeId
from stratumfs.room import room

KEY_SIZE = 32
HEADER_SIZE = 128
SEGMENT = 1 << 16
TAG = 16

_MAGIC = struct.Struct("<4sBB2x")
_BEGINNING = _MAGIC.pack(b"sfCO", 1, SEGMENT.bit_length() - 1)
_WRAPPED = struct.Struct("<16s32sQ")
_NONCE = struct.Struct("<QB3x")
_NONCE_SIZE = 12
_WRAPPED_AT = len(_BEGINNING) + _NONCE_SIZE
_WRAPPED_END = _WRAPPED_AT + _WRAPPED.size + TAG
_WRAP, _NAME = "stratumfs 2026 cold tier: wraps keys of volumes", "stratumfs 2026 cold tier: names objects"
assert _WRAPPED_END <= HEADER_SIZE
assert _NONCE.size == _NONCE_SIZE


class MasterKey:
    """Of a store's cold tier. From it follow the key that wraps those of volumes, and the one that names objects."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_SIZE
        self.wrap = AESGCM(blake3(key, derive_key_context=_WRAP).digest())
        self._naming = blake3(key, derive_key_context=_NAME).digest()

    @property
    def fingerprint(self) -> str:
        """Says which key it is, and nothing of it."""
        return blake3(b"", key=self._naming).hexdigest(8)

    def name(self, volume: VolumeId) -> str:
        """Of a volume's object: random to whoever has not the key, and found again without the catalog."""
        return blake3(volume, key=self._naming).hexdigest(16)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a header says. length: of the plaintext."""

    volume: VolumeId
    cipher: AESGCM
    length: int

    @property
    def segments(self) -> int:
        return max(1, -(-self.length // SEGMENT))

    def range(self, position: int, length: int) -> tuple[int, int]:
        """Where, in the object, the segments lie that hold these bytes of the plaintext: offset, length."""
        first, end = position // SEGMENT, min(self.segments, -(-(position + length) // SEGMENT))
        begin = HEADER_SIZE + first * (SEGMENT + TAG)
        stop = HEADER_SIZE + min(end * (SEGMENT + TAG), self.length + self.segments * TAG)
        return begin, stop - begin

    def decrypt(self, store: StoreId, position: int, length: int, data: Buffer) -> memoryview:
        """*length* bytes of the plaintext at *position*, both within it, of *data*, the object's bytes of that `range`.

        Raises: ShardCorrupt.
        """
        first = position // SEGMENT
        view = memoryview(data)
        if 0 < len(view) % (SEGMENT + TAG) < TAG:  # no segment at all
            raise self._cut_off()
        numbers = range(first, first + -(-len(view) // (SEGMENT + TAG)))
        plain = room(len(view) - len(numbers) * TAG)
        for at, number in enumerate(numbers):
            piece = view[at * (SEGMENT + TAG) : (at + 1) * (SEGMENT + TAG)]
            try:
                place = plain[at * SEGMENT : at * SEGMENT + len(piece) - TAG]
                self.cipher.decrypt_into(_nonce(number, self.segments), piece, store + self.volume, place)
            except InvalidTag:
                raise ShardCorrupt(
                    f"volume {self.volume.hex()}: segment {number} of its object is not what was written"
                ) from None
        begin = position - first * SEGMENT
        if begin + length > len(plain):
            raise self._cut_off()
        return plain.toreadonly()[begin : begin + length]

    def _cut_off(self) -> ShardCorrupt:
        return ShardCorrupt(f"volume {self.volume.hex()}: its object ends before its end")


def encrypt(master: MasterKey, store: StoreId, volume: VolumeId, plain: Buffer) -> memoryview:
    """The object of a volume, under a key of its own that is made here: never twice for one name."""
    key, nonce = os.urandom(KEY_SIZE), os.urandom(_NONCE_SIZE)
    cipher, view = AESGCM(key), memoryview(plain)
    segments = max(1, -(-len(view) // SEGMENT))
    whole = room(HEADER_SIZE + len(view) + segments * TAG)
    wrapped = master.wrap.encrypt(nonce, _WRAPPED.pack(volume, key, len(view)), _bound(store, master.name(volume)))
    whole[:HEADER_SIZE] = (_BEGINNING + nonce + wrapped).ljust(HEADER_SIZE, b"\0")
    at = HEADER_SIZE
    for number in range(segments):
        piece = view[number * SEGMENT : (number + 1) * SEGMENT]
        end = at + len(piece) + TAG
        cipher.encrypt_into(_nonce(number, segments), piece, store + volume, whole[at:end])
        at = end
    return whole.toreadonly()


def open_header(master: MasterKey, store: StoreId, name: str, header: Buffer) -> Opened:
    """What the first ``HEADER_SIZE`` bytes of the object called *name* say.

    Raises: ShardCorrupt if they are no header, of another store or name, or wrapped by another key.
    """
    block = bytes(header)
    if not block.startswith(_BEGINNING) or len(block) != HEADER_SIZE:
        raise ShardCorrupt(f"object {name} is no volume that this version can read")
    nonce, wrapped = block[len(_BEGINNING) : _WRAPPED_AT], block[_WRAPPED_AT:_WRAPPED_END]
    try:
        volume, key, length = _WRAPPED.unpack(master.wrap.decrypt(nonce, wrapped, _bound(store, name)))
    except InvalidTag:
        raise ShardCorrupt(f"object {name} is damaged, or of another store, or wrapped by another key") from None
    return Opened(VolumeId(volume), AESGCM(key), length)


def _bound(store: StoreId, name: str) -> bytes:
    return _BEGINNING + store + name.encode()


def _nonce(number: int, segments: int) -> bytes:
    return _NONCE.pack(number, number == segments - 1)

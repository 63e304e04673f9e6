"""What owners of objects wish, from words to numbers: pins, hints, storage classes."""

from collections.abc import Mapping, Sequence

from stratumfs.catalog.residence import Residence
from tiering.signals import Hint

HINT_METADATA = "stratum-hint"
"""S3 metadata without its prefix: ``x-amz-meta-stratum-hint``."""
_WORDS = {"hot": Hint.HOT, "cold": Hint.COLD}
_CLASSES: Mapping[str, Hint] = {
    "EXPRESS_ONEZONE": Hint.HOT,
    "STANDARD_IA": Hint.COLD,
    "ONEZONE_IA": Hint.COLD,
    "GLACIER": Hint.COLD,
    "GLACIER_IR": Hint.COLD,
    "DEEP_ARCHIVE": Hint.COLD,
}


def wish_of(found: Residence, pin: bytes | None, tiers: Sequence[str]) -> int:
    """As ``Signals`` keeps it. *pin*: the nearest one; of a tier that there is not, it says nothing."""
    name = pin.decode("ascii", "replace").strip().lower() if pin is not None else ""
    if name in tiers:
        return Hint.PIN_FIRST + tiers.index(name)
    word = found.metadata.get(HINT_METADATA)
    if word is not None:
        return _WORDS.get(word.strip().lower(), Hint.NONE)
    return _CLASSES.get(found.storage_class, Hint.NONE)

"""What owners of objects wish, from words to numbers: pins, hints, storage classes."""

from collections.abc import Mapping, Sequence

from stratumfs.catalog.residence import Residence
from tiering.signals import Hint

HINT_METADATA = "stratum-hint"
"""S3 metadata without its prefix: ``x-amz-meta-stratum-hint``."""
_WORDS = {"hot": Hint.HOT, "cold": Hint.COLD}
_CLASSES: Mapping[str, Hint] = {"STANDARD_IA": Hint.COLD, "ONEZONE_IA": Hint.COLD, "GLACIER_IR": Hint.COLD}


def wish_of(found: Residence, pin: bytes | None, tiers: Sequence[str]) -> int:
    """As ``Signals`` keeps it. *pin*: the nearest one; of a tier that there is not, it says nothing.

    What was restored stays until its date, and is told then to go back.
    """
    at = pinned_to(pin, tiers)
    if at is not None:
        return Hint.PIN_FIRST + at
    if found.restored is not None:
        return Hint.KEPT
    return hint_of(found.metadata, found.storage_class)


def pinned_to(pin: bytes | None, tiers: Sequence[str]) -> int | None:
    """None of a pin that says nothing, or names a tier that there is not."""
    name = pin.decode("ascii", "replace").strip().lower() if pin is not None else ""
    return tiers.index(name) if name in tiers else None


def hint_of(metadata: Mapping[str, str], storage_class: str) -> Hint:
    """The metadata come before the class."""
    word = metadata.get(HINT_METADATA)
    if word is not None:
        return _WORDS.get(word.strip().lower(), Hint.NONE)
    return _CLASSES.get(storage_class, Hint.NONE)

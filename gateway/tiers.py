"""Tiers of the store as S3 speaks of them: storage classes."""

STANDARD = "STANDARD"
COLD = "cold"
_OF_TIER = {
    "hot": (STANDARD, "REDUCED_REDUNDANCY", "INTELLIGENT_TIERING"),
    "warm": ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
    # Not GLACIER: clients do not even try to read what has that class and was not restored, and ours can be read.
    COLD: ("GLACIER_IR", "INTELLIGENT_TIERING"),
}
"""Classes that an object in a tier may be said to have; the first where its writer asked for none of them."""


def is_cold(tier: str) -> bool:
    return tier == COLD


def shown_class(asked: str, tier: str) -> str:
    """The class of where the bytes are; what the writer *asked* for if it is one of those, or they are in no tier."""
    classes = _OF_TIER.get(tier, (asked,))
    return asked if asked in classes else classes[0]

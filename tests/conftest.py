"""Fixtures that tests of several folders share."""

from tests.doors import doors, shared_doors, tiered

__all__ = ["doors", "shared_doors", "tiered"]

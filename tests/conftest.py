"""Fixtures that tests of several folders share."""

import signal

from tests.doors import doors, shared_doors, tiered

__all__ = ["doors", "shared_doors", "tiered"]

# A shell ignores it in what runs in the background, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

"""Python's collector of cycles, told to look seldom.

What a request makes goes when nothing names it any more, so that the collector finds next to nothing; by default it
looks with every 700 objects more, which one page of a listing makes twice, and at all that was imported too.
"""

import gc

from stratumfs.limits import GARBAGE_OBJECTS


def collect_rarely() -> None:
    """To be called when all is imported that will be."""
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])

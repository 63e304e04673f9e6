"""Tests of the engine count what is synced, and a disk takes a thousand times longer for it: theirs is memory."""

from tests.faults.place import memory, tmp_path

__all__ = ["memory", "tmp_path"]

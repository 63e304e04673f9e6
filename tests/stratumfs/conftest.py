"""Tests of parts of the store count syncs, and a disk takes a thousand times longer for one: theirs is memory."""

from tests.faults.place import memory, tmp_path

__all__ = ["memory", "tmp_path"]

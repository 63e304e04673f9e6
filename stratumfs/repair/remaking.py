"""Volumes whose shards somebody makes, of whom there is one at a time: a repair makes them where rows say, and a shard
that is installed where the volume has been meanwhile would stay there, for no row knew it."""

from collections.abc import Iterator
from contextlib import contextmanager

from stratumfs.ids import VolumeId


class Remaking:
    """One a store, on its loop. Nobody waits for it: a volume is tried again later."""

    def __init__(self) -> None:
        self._volumes: set[VolumeId] = set()

    @contextmanager
    def one(self, ident: VolumeId) -> Iterator[bool]:
        """Whether nobody else makes shards of it; then nobody does in the block."""
        alone = ident not in self._volumes
        self._volumes.add(ident)
        try:
            yield alone
        finally:
            if alone:
                self._volumes.discard(ident)

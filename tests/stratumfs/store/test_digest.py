"""MD5 beside a stream: in order, whatever waits is hashed together."""

import hashlib
import os
from collections.abc import Callable, Sequence

import pytest
import trio

from stratumfs.errors import StoreClosing
from stratumfs.limits import HASH_INLINE, HASHED_TOGETHER
from stratumfs.store.digest import StreamDigest
from stratumfs.volumes.threads import LendingThreads


class Counted(LendingThreads):
    """Remembers how many bytes each hop took along."""

    def __init__(self) -> None:
        super().__init__(1)
        self.hops: list[int] = []

    async def run(self, fn: Callable[[Sequence[bytes]], None], batch: Sequence[bytes]) -> None:  # type: ignore[override]
        self.hops.append(sum(map(len, batch)))
        await super().run(fn, batch)


async def test_what_waits_is_hashed_together_and_in_order() -> None:
    threads = Counted()
    pieces = [os.urandom(HASH_INLINE + number) for number in range(1, 100)]
    async with trio.open_nursery() as nursery:
        digest = StreamDigest(nursery, threads)
        for piece in pieces:
            digest.update(piece)
        assert await digest.digest() == hashlib.md5(b"".join(pieces), usedforsecurity=False).digest()
    assert len(threads.hops) == -(-sum(map(len, pieces)) // HASHED_TOGETHER)
    assert max(threads.hops) <= HASHED_TOGETHER


async def test_what_is_longer_goes_alone_and_what_is_short_does_not_hop() -> None:
    threads = Counted()
    long, short = os.urandom(HASHED_TOGETHER + 1), os.urandom(HASH_INLINE)
    async with trio.open_nursery() as nursery:
        digest = StreamDigest(nursery, threads)
        assert digest.update(short) is None
        hashed = digest.update(long)
        assert hashed is not None
        await hashed.wait()
        assert digest.update(short) is None
        expected = hashlib.md5(short + long + short, usedforsecurity=False).digest()
        assert await digest.digest() == expected
    assert threads.hops == [len(long)]


async def test_regression_of_what_was_not_hashed_before_the_end_there_is_no_digest() -> None:
    """More than one hop takes was queued when the nursery was cancelled, and who asked for it spun for ever."""
    async with trio.open_nursery() as nursery:
        digest = StreamDigest(nursery, LendingThreads(1))
        for _ in range(3):
            digest.update(bytes(HASHED_TOGETHER))
        nursery.cancel_scope.cancel()
    with pytest.raises(StoreClosing), trio.fail_after(60):
        await digest.digest()

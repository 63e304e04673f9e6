"""The order of repairs."""

import pytest

from stratumfs.ids import VolumeId
from stratumfs.repair.queue import Exposed, RepairQueue


def exposed(name: str, margin: int, created_ns: int) -> Exposed:
    return Exposed(VolumeId(name.encode() * 16), margin, created_ns)


def drained(queue: RepairQueue) -> list[Exposed]:
    return [queue.pop() for _ in range(len(queue))]


def test_the_most_exposed_comes_first_then_the_oldest() -> None:
    found = [exposed("a", 1, 1), exposed("b", 0, 9), exposed("c", 0, 3), exposed("d", -1, 99)]
    queue = RepairQueue()
    for each in found:
        queue.offer(each)
    assert queue.first(2) == [found[3], found[2]]
    assert drained(queue) == [found[3], found[2], found[1], found[0]]
    with pytest.raises(IndexError):
        queue.pop()


def test_a_volume_waits_once_and_what_is_known_last_counts() -> None:
    queue = RepairQueue()
    for each in (exposed("a", 1, 1), exposed("b", 1, 2), exposed("b", 0, 2)):
        queue.offer(each)
    assert queue.pop() == exposed("b", 0, 2)
    queue.drop(VolumeId(b"a" * 16))
    queue.drop(VolumeId(b"a" * 16))
    assert len(queue) == 0


def test_beyond_its_bound_the_least_exposed_wait_for_the_next_look() -> None:
    queue = RepairQueue(2)
    for each in (exposed("a", 1, 1), exposed("b", 0, 2)):
        queue.offer(each)
    assert not queue.more
    queue.offer(exposed("c", 0, 3))
    assert queue.more
    assert [each.volume[:1] for each in drained(queue)] == [b"b", b"c"]


def test_beside_a_volume_only_one_that_is_as_exposed_is_repaired() -> None:
    queue = RepairQueue()
    for each in (exposed("a", 1, 1), exposed("b", 0, 2)):
        queue.offer(each)
    assert queue.pop_beside(exposed("c", 0, 0)) == exposed("b", 0, 2)
    assert queue.pop_beside(exposed("c", 0, 0)) is None
    assert queue.pop_beside(exposed("c", 1, 0)) == exposed("a", 1, 1)
    assert queue.pop_beside(exposed("c", 1, 0)) is None

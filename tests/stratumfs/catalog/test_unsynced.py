"""The map against a plain list of what was touched."""

from hypothesis import given
from hypothesis import strategies as st

from stratumfs.catalog.transaction import Seen, Touched
from stratumfs.catalog.unsynced import Call, Unsynced
from stratumfs.ids import InodeNo

inodes = st.frozensets(st.integers(1, 5).map(InodeNo), max_size=3)
names = st.frozensets(st.tuples(st.integers(1, 3).map(InodeNo), st.sampled_from([b"a", b"b"])), max_size=3)
transactions = st.lists(st.builds(Touched, inodes, names), max_size=3)


@given(st.lists(st.one_of(transactions, st.integers(0, 20)), max_size=20))
def test_the_last_unsynced_transaction_that_touched_something_is_found(steps: list[list[Touched] | int]) -> None:
    unsynced, sequence = Unsynced(), 0
    plain: dict[int, list[Touched]] = {}
    for step in steps:
        if isinstance(step, int):
            upto = min(step, sequence)
            unsynced.synced(upto)
            plain = {number: touched for number, touched in plain.items() if number > upto}
        else:
            sequence += 1
            unsynced.add(sequence, tuple(Call(print, (), None, touched) for touched in step))
            plain[sequence] = step
        for ino in map(InodeNo, range(1, 6)):
            by_inode = [n for n, calls in plain.items() if any(ino in c.inodes for c in calls)]
            assert unsynced.last(inodes=[ino]) == max(by_inode, default=0)
            by_listing = [n for n, calls in plain.items() if any(ino == p for c in calls for p, _ in c.names)]
            assert unsynced.last_seen(Seen(directories=frozenset({ino}))) == max(by_listing, default=0)
            by_name = [n for n, calls in plain.items() if any((ino, b"a") in c.names for c in calls)]
            assert unsynced.last(names=[(ino, b"a")]) == max(by_name, default=0)
    unsynced.synced(sequence)
    assert len(unsynced) == 0
    assert not unsynced._inodes
    assert not unsynced._names
    assert not unsynced._directories

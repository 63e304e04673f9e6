"""Handles and lookup counts."""

import pytest

from stratumfs.fuse import handles as handles_module
from stratumfs.fuse.handles import Handle, Handles, Lookups
from stratumfs.ids import InodeNo
from stratumfs.store.holds import Holds

INO = InodeNo(5)


def test_numbers_are_not_used_twice() -> None:
    handles: Handles[Handle] = Handles()
    first = handles.add(Handle(INO))
    assert handles.pop(first).ino == INO
    assert handles.add(Handle(INO)) != first


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles_module, "HANDLES_MAX", 1)
    handles: Handles[Handle] = Handles()
    assert not handles.full
    handles.add(Handle(INO))
    assert handles.full


def test_an_inode_is_held_as_long_as_the_kernel_knows_it() -> None:
    released: list[InodeNo] = []
    forgotten: list[InodeNo] = []
    holds = Holds(released.append)
    lookups = Lookups(holds, forgotten.append)
    for _ in range(3):
        lookups.add(INO)
    lookups.forget([(INO, 2), (InodeNo(99), 4)])
    assert INO in holds
    assert INO in lookups
    lookups.forget([(INO, 1)])
    assert INO not in holds
    assert (released, forgotten) == ([INO], [INO])


def test_at_the_end_all_is_let_go() -> None:
    holds = Holds(lambda ino: None)
    lookups = Lookups(holds, lambda ino: None)
    for number in range(10):
        lookups.add(InodeNo(number))
        lookups.add(InodeNo(number))
    lookups.forget_all()
    assert len(lookups) == len(holds) == 0

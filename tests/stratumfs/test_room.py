"""Memory that is about to be filled."""

import pytest

from stratumfs.room import room


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) + 1])
def test_it_has_the_size_asked_for_and_keeps_what_is_put_there(size: int) -> None:
    found = room(size)
    found[:] = b"x" * size
    assert (len(found), found.readonly, bytes(found)) == (size, False, b"x" * size)
    assert isinstance(found.obj, bytearray)

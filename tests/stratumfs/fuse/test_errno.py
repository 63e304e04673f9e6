"""Every error of the tree has an errno, chosen on purpose or inherited from one that was."""

import errno
from collections.abc import Iterator

import pytest

from stratumfs import errors
from stratumfs.fuse.errno import errno_of


def _tree(kind: type[errors.StratumError]) -> Iterator[type[errors.StratumError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


@pytest.mark.parametrize("kind", list(_tree(errors.StratumError)))
def test_every_error_has_an_errno(kind: type[errors.StratumError]) -> None:
    assert errno_of(kind("text")) in errno.errorcode


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (errors.NotFound, errno.ENOENT),
        (errors.StoreFull, errno.ENOSPC),
        (errors.StoreReadOnly, errno.EROFS),
        (errors.ShardCorrupt, errno.EIO),
        (errors.DeviceFailed, errno.EIO),
        (errors.CrossBucket, errno.EXDEV),
    ],
)
def test_what_programs_look_for(kind: type[errors.StratumError], number: int) -> None:
    assert errno_of(kind("text")) == number

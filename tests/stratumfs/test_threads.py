"""The want of a thread is told from an error in one."""

import pytest

from stratumfs.threads import in_thread


async def test_regression_who_finds_no_thread_in_a_thread_may_have_done_something_before() -> None:
    """So it is no DeviceUnasked, behind which nothing was done."""
    done = list[int]()

    def work() -> None:
        done.append(1)
        raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError, match="can't start new thread"):
        await in_thread(work)
    assert done == [1]

"""Waiting for a device, but not without end."""

import pytest
import trio
from trio.testing import MockClock

from stratumfs.errors import DeviceSilent, ShardMissing
from stratumfs.limits import REBUILD_READ_S
from stratumfs.repair.answer import in_time


async def never() -> None:
    await trio.sleep_forever()


async def test_who_does_not_answer_is_silent(autojump_clock: MockClock) -> None:
    with pytest.raises(DeviceSilent) as caught:
        await in_time("/disk", never())
    assert (caught.value.device, trio.current_time()) == ("/disk", REBUILD_READ_S)


async def test_an_answer_is_an_answer() -> None:
    async def late() -> int:
        await trio.lowlevel.checkpoint()
        return 5

    async def missing() -> None:
        await trio.lowlevel.checkpoint()
        raise ShardMissing("it is away")

    assert await in_time("/disk", late()) == 5
    with pytest.raises(ShardMissing):
        await in_time("/disk", missing())

"""Waiting for a device, but not without end."""

import threading

import pytest
import trio
from trio.testing import MockClock

from stratumfs.errors import DeviceSilent, ShardMissing
from stratumfs.ids import DeviceId
from stratumfs.limits import REBUILD_READ_S
from stratumfs.repair.answer import ask, doubt, in_time
from stratumfs.shards.memory import MemoryShards
from stratumfs.volumes.attached import AttachedDevice


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


async def test_a_device_that_hangs_is_asked_no_more_until_it_answers(autojump_clock: MockClock) -> None:
    """Each question would cost it another thread."""
    now, asked, answers = [0.0], threading.Event(), threading.Event()
    device = AttachedDevice(DeviceId(b"d" * 16), "/disk", MemoryShards(), clock=lambda: now[0])

    def hang() -> bool:
        asked.set()
        return answers.wait(60)

    with pytest.raises(DeviceSilent):
        await ask(device, hang)
    asked.wait(60)
    now[0] = 2 * REBUILD_READ_S
    with pytest.raises(DeviceSilent):
        await ask(device, len, "")
    assert (device.readers.borrowed_tokens, doubt(device)) == (1, (True, False))
    answers.set()

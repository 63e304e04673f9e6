"""How much is asked for ahead, by how fast it comes."""

import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.cold_limits import FLOW_FIRST, FLOW_MIN, FLOW_PART, RECALLED_BYTES
from stratumfs.ids import MIB, VolumeId
from stratumfs.limits import REPACK_BYTES
from stratumfs.shards.memory import MemoryShards
from stratumfs.shards.recalled import Piece, Recalled
from stratumfs.volumes.flow import Flow
from stratumfs.volumes.remote import Ahead

SECONDS = 15.0
PATIENCE_S = 60.0
VOLUME = VolumeId(b"v" * 16)


def carried(flow: Flow, rate: float, requests: int, *, together: bool) -> None:
    """So many requests, as many at once as may be, over a link of *rate* bytes a second. together: they share it."""
    while requests > 0:
        size, asked = min(4 * MIB, flow.most), list[int]()
        while flow.takes(size):
            asked.append(flow.begin(size))
        for before in asked:
            flow.end(size, before, (asked[-1] if together else before) / rate, came=True)
        requests -= len(asked)


@pytest.mark.parametrize("together", [True, False], ids=["together", "in-turn"])
@pytest.mark.parametrize("rate", [100e3, 1e6, 20e6, 500e6])
def test_what_is_on_its_way_comes_within_the_time(rate: float, together: bool) -> None:
    flow = Flow(SECONDS)
    assert flow.most == FLOW_FIRST
    carried(flow, rate, 50, together=together)
    assert flow.most >= min(FLOW_FIRST, 0.75 * rate * SECONDS)
    assert flow.most <= max(FLOW_MIN, 2.1 * rate * SECONDS)  # who shares a link with none at his end has more of it


def test_one_request_may_be_made_however_long_it_takes_and_what_fails_tells_that_nothing_comes() -> None:
    flow = Flow(SECONDS)
    for _ in range(20):
        assert flow.takes(4 * MIB)
        flow.end(4 * MIB, flow.begin(4 * MIB), 60.0, came=False)
    assert flow.most == FLOW_MIN
    flow.begin(MIB)
    assert not flow.takes(1)
    flow.end(MIB, MIB, 0.1, came=True)
    assert flow.most > FLOW_FIRST


class Held(MemoryShards):
    """What is fetched comes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.recalled = Recalled(RECALLED_BYTES)
        self.asked: list[Piece] = []
        self.go = threading.Event()

    def begin(self, volume: VolumeId, start: int, stop: int) -> Piece | None:
        piece = self.recalled.begin(volume, start, stop)
        if piece is not None:
            self.asked.append(piece)
        return piece

    def recall(self, piece: Piece) -> None:
        assert self.go.wait(PATIENCE_S)
        self.recalled.end(piece, bytes(piece.stop - piece.start))


async def test_regression_on_a_slow_link_a_move_asks_for_no_more_at_once_than_comes_before_its_deadline(
    mock_clock: MockClock,
) -> None:
    """Else 64 MiB come together in two minutes and more, and each that waits for a part of them has an error."""
    shards, rate, deadline_s, took = Held(), 400e3, 60.0, list[float]()
    async with trio.open_nursery() as nursery:
        ahead = Ahead(shards, nursery, deadline_s)
        for step in range(8):
            ahead.expect(VOLUME, [(2 * step * REPACK_BYTES, 2 * (step + 1) * REPACK_BYTES)])
            await wait_all_tasks_blocked()
            took.append(sum(piece.stop - piece.start for piece in shards.asked) / rate)
            mock_clock.jump(took[-1])
            shards.go.set()
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()
            shards.go.clear()
            shards.asked.clear()
            shards.recalled.forget(VOLUME)
    assert took[0] <= FLOW_FIRST / rate
    assert max(took[2:]) < deadline_s / 2
    assert 0 < took[-1] <= 1.1 * FLOW_PART * deadline_s  # whole segments

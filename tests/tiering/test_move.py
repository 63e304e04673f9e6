"""Moves that an owner finds when it opens."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.limits import MOVES_LOOK_S
from stratumfs.store.store import Store
from tests.faults import acts
from tests.stores import make_store, make_warm, running_store
from tests.stratumfs.store.helpers import put
from tiering.move import Mover


async def test_regression_a_move_that_another_owner_began_waits_until_the_store_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    make_store(tmp_path)
    make_warm(tmp_path)
    async with running_store(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", bytes(40_000))
        await Mover(store).ask(await acts.find(store, "bucket"), "warm", acts.UID, "by hand")
        reason: list[str | None] = ["too few devices are up"]
        monkeypatch.setattr(Store, "read_only", property(lambda store: reason[0]))
        mover = Mover(store)
        await mover.resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.serve)
            await wait_all_tasks_blocked()
            [move] = mover
            assert move.summary()["waits"] == "too few devices are up"
            reason[0] = None
            mock_clock.jump(MOVES_LOOK_S)
            await move.ended.wait()
            assert move.summary()["waits"] is None
            assert (move.outcome, move.moved) == ("done", 40_000)
            nursery.cancel_scope.cancel()

"""What an object is by its first bytes, with the real model."""

from pathlib import Path

import pytest
import trio

from tests.tiering.engines import Clock, running_engine
from tiering.kinds import KINDS
from tiering.sniff import Sniffer

SOURCE = Path(__file__).read_bytes()


@pytest.mark.slow
async def test_the_model_tells_what_a_name_does_not(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        ino = await running.put_bytes("nothing-told", SOURCE * (40_000 // len(SOURCE)))
        await running.engine.look()
        policy = running.engine.policy
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.engine.sniffer.serve)
            while not policy.signals.use(policy.signals.slot(ino) or 0, 0).kind:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert KINDS[policy.signals.use(policy.signals.slot(ino) or 0, 0).kind] == "code"


async def test_what_waits_is_bounded_and_a_missing_model_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        monkeypatch.setattr("tiering.sniff.SNIFFS_WAITING_MAX", 2)
        sniffer = Sniffer(running.store, running.engine.policy.kind)
        sniffer.available = True
        for _ in range(3):
            sniffer.ask(await running.put("key"))
        assert len(sniffer._queue) == 2
        sniffer.available = False
        await sniffer.serve()

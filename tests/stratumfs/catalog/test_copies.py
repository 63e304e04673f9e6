"""A copy that is given up."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.stratumfs.catalog.somewhere import make_catalog, open_at, places_in
from tests.stratumfs.catalog.toy import everything, put


async def test_a_copy_whose_disk_hangs_in_close_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = places_in(tmp_path, 7)
    make_catalog(places)
    release, closing = threading.Event(), threading.Event()

    def hanging(close: Callable[[int], None]) -> Callable[[int], None]:
        def hang(number: int) -> None:
            if f"/{victim.root.name}/" in os.readlink(f"/proc/self/fd/{number}"):
                closing.set()
                assert threading.current_thread() is not threading.main_thread(), "the loop waits for close(2)"
                assert release.wait(10)
            close(number)

        return hang

    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        victim = next(place for place in places if place.id == booted.members.copies[0].place)
        await catalog.commit(put, 1, b"held by all")
        monkeypatch.setattr(os, "close", hanging(os.close))
        await catalog.strike(victim.id, "it hangs")
        assert await trio.to_thread.run_sync(closing.wait, 10)
        await catalog.commit(put, 2, b"held by the others")
        assert await catalog.read(everything) == [(1, b"held by all"), (2, b"held by the others")]
        release.set()

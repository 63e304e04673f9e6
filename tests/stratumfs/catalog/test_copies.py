"""A copy that is given up."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from stratumfs.catalog import chains, copies
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
                assert release.wait(60)
            close(number)

        return hang

    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        victim = next(place for place in places if place.id == booted.members.copies[0].place)
        await catalog.commit(put, 1, b"held by all")
        monkeypatch.setattr(os, "close", hanging(os.close))
        await catalog.strike(victim.id, "it hangs")
        assert await trio.to_thread.run_sync(closing.wait, 60)
        await catalog.commit(put, 2, b"held by the others")
        assert await catalog.read(everything) == [(1, b"held by all"), (2, b"held by the others")]
        release.set()


async def test_a_call_that_opens_the_log_of_a_copy_that_was_given_up_meanwhile_closes_it_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would, but the loop when it drops the copy."""
    places = places_in(tmp_path, 7)
    make_catalog(places)
    opening, may = threading.Event(), threading.Event()
    sync = copies.fsync_path

    def stopped(path: Path) -> None:
        opening.set()
        assert may.wait(60)
        sync(path)

    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 1, b"held by all")
        copy = booted.members.copies[0]
        copy.close()
        monkeypatch.setattr(copies, "fsync_path", stopped)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, copy.hold, catalog._rounds.mark())
            assert await trio.to_thread.run_sync(opening.wait, 10)
            copy.give_up()
            may.set()
        assert copy._file is None


async def test_regression_the_log_of_a_copy_that_became_long_gives_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the primary's does: a small device was left with less room for ever."""
    monkeypatch.setattr(chains, "log_bytes_kept", lambda folder: 100_000)
    places = places_in(tmp_path, 7)
    make_catalog(places)
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        for ident in range(20):
            await catalog.commit(put, ident, b"x" * 50_000)
        for ident in range(20, 23):
            assert await catalog.checkpoint()
            await catalog.commit(put, ident, b"x")
        for copy in booted.members.copies:
            logs = [each for each in copy.folder.iterdir() if not each.name.startswith("base")]
            assert len(logs) == 2
            assert all(each.stat().st_size <= 100_000 for each in logs)
        await catalog.commit(put, 30, b"y" * 500_000)
    async with open_at(places) as (catalog, _):
        assert len(await catalog.read(everything)) == 24

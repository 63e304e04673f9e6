"""The scrubber: what it remembers, when its steps are due, and what it leaves alone."""

import os
import time
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.scrubs import DONE, SUPERSEDED, Pass, Stage, begin_pass, last_passes, save_pass, verified_at
from stratumfs.catalog.volumes import SEALED, VolumeRow, images, volumes
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex
from stratumfs.repair.inspect import table_damage
from stratumfs.repair.rows import volume_info
from stratumfs.repair.scrub import Damaged, Pace, Scrubber, due_in_s
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.store import Store
from stratumfs.volumes.append import toc_holders
from tests.faults.audit import audit_rows
from tests.faults.rot import flip
from tests.stratumfs.repair.stores import all_is_well, file_of, filled, only_volume, spoil
from tests.stratumfs.store.helpers import get, put

HOUR_NS = 3600 * 10**9


def test_steps_are_due_in_proportion() -> None:
    current = Pass(1, began_ns=10 * HOUR_NS)
    assert due_in_s(current, 0, 100, 1000.0, 10 * HOUR_NS) == 0.0
    assert due_in_s(current, 25, 100, 1000.0, 10 * HOUR_NS) == 250.0
    assert due_in_s(current, 25, 100, 1000.0, 11 * HOUR_NS) == 250.0 - 3600.0  # late
    assert due_in_s(current, 300, 100, 1000.0, 10 * HOUR_NS) == 1000.0  # the store has grown meanwhile
    assert due_in_s(current, 0, 0, 1000.0, 10 * HOUR_NS) == 1000.0


async def _now(store: Store) -> Pass:
    return (await store.catalog.read(last_passes, 1))[0]


async def test_what_nobody_reads_is_found_and_mended(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        spoil(store, row, 1, 5)
        await store.scrubber.wait_pass()
        await store.repairer.wait_settled()
        await all_is_well(store)
        done = await _now(store)
        assert (done.outcome, done.shards, done.bad_shards, done.volumes) == (DONE, 6, 2, 1)
        assert set(await store.catalog.read(verified_at, row.id)) == {0, 2, 3, 4}
        await store.scrubber.wait_pass()
        assert set(await store.catalog.read(verified_at, row.id)) == set(range(6))
        file_of(store, row, 3).unlink()
        await store.repairer.wait_settled()
        assert set(await store.catalog.read(verified_at, row.id)) == {0, 1, 2, 4, 5}  # nobody has read the new one
        await store.scrubber.wait_pass()
        assert (await _now(store)).bad_shards == 0


@pytest.mark.parametrize("at", [70, 120, 127])
async def test_a_header_that_could_be_corrected_is_made_anew(tmp_path: Path, at: int) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        with file_of(store, row, 3).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
        assert await get(store, b"key 0") is not None  # reads correct it
        assert store.damaged == set()
        await store.scrubber.wait_pass()
        await store.repairer.wait_settled()
        assert (await _now(store)).bad_shards == 1
        with file_of(store, row, 3).open("rb") as file:
            file.seek(at)
            assert file.read(1)[0] == byte


@pytest.mark.parametrize("kind", ["cut", "flipped", "behind"])
async def test_a_table_of_contents_is_written_behind_what_is_there(tmp_path: Path, kind: str) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        info = volume_info(row)
        cell = toc_holders(info)[0]
        path = file_of(store, row, cell)
        if kind == "cut":
            os.truncate(path, row.length)
        else:
            with path.open("r+b") as file:
                file.seek(-300 if kind == "flipped" else 0, os.SEEK_END)
                file.write(b"something")
        before = path.read_bytes()
        await store.scrubber.wait_pass()
        assert (await _now(store)).bad_shards == (kind != "cut")  # which might never have been written
        assert path.read_bytes().startswith(before)
        device = store.devices[row.devices[cell]]
        assert table_damage(device.shards, store.id, info, cell, row.length) is None
        assert cell in await store.catalog.read(verified_at, row.id)


async def test_a_pass_goes_on_with_the_next_owner(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        first = await only_volume(store)
        for number in range(3):
            await put(store, f"more {number}".encode(), os.urandom(50_000))
            await store.writer.volumes.seal_idle(0)
        begun = await store.catalog.write(begin_pass, 5)
        position = sorted([row.id for row in await _sealed(store)])[1]
        await store.catalog.write(save_pass, _at(begun, position))
        spoil(store, first, 0)
        told: list[bytes] = []
        own = _scrubber(store, lambda ident, *_: bool(told.append(ident)) or True)
        assert await own.round(at_once=False)  # it is late: nothing is waited for
        done = await _now(store)
        assert (done.id, done.outcome, done.volumes, done.shards) == (begun.id, DONE, 2 + 1, 12 + 7)
        assert told == ([first.id] if first.id > position else [])


def _at(current: Pass, position: bytes) -> Pass:
    return Pass(current.id, current.began_ns, stage=Stage.VOLUMES, position=position, volumes=1, shards=7)


async def _sealed(store: Store) -> list[VolumeRow]:
    return await store.catalog.read(volumes, SEALED)


async def _no_pace(_: float, __: int) -> None:
    await trio.lowlevel.checkpoint()


def _scrubber(store: Store, damaged: Damaged, period_s: float = 1000.0, pace: Pace = _no_pace) -> Scrubber:

    ledger = CatalogLedger(store.catalog)
    return Scrubber(
        store.id,
        store.catalog,
        store.devices,
        ledger,
        damaged=damaged,
        restored=lambda _: None,
        pace=pace,
        period_s=period_s,
    )


async def test_a_pass_that_is_asked_for_supersedes_the_one_under_way(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        await store.catalog.write(begin_pass, 5)
        await store.scrubber.wait_pass()
        new, old = (await store.catalog.read(last_passes))[:2]
        assert (new.outcome, old.outcome) == (DONE, SUPERSEDED)


async def test_a_device_that_is_away_is_nobodys_damage(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        store.devices[row.devices[2]].strike(DeviceFailed("it burns"))
        own = _scrubber(store, lambda *_: pytest.fail("told of"))
        assert await own.round(at_once=True)
        assert ((await _now(store)).shards, (await _now(store)).bad_shards) == (5, 0)
        assert set(await store.catalog.read(verified_at, row.id)) == {0, 1, 3, 4, 5}


async def test_a_volume_that_goes_while_it_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)

        async def gone(*_: object) -> bool:
            return False

        spoil(store, row, 0)
        monkeypatch.setattr(Scrubber, "_is_there", gone)
        own = _scrubber(store, lambda *_: pytest.fail("told of"))
        assert await own.round(at_once=True)
        assert (await _now(store)).bad_shards == 0


async def test_steps_wait_for_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody asks, nothing is read before it is due."""
    rests: list[float] = []

    async def rest(_: Scrubber, seconds: float) -> None:
        rests.append(seconds)

    async with filled(tmp_path) as store:
        await store.catalog.write(begin_pass, time.time_ns())
        own = _scrubber(store, lambda *_: True, period_s=1000.0)
        with monkeypatch.context() as patch:
            patch.setattr(Scrubber, "_rest", rest)
            assert await own.round(at_once=False)
            assert [each > 0 for each in rests] == [True] * 3  # rows, copies, the one volume
            assert rests[-1] > 900.0
            rests.clear()
            assert await own.round(at_once=True)
            assert rests == []
            assert await own.round(at_once=False)  # the next one begins a period after the last one
            assert rests[0] > 900.0


@pytest.mark.parametrize("kind", ["cell", "table", "missing"])
async def test_regression_a_bad_image_is_found_and_another_one_is_due(tmp_path: Path, kind: str) -> None:
    async with filled(tmp_path) as store:
        await store.imager.write()
        await store.scrubber.wait_pass()
        done = await _now(store)
        assert (done.outcome, done.shards, done.bad_shards) == (DONE, 12, 0)
        assert not await store.imager._is_due()
        [image] = await store.catalog.read(images)
        if kind == "cell":
            spoil(store, image, 1)
        elif kind == "table":
            flip(file_of(store, image, 5), file_of(store, image, 5).stat().st_size - 300)
        else:
            file_of(store, image, 2).unlink()
        await store.scrubber.wait_pass()
        assert (await _now(store)).bad_shards == 1
        assert await store.imager._is_due()
        await store.repairer.wait_settled()
        await store.imager.write()
        assert not await store.imager._is_due()
        assert await audit_rows(store) == []


async def test_regression_what_was_made_anew_while_it_was_read_is_not_verified(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        steps = 0

        async def pace(_: float, __: int) -> None:
            nonlocal steps
            steps += 1
            if steps == 3:  # the first shard was read
                file_of(store, row, 0).unlink()
                await store.repairer.wait_settled()

        own = _scrubber(store, lambda *_: True, pace=pace)
        store.repairer.seen.listeners.append(own.made_anew)
        await own.round(at_once=True)
        assert steps > 3
        assert file_of(store, row, 0).exists()
        assert set(await store.catalog.read(verified_at, row.id)) == {1, 2, 3, 4, 5}


async def test_regression_a_shard_that_lies_elsewhere_by_now_is_not_verified(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        begun = await store.catalog.write(begin_pass, 5)
        read = tuple((row.id, CellIndex(cell), row.devices[0]) for cell in range(2))
        await store.catalog.write(save_pass, begun, read, 7)
        assert await store.catalog.read(verified_at, row.id) == {0: 7}

"""What is carried out of a batch of which a part cannot be read."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio

import tiering.room
from stratumfs.catalog.decisions import DONE
from stratumfs.catalog.extents import layout
from stratumfs.catalog.swap import swap_runs
from stratumfs.catalog.vacated import vacated_bytes_behind
from stratumfs.catalog.volumes import volume
from stratumfs.errors import CatalogCorrupt, DeviceFailed
from stratumfs.ids import VolumeId, random_id
from stratumfs.location import CELL_HEADER_SIZE
from stratumfs.store import maintenance, repack
from stratumfs.store.pace import Pace
from stratumfs.volumes.format import VolumeInfo
from tests.remotes import MemoryRemote
from tests.stores import make_warm
from tests.stratumfs.store.helpers import bucket, put
from tests.stratumfs.store.test_relocate import furnished, sealed, twins
from tests.stratumfs.store.test_remote_tier import DATA, move, with_cold
from tiering.carrier import Carrier
from tiering.room import tier_bytes
from tiering.signals import Use
from tiering.verdict import Cause, Inputs, Verdict


class Partial(MemoryRemote):
    """withholds: objects that are not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.withholds: set[str] = set()

    def get(self, name: str, offset: int, length: int) -> bytes:
        if name in self.withholds:
            raise DeviceFailed("it refuses", self.label)
        return super().get(name, offset, length)


async def test_what_lives_alone_in_a_volume_goes_as_it_is(tmp_path: Path) -> None:
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        inos = [(await store.objects.info("bucket", key)).ino for key in data]
        inputs = Inputs(Use(18_000, 0.0, 1.0, None, 1.0, None, 1.0, 0, 0), 0, (0, 0), 1, 0, 1, 0, 0)
        moves = [Verdict(ino, 0, 1, 0.0, Cause.PRESSURE, inputs, None) for ino in inos]
        carrier = Carrier(store, ["hot", "warm"])
        carried = await carrier.carry(1, moves, random_id())
        assert carried.outcomes == dict.fromkeys(inos, DONE)
        assert carrier.moved["warm"] == sum(map(len, data.values()))
        assert (await store.reader.volume(ident)).tier == "warm"
        row = await store.catalog.read(volume, ident)
        assert row is not None
        gone = row.k * (row.length - CELL_HEADER_SIZE * row.stripes)
        found = await tier_bytes(store)
        assert found["hot"] == (0, pytest.approx(gone, abs=3)), "it takes room there as long as its files do"
        assert found["warm"][0] == row.live
        with patch.object(tiering.room, "vacated_bytes_behind", partial(vacated_bytes_behind, limit=1)):
            assert (await tier_bytes(store))["hot"] == (0, pytest.approx(gone, abs=3))
        with patch.object(maintenance, "VOLUME_FREE_GRACE_S", 0.0):
            await store.maintenance.round()
        assert (await tier_bytes(store)).get("hot", (0, 0)) == (0, 0)


@pytest.mark.parametrize("step", ["expect", "read", "swap"])
async def test_regression_what_fails_of_one_is_not_said_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Rows that failed in a step were said of the object that was walked just then, and what was dropped with the step
    counted as gone."""
    monkeypatch.setattr(repack, "REPACK_BYTES", len(DATA))
    monkeypatch.setattr(Pace, "is_alone", lambda _: True)
    make_warm(tmp_path)
    async with bucket(tmp_path) as store:
        inos = []
        for key in (b"one", b"two", b"three", b"four"):
            inos.append((await put(store, key, DATA)).ino)
            await sealed(store)
        extent, *_ = await store.reader.layout(inos[0], 0, 1 << 40)
        assert extent.location is not None
        bad, found = extent.location.volume, store.reader.volume
        write, walk, walked = store.catalog.write, store.reader._catalog.read, list[bool]()
        swaps = list[object]()

        async def row_of(ident: VolumeId) -> VolumeInfo:
            if ident == bad and walked and step != "swap":
                raise CatalogCorrupt("no row")
            return await found(ident)

        async def read(fn: Any, *args: Any) -> Any:
            if fn is layout and args[0] == inos[1]:
                walked.append(True)
            return await walk(fn, *args)

        async def swap(fn: Any, *args: Any) -> Any:
            if fn is swap_runs and step == "swap" and not swaps:
                swaps.append(fn)
                raise CatalogCorrupt("a page")
            return await write(fn, *args)

        monkeypatch.setattr(store.reader, "volume", row_of)
        monkeypatch.setattr(store.catalog, "read", read)
        monkeypatch.setattr(store.catalog, "write", swap)
        if step == "read":
            monkeypatch.setattr(store.reader, "expect", expect_nothing)
        inputs = Inputs(Use(len(DATA), 0.0, 1.0, None, 1.0, None, 1.0, 0, 0), 0, (0, 0), 1, 0, 1, 0, 0)
        moves = [Verdict(ino, 0, 1, 0.0, Cause.POLICY, inputs, None) for ino in inos]
        carried = await Carrier(store, ["hot", "warm"]).carry(1, moves, random_id())
        if step == "swap":
            assert carried.outcomes == dict.fromkeys(inos, "failed: a page")
        else:
            assert carried.outcomes.pop(inos[0]) == "failed: bytes could not be read"
            assert carried.outcomes == dict.fromkeys(inos[1:], DONE)


async def expect_nothing(_: object) -> None:
    await trio.lowlevel.checkpoint()


async def test_what_a_remote_tier_does_not_give_fails_alone(tmp_path: Path) -> None:
    remote = Partial()
    async with with_cold(tmp_path, remote) as store:
        inos = [(await put(store, key, DATA)).ino for key in (b"one", b"two")]
        await move(store, "one", "cold")
        remote.withholds = {name for name in remote.objects if "/volumes/" in name}
        await move(store, "two", "cold")
    async with with_cold(tmp_path, remote) as store:  # nothing is cached
        inputs = Inputs(Use(len(DATA), 0.0, 1.0, None, 1.0, None, 1.0, 0, 0), 0, (0, 0), 1, 0, 1, 0, 0)
        moves = [Verdict(ino, 1, 0, 0.0, Cause.POLICY, inputs, None) for ino in inos]
        carried = await Carrier(store, ["hot", "cold"]).carry(0, moves, random_id())
        assert carried.outcomes[inos[1]] == DONE
        assert "it refuses" in carried.outcomes[inos[0]]
        assert not carried.stopped

"""The ledger, and a pass of the scrubber that is asked for, in an owner without doors."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from stratumfs.cli import stratumfs as command
from stratumfs.cli.exit import Exit
from stratumfs.config import SETTINGS_FILE, load
from stratumfs.errors import NoSuchBucket
from stratumfs.owner import wire
from stratumfs.owner.durability import AFR, durability
from stratumfs.owner.messages import Progress
from stratumfs.owner.scrub import scrub_now
from stratumfs.volumes.loss import any_of, yearly_loss
from tests.faults.rot import flip, shards
from tests.faults.run import make_here
from tests.stratumfs.store.helpers import put

FILES = {b"a/large": 300_000, b"a/small": 100, b"b/small": 10}


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[wire.Running]:
    settings = load(root / "store" / SETTINGS_FILE)
    async with wire.locked(root / "store") as locked, wire.opened(locked, settings) as found:
        yield found


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    async with running(tmp_path) as found:
        await found.store.objects.create_bucket("bucket", 1)
        for key, size in FILES.items():
            await put(found.store, key, b"x" * size)
    return tmp_path


async def _quiet(_: Progress) -> None:
    """Nobody watches."""


async def _scrubbed(found: wire.Running) -> dict[str, Any]:
    return await scrub_now(found, _quiet)


async def test_it_is_green_when_all_is_there_and_verified(root: Path) -> None:
    async with running(root) as found:
        before = await durability(found)
        assert (before["green"], before["shards"], before["shards_verified"]) == (False, 6, 0)
        assert (await _scrubbed(found))["damaged_shards"] == 0
        after = await durability(found)
        assert (after["green"], after["shards_good"], after["shards_verified"]) == (True, 6, 6)
        assert (after["devices_survived"], after["disks_survived"]) == (2, 0)
        assert after["bytes"] == sum(FILES.values())
        [shown] = after["shown"]
        assert all(each["good"] and each["verified"] >= after["oldest_verified"] for each in shown["shards"])
    async with running(root) as found:
        assert (await durability(found))["green"]  # it is remembered


async def test_what_is_named_is_counted_and_nothing_else(root: Path) -> None:
    async with running(root) as found:
        small = await durability(found, bucket="bucket", key="b/small")
        assert (small["volumes"], small["bytes"], small["inline_bytes"], small["devices_survived"]) == (0, 10, 10, 3)
        below = await durability(found, bucket="bucket", key="a/")
        assert (below["volumes"], below["bytes"], below["inline_bytes"]) == (1, 300_100, 100)
        bucket = await durability(found, bucket="bucket", key="")
        assert (bucket["bytes"], bucket["inodes"]) == (sum(FILES.values()), len(FILES) + 3)
        ino = (await found.store.objects.info("bucket", b"a/large")).ino
        assert (await durability(found, inode=ino))["path"] == "bucket/a/large"
        with pytest.raises(NoSuchBucket):
            await durability(found, bucket="none", key="")


async def test_the_chance_of_a_loss_is_that_of_its_assumptions(root: Path) -> None:
    async with running(root) as found:
        told = await durability(found)
        said = told["assumptions"]
        assert (said["afr"], said["rebuild_measured"], said["replaced_s"]) == (AFR, False, 24 * 3600)
        volume = yearly_loss(6, 2, 0, AFR, said["rebuild_s"])
        catalog = yearly_loss(4, 3, 0, AFR, said["rebuild_s"])
        assert told["yearly_loss"] == pytest.approx(volume + catalog, rel=1e-6)


async def test_a_lost_shard_is_in_it_and_the_time_of_its_rebuild(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards(root)[2].unlink()
    async with running(root) as found:
        with monkeypatch.context() as patch:
            patch.setattr(found.store.repairer, "_repair", _nobody_repairs)
            told = await durability(found)
            assert (told["green"], told["shards_good"], told["devices_survived"]) == (False, 5, 1)
            rebuild_s = told["assumptions"]["rebuild_s"]
            chances = [yearly_loss(6, 2, 1, AFR, rebuild_s), yearly_loss(4, 3, 0, AFR, rebuild_s)]
            assert told["yearly_loss"] == pytest.approx(any_of(chances))
        await found.store.repairer.wait_settled()
        told = await durability(found)
        assert (told["shards_good"], told["devices_survived"], told["assumptions"]["rebuild_measured"]) == (6, 2, True)


async def _nobody_repairs(_: object) -> None:
    """As if the spare parts were on their way."""


async def test_the_commands_say_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(shards(root)[1], 200)
    await trio.to_thread.run_sync(_commands, str(root / "store"), capsys)


def _commands(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            command.main(list(words))
        assert ended.value.code == Exit.OK
        structlog.reset_defaults()
        return capsys.readouterr().out

    assert "6 shards were never read as a whole yet" in run("scrub", store)
    found = json.loads(run("scrub", "--now", "--json", store))
    assert (found["passes"][0]["bad_shards"], found["damaged_shards"], found["shards_never_verified"]) == (1, 0, 1)
    assert "NOT GREEN" in run("durability", store)
    assert "6 shards (0 bad)" in run("scrub", "--now", store)
    assert "green: all shards are there and verified" in run("durability", store)
    assert json.loads(run("durability", "--json", "--store", store, "s3://bucket/a/"))["green"]

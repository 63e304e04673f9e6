"""What is freed on demand, in an owner without doors."""

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from stratumfs.catalog.volumes import FREED, SEALED, volumes
from stratumfs.cli import stratumfs as command
from stratumfs.cli.exit import Exit
from stratumfs.cli.gc_text import gc_code, gc_lines
from stratumfs.errors import StoreReadOnly
from stratumfs.owner import wire
from stratumfs.owner.collect import collect_garbage
from stratumfs.owner.messages import CollectGarbage, Progress
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store import maintenance
from tests.faults.acts import delete
from tests.faults.run import make_here, running
from tests.stratumfs.store.helpers import get, put

SIZE = 1_000_000


async def _quiet(_: Progress) -> None:
    """Nobody watches."""


async def _collected(found: wire.Running, *, dry_run: bool = False) -> dict[str, Any]:
    return await collect_garbage(found, CollectGarbage(dry_run), _quiet)


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    """A volume with one object of three alive, and one with none."""
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    async with running(tmp_path) as found:
        store = found.store
        await store.objects.create_bucket("bucket", 1)
        for keys in ("abc", "d"):
            for key in keys:
                await put(store, key.encode(), key.encode() * SIZE)
            await store.writer.volumes.seal_idle(0)
        for key in "acd":
            await delete(store, f"bucket/{key}")
    return tmp_path


async def test_what_nothing_needs_goes_and_a_dry_run_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(root) as found:
        store = found.store
        old = await store.catalog.read(volumes, SEALED)
        for _ in range(2):
            said = await _collected(found, dry_run=True)
            assert said["before"] == said["after"]
            assert (said["before"]["nameless"], await store.catalog.read(volumes, SEALED)) == (3, old)
        said = await _collected(found)
        assert (said["before"]["nameless"], said["after"]["nameless"]) == (3, 0)
        assert said["after"]["half_dead_volumes"] == said["after"]["empty_volumes"] == 0
        assert said["waits"] == {}
        freed = await store.catalog.read(volumes, FREED)
        assert {row.id for row in freed} == {row.id for row in old}
        assert said["after"]["freed_room"] == sum(row.length * 6 for row in freed)
        assert await get(store, b"b") == b"b" * SIZE
        monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
        said = await _collected(found)
        assert (said["before"]["freed_volumes"], said["after"]["freed_volumes"]) == (2, 0)
        assert said["after"]["dead_bytes"] == 0
        for row in freed:
            for cell, device in enumerate(row.devices):
                assert not (Path(store.devices[device].label) / path_of(ShardName(row.id, cell))).exists()  # type: ignore[arg-type]
        assert await get(store, b"b") == b"b" * SIZE


async def test_a_tier_that_lacks_a_device_waits_and_is_named(root: Path) -> None:
    (root / "d3").rename(root / "away")
    async with running(root) as found:
        said = await _collected(found)
        assert said["after"]["half_dead_volumes"] == 1
        assert said["waits"] == {"hot": "5 devices are up of the 6 that a volume takes"}
        assert gc_code(said) == Exit.STORE
        assert "WAITS: hot: 5 devices are up of the 6 that a volume takes" in gc_lines(said)


async def test_regression_a_cold_tier_that_does_not_answer_is_named_too(root: Path) -> None:
    async with running(root) as found:
        found.store.remote_compactor.stopped["cold"] = "it does not answer"  # as a round of a store that has one
        said = await _collected(found)
        assert said["waits"] == {"cold": "it does not answer"}
        assert gc_code(said) == Exit.STORE


async def test_a_store_that_is_read_only_says_why(root: Path) -> None:
    for slot in (1, 2, 3, 5):
        (root / f"d{slot}").rename(root / f"away{slot}")
    async with running(root) as found:
        assert (await _collected(found, dry_run=True))["before"]["nameless"] == 3
        with pytest.raises(StoreReadOnly, match="nothing can be freed now: "):
            await _collected(found)


async def test_the_command_says_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await trio.to_thread.run_sync(_commands, str(root / "store"), capsys)


def _commands(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            command.main([*words, store])
        assert ended.value.code == Exit.OK
        structlog.reset_defaults()
        return capsys.readouterr().out

    assert "3 files have no name" in run("gc", "-n")
    assert json.loads(run("gc", "--json"))["after"]["freed_volumes"] == 2
    assert "2 volumes" in run("gc")
    assert "cells are what was written" in run("verify")

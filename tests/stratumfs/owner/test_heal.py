"""What is healed and counted by name, in an owner without doors."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.cli import stratumfs as command
from stratumfs.cli.exit import Exit
from stratumfs.errors import NoSuchObject, NotFound
from stratumfs.owner import wire
from stratumfs.owner.heal import heal
from stratumfs.owner.messages import Heal, Progress, Usage
from stratumfs.owner.usage import usage
from stratumfs.repair.stripes import named_stripes
from stratumfs.shards.layout import ShardName, path_of
from tests.faults.rot import flip, plant_rows
from tests.faults.run import make_here, running
from tests.faults.test_rot import fill
from tests.stratumfs.owner.test_durability import FILES, root
from tests.stratumfs.store.helpers import get, put

__all__ = ["root"]


async def _quiet(_: Progress) -> None:
    """Nobody watches."""


async def _healed(found: wire.Running, key: str | None = None, **asked: Any) -> dict[str, Any]:
    request = Heal(bucket="bucket" if key is not None else None, key=key, **asked)
    return await heal(found, request, _quiet)


async def _last(found: wire.Running) -> VolumeRow:
    return max(await found.store.catalog.read(volumes, SEALED), key=lambda row: row.created_ns)


async def _damage(found: wire.Running, *cells: int, at: int = 200) -> None:
    """Of the last sealed volume."""
    row = await _last(found)
    for cell in cells:
        device = found.store.devices[row.devices[cell]]
        flip(Path(device.label) / path_of(ShardName(row.id, cell)), at)  # type: ignore[arg-type]


async def test_an_object_is_healed_and_a_dry_run_changes_nothing(root: Path) -> None:
    async with running(root) as found:
        await _damage(found, 1, 4)
        for _ in range(2):
            said = await _healed(found, "a/large", dry_run=True)
            assert (said["bad_shards"], said["bad_shards_left"], said["unreadable"]) == (2, 2, [])
            assert found.store.damaged == set()
        said = await _healed(found, "a/large")
        assert (said["bad_shards"], said["bad_shards_left"]) == (2, 0)
        assert {each["cell"] for each in said["shards"] if each["mended"]} == {1, 4}
        assert (said["bytes"], said["inodes"], said["path"]) == (300_000, 1, "bucket/a/large")
        said = await _healed(found, "a/large")
        assert (said["bad_shards"], said["cells_verified"]) == (0, 6)
        assert await get(found.store, b"a/large") == b"x" * 300_000


async def test_of_a_volume_only_what_is_named_is_read(root: Path) -> None:
    async with running(root) as found:
        await put(found.store, b"a/other", b"y" * 300_000)
        await put(found.store, b"c/other", b"z" * 300_000)
        await found.store.writer.volumes.seal_idle(0)
        second = (await named_stripes(found.store.catalog, (await _last(found)).id))[1]
        await _damage(found, 2, at=second.position + 200)
        assert (await _healed(found, "a/", dry_run=True))["bad_shards"] == 0
        assert (await _healed(found, "c/", dry_run=True))["bad_shards"] == 1
        below = await _healed(found, "")
        assert (below["bad_shards"], below["bad_shards_left"]) == (1, 0)
        assert below["bytes"] == 600_000 + sum(FILES.values())
        assert (await _healed(found))["bytes"] == below["bytes"]


async def test_what_cannot_be_healed_is_named(root: Path) -> None:
    async with running(root) as found:
        await _damage(found, 0, 1, 5)
        for dry_run in (True, False):
            said = await _healed(found, "", dry_run=dry_run)
            assert (said["bad_shards"], said["bad_shards_left"]) == (3, 3)
            assert said["unreadable"] == ["bucket/a/large"]
        with pytest.raises(NoSuchObject):
            await _healed(found, "none")
        with pytest.raises(NotFound):
            await heal(found, Heal(inode=1 << 40), _quiet)


async def test_a_row_that_rotted_is_restored_from_a_copy_and_short_bytes_with_it(tmp_path: Path) -> None:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    await fill(tmp_path, 12, 2, 1)
    planted = plant_rows(tmp_path, ["inline byte", "row"], random.Random(1))
    async with running(tmp_path) as found:
        said = await _healed(found, "", dry_run=True)
        assert (said["bad_rows"], said["bad_rows_left"]) == (len(planted), len(planted))
        said = await _healed(found, "")
        assert (said["bad_rows"], said["bad_rows_left"]) == (len(planted), 0)
        assert (await _healed(found, ""))["bad_rows"] == 0


async def test_shards_on_a_device_that_is_away_are_counted_as_such(root: Path) -> None:
    (root / "d3").rename(root / "away")
    async with running(root) as found:
        said = await _healed(found, "a/large")
        assert (said["bad_shards"], said["shards_away"], said["unreadable"]) == (0, 1, [])
        assert said["cells_verified"] == 5


async def test_sums_are_kept_of_buckets_and_prefixes(root: Path) -> None:
    async with running(root) as found:
        objects = found.store.objects
        await objects.create_bucket("other", 1)
        for key in (b"a/b/c/deep", b"a/b/", b"a/bc"):
            await put(found.store, key, b"12345")
        with pytest.raises(NotFound, match="no sums"):
            await _usage(found, "a/")
        await found.store.usage.walk()
        whole = await _usage(found)
        listed = {each["path"]: (each["objects"], each["bytes"]) for each in whole["below"]}
        total = sum(FILES.values()) + 15
        assert listed == {"bucket/": (len(FILES) + 3, total), "other/": (0, 0)}
        assert (whole["objects"], whole["bytes"]) == (len(FILES) + 3, total)
        own = await _usage(found, "a/")
        assert (own["path"], own["objects"], own["bytes"]) == ("bucket/a/", 5, 300_115)
        assert [(each["path"], each["objects"]) for each in own["below"]] == [("bucket/a/b/", 2)]
        assert found.store.usage.buckets[b"bucket"].bytes == total
        with pytest.raises(NotFound, match="2 levels below"):
            await _usage(found, "a/b/c/")
        await objects.delete_bucket("other")
        await found.store.usage.walk()
        assert [each["path"] for each in (await _usage(found))["below"]] == ["bucket/"]


async def _usage(found: wire.Running, key: str | None = None) -> dict[str, Any]:
    return await usage(found, Usage(bucket="bucket" if key is not None else None, key=key), _quiet)


async def test_the_commands_say_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(root) as found:
        await _damage(found, 1)
    await trio.to_thread.run_sync(_commands, str(root / "store"), capsys)


def _commands(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(code: Exit, *words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            command.main([*words, "--store", store])
        assert ended.value.code == code
        structlog.reset_defaults()
        return capsys.readouterr().out

    assert "would be mended" in run(Exit.DATA, "heal", "-n", "s3://bucket/a/large")
    assert json.loads(run(Exit.OK, "heal", "--json", "s3://bucket/b/"))["bad_shards"] == 0
    assert "mended: " in run(Exit.OK, "heal", "s3://bucket/a/")
    assert "mended" not in run(Exit.OK, "heal")
    run(Exit.NOT_FOUND, "heal", "s3://bucket/none")
    assert "3 objects" in run(Exit.OK, "usage", "--now", "s3://bucket")
    assert json.loads(run(Exit.OK, "usage", "--json"))["objects"] == 3

"""The catalog of a store with a cold tier is lost, and made again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from stratumfs.catalog.chains import read_manifest
from stratumfs.catalog.engine import Transaction
from stratumfs.catalog.volumes import place_shards
from stratumfs.devices.identity import read_identity
from stratumfs.ids import VolumeId
from stratumfs.owner import cold
from stratumfs.owner.add import add_device
from stratumfs.owner.messages import AddCold, AddDevice
from stratumfs.owner.rebuild_catalog import Report, rebuild_catalog
from stratumfs.owner.tiers import change_tiers
from stratumfs.repair import findings
from stratumfs.repair.check_shards import place_lost
from stratumfs.store import maintenance
from tests.faults import acts
from tests.faults.disk import image_below, write_image
from tests.faults.run import make_here, opened, running
from tests.faults.service import FOLDER, VOLUMES, add_cold, folder_remote

SIZE = 100_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    return tmp_path


async def rebuilt(root: Path) -> Report:
    """The store folder is lost, and every copy of the catalog."""
    shutil.rmtree(root / "store")
    for slot in range(6):
        shutil.rmtree(root / f"d{slot}" / "catalog", ignore_errors=True)
    return await trio.to_thread.run_sync(rebuild_catalog, root / "d3")


async def test_an_object_that_nothing_names_is_told_of_and_never_deleted_unasked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an image shows it that was written between its upload and the rows that name it."""
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    add_cold(root)
    remote = folder_remote(root)
    assert remote is not None
    monkeypatch.setattr(cold, "open_remote", lambda _: remote)
    async with opened(root) as store:
        with store.targets["cold"].copying() as stream:
            await stream.write(b"c" * SIZE)
            await stream.settle(lambda _: ())
        await store.imager.write()
    [name] = [each for each in remote.names("") if "/volumes/" in each]
    report = await rebuilt(root)
    assert [*report.unclaimed.values()] == [SIZE]
    assert not report.whole
    async with opened(root) as store:
        await store.maintenance.round()
        await store.remotes["cold"].tidy()
    assert name in remote.names("")


async def test_what_came_back_and_whose_cold_volume_went_is_found_by_the_table_of_its_new_volume(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image shows it in the cold tier, and the owner is killed."""
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    add_cold(root)
    remote = folder_remote(root)
    assert remote is not None
    monkeypatch.setattr(cold, "open_remote", lambda _: remote)
    data = bytes(range(256)) * (SIZE // 256)
    async with opened(root) as store:
        await store.objects.create_bucket("bucket", 1)
        await acts.put(store, "bucket/key", data)
        await acts.move(store, "bucket/key", "cold")
        await store.imager.write()
        await acts.move(store, "bucket/key", "hot")
        for _ in range(2):
            await store.maintenance.round()
            await store.remotes["cold"].tidy()
        assert not [each for each in remote.names("") if "/volumes/" in each]
        killed = image_below(root)
    write_image(killed, root)
    report = await rebuilt(root)
    assert report.whole
    async with opened(root) as store:
        assert await store.reader.read(await acts.find(store, "bucket/key"), 0, SIZE) == data


async def test_a_tier_that_a_living_store_was_given_is_known_without_the_store_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / FOLDER / read_identity(root / "store").store.hex() / VOLUMES).mkdir(parents=True)
    monkeypatch.setattr(cold, "open_remote", lambda _: folder_remote(root))
    async with running(root) as owner:
        await change_tiers(owner, AddCold("s3://bucket/store", None, None, str(root / "secret")))
        manifests = [found for slot in range(6) if (found := read_manifest(root / f"d{slot}" / "catalog")) is not None]
        assert manifests
        assert all("[cold]" in each.files["stratumfs.toml"] and "cold-key.json" in each.files for each in manifests)
        await owner.store.imager.write()
    report = await rebuilt(root)
    assert report.whole
    assert "[cold]" in (root / "store" / "stratumfs.toml").read_text()


async def test_the_lost_row_of_a_shard_of_a_cold_volume_is_made_again(root: Path) -> None:
    def rows(tx: Transaction) -> list[tuple[Any, ...]]:
        return tx.all("select v.id, s.cell, s.device from volume v join shard s on s.volume = v.id where tier = 'cold'")

    add_cold(root)
    async with running(root) as owner:
        store = owner.store
        with store.targets["cold"].copying() as stream:
            await stream.write(b"c" * SIZE)
            await stream.settle(lambda _: ())
        before = await store.catalog.read(rows)
        assert len(before) == 1
        await store.catalog.commit(place_shards, VolumeId(before[0][0]), ())
        await place_lost(store.id, store.catalog, {}, findings.Report())
        assert await store.catalog.read(rows) == before


async def test_a_device_that_is_added_has_the_key_at_once(root: Path) -> None:
    add_cold(root)
    new = root / "d6"
    new.mkdir()
    async with running(root) as owner:
        await add_device(owner, AddDevice("hot", str(new)))
        assert (new / "cold-key.json").read_text() == (root / "store" / "cold-key.json").read_text()


async def test_a_rebuild_that_finds_a_key_and_no_settings_of_a_cold_tier_says_so(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
    add_cold(root)
    report = await rebuilt(root)
    assert report.cold_not_looked is not None
    assert not report.whole

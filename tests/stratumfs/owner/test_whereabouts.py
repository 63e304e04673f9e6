"""A catalog that is made again of something older believes devices, not what it knew of them."""

import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.devices import device_rows, drains
from stratumfs.catalog.standings import Standings
from stratumfs.catalog.vacated import vacated
from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.config import SETTINGS_FILE, load
from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.owner import create, dump, wire
from stratumfs.owner.messages import AddWarm
from stratumfs.owner.rebuild_catalog import rebuild_catalog
from stratumfs.owner.tiers import change_tiers
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store.store import Store
from tests.stratumfs.catalog.somewhere import until
from tests.stratumfs.owner.helpers import DATA, KEYS, devices, filled, opened
from tests.stratumfs.owner.test_tiers import folders
from tests.stratumfs.store.helpers import get

CELL = CellIndex(2)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One device more than a volume is wide."""
    create.make_store(tmp_path / "store", devices(tmp_path, 7), 4, 2, KEYS)
    return tmp_path / "store"


async def only_volume(store: Store) -> VolumeRow:
    [row] = await store.catalog.read(volumes, SEALED)
    return row


async def most_places_say(running: wire.Running, wanted: Callable[[Standings], bool]) -> None:
    """Return when they do. One that is struck is not told."""
    places = running.folders.places()

    def is_said() -> bool:
        said = [named.standings for place in places if (named := place.read_named()) is not None]
        return 2 * sum(map(wanted, said)) > len(places)

    await until(is_said)


async def older(running: wire.Running, path: Path) -> Callable[[], Awaitable[object]]:
    """A dump of now; returns what loads it."""
    await dump.dump(running.store.id, running.store.catalog, running.folder, path)
    load_it = partial(dump.load, path, running.folder.with_name("d0"))
    return partial(trio.to_thread.run_sync, load_it)


async def image(running: wire.Running, path: Path) -> Callable[[], Awaitable[object]]:
    """An image of now; returns what rebuilds from it."""
    await running.store.imager.write()
    return partial(trio.to_thread.run_sync, rebuild_catalog, running.folder.with_name("d0"))


@pytest.mark.parametrize("saved", [image, older])
async def test_a_shard_that_moved_since_lies_where_it_is_whole_and_what_was_struck_since_is_struck(
    store: Path, saved: Callable[[wire.Running, Path], Awaitable[Callable[[], Awaitable[object]]]]
) -> None:
    async with opened(store) as running:
        await filled(running)
        before = await only_volume(running.store)
        again = await saved(running, store.with_name("dump"))
        bad = before.devices[CELL]
        stale = running.folders.entry(bad).path / path_of(ShardName(before.id, CELL))
        await running.store.fleet.strike(bad, DeviceFailed("it burns"))
        await running.store.repairer.wait_settled()
        after = await only_volume(running.store)
        assert after.devices[CELL] != bad
        drained = after.devices[CELL + 1]
        await running.store.fleet.drain(drained)
        await most_places_say(running, lambda said: bool(said.draining))
    with stale.open("r+b") as file:
        file.truncate(file.seek(0, 2) // 2)  # its disk did not have all of it when it was struck
    shutil.rmtree(store)
    for copy in store.parent.glob("d*/catalog"):
        shutil.rmtree(copy)
    await again()
    async with (
        wire.locked(store) as found,
        wire.parts(found, load(store / SETTINGS_FILE)) as parts,
    ):
        [row] = await parts.catalog.read(volumes, SEALED)
        assert (row.id, row.devices) == (after.id, after.devices)
        assert [(each.id, each.state, each.reason) for each in await parts.catalog.read(device_rows)] == [
            (bad, DeviceState.FAILED, "it burns")
        ]
        assert [ident for ident, _ in await parts.catalog.read(drains)] == [drained]
    async with opened(store) as running:
        assert await get(running.store, b"key") == DATA


async def test_what_identity_files_say_of_devices_ends_with_what_it_says(store: Path) -> None:
    async with opened(store) as running:
        ident: DeviceId = running.folders.identity.devices[3].id
        await running.store.fleet.strike(ident, DeviceFailed("it burns"))
        await most_places_say(running, lambda said: [each.id for each in said.rows] == [ident])
        running.store.repairer.returns.try_soon(ident)
        await running.store.repairer.wait_settled()
        assert running.store.fleet.struck == []
        await most_places_say(running, lambda said: not said.rows)


@pytest.mark.parametrize("saved", [image, older])
async def test_regression_a_volume_that_moved_whole_since_lies_in_one_tier(
    store: Path, saved: Callable[[wire.Running, Path], Awaitable[Callable[[], Awaitable[object]]]]
) -> None:
    """It was placed in both, where its files were being removed from the one that it had left."""
    paths = folders(store, 6)
    async with opened(store) as running:
        await change_tiers(running, AddWarm(paths, 4, 2))
        await filled(running)
        before = await only_volume(running.store)
        again = await saved(running, store.with_name("dump"))
        info = await running.store.objects.info("bucket", b"key")
        await running.mover._carry_out(await running.mover.ask(info.ino, "warm", 0, "by hand"))
        after = await only_volume(running.store)
        assert (after.id, after.tier) == (before.id, "warm")
        for cell in range(3):
            path = running.folders.entry(before.devices[cell]).path / path_of(ShardName(before.id, CellIndex(cell)))
            path.unlink()
    shutil.rmtree(store)
    for copy in [*store.parent.glob("d*/catalog"), *store.parent.glob("warm*/catalog")]:
        shutil.rmtree(copy)
    await again()
    async with wire.locked(store) as found, wire.parts(found, load(store / SETTINGS_FILE)) as parts:
        [row] = await parts.catalog.read(volumes, SEALED)
        assert (row.id, row.tier, row.devices) == (after.id, "warm", after.devices)
    async with opened(store) as running:
        assert await get(running.store, b"key") == DATA


@pytest.mark.parametrize("saved", [image, older])
async def test_regression_what_an_older_catalog_would_remove_is_set_aside(
    store: Path, saved: Callable[[wire.Running, Path], Awaitable[Callable[[], Awaitable[object]]]]
) -> None:
    """A volume that had left devices may have come back to them since; and they may be away while that is done."""
    paths = folders(store, 6)
    async with opened(store) as running:
        await change_tiers(running, AddWarm(paths, 4, 2))
        await filled(running)
        row = await only_volume(running.store)
        info = await running.store.objects.info("bucket", b"key")
        await running.mover._carry_out(await running.mover.ask(info.ino, "warm", 0, "by hand"))
        assert len(await running.store.catalog.read(vacated)) == 6
        again = await saved(running, store.with_name("dump"))
        places = [running.folders.entry(each).path for each in row.devices]
    shutil.rmtree(store)
    for copy in [*store.parent.glob("d*/catalog"), *store.parent.glob("warm*/catalog")]:
        shutil.rmtree(copy)
    aside = store.with_name("aside")
    aside.mkdir()
    files = [place / path_of(ShardName(row.id, CellIndex(cell))) for cell, place in enumerate(places)]
    for each in [*files, *store.parent.glob(f"warm*/volumes/*/{row.id.hex()}.*")]:
        each.rename(aside / f"{each.parts[-4]}-{each.name}")
    await again()
    for cell, each in enumerate(files):
        (aside / f"{places[cell].name}-{each.name}").rename(each)
    async with opened(store) as running:
        assert await running.store.catalog.read(vacated) == []
    assert len(list(store.parent.glob(f"d*/quarantine/{row.id.hex()}.*"))) == 6


@pytest.mark.parametrize("saved", [image, older])
async def test_regression_a_catalog_of_before_a_tier_was_added_opens_with_what_moved_there_since(
    store: Path, saved: Callable[[wire.Running, Path], Awaitable[Callable[[], Awaitable[object]]]]
) -> None:
    """Its settings said nothing of the tier, and no owner opened the store."""
    paths = folders(store, 6)
    async with opened(store) as running:
        await filled(running)
        again = await saved(running, store.with_name("dump"))
        await change_tiers(running, AddWarm(paths, 4, 2))
        info = await running.store.objects.info("bucket", b"key")
        await running.mover._carry_out(await running.mover.ask(info.ino, "warm", 0, "by hand"))
        row = await only_volume(running.store)
        assert row.tier == "warm"
    shutil.rmtree(store)
    for each in [*store.parent.glob("d*/catalog"), *store.parent.glob("warm*/catalog")]:
        shutil.rmtree(each)
    for each in store.parent.glob(f"d*/volumes/*/{row.id.hex()}.*"):
        each.unlink()
    await again()
    async with opened(store) as running:
        assert await get(running.store, b"key") == DATA
        assert (await only_volume(running.store)).tier == "warm"
        assert running.store.fleet.codes == {"hot": Code(4, 2), "warm": Code(4, 2)}

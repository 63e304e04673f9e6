"""When namespace images are written, what names them, and when they go."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from stratumfs.catalog import aside
from stratumfs.catalog.volumes import FREED, IMAGE, images, volumes
from stratumfs.devices.identity import read_identity
from stratumfs.errors import DeviceFailed, StoreBusy, StratumError
from stratumfs.owner.dump import dump
from stratumfs.store import imager
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import STRIPED, make_base
from tests.faults.disk import Image, image_below, write_image
from tests.faults.look import look
from tests.faults.paths.volumes import at_once
from tests.faults.place import fast_place
from tests.faults.run import opened, smaller


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with fast_place() as folder:
        yield folder / "root"


@pytest.fixture(scope="module")
def furnished(place: Path) -> Image:
    return trio.run(make_base, place)[0]


@pytest.fixture
def root(place: Path, furnished: Image) -> Path:
    write_image(furnished, place)
    return place


def named_at(root: Path) -> set[tuple[str, ...]]:
    """By each device, and the store folder."""
    folders = [root / "store", *root.glob("d*")]
    return {tuple(each["volume"] for each in read_identity(folder).images) for folder in folders}


async def test_two_are_kept_and_named_everywhere_and_nothing_moves_them(root: Path) -> None:
    async with opened(root) as store:
        written = [await store.imager.write() for _ in range(3)]
        assert named_at(root) == {(written[2].volume.hex(), written[1].volume.hex())}
        assert [row.id for row in await store.catalog.read(images)] == [written[2].volume, written[1].volume]
        assert [row.id for row in await store.catalog.read(volumes, FREED)] == [written[0].volume]
        with at_once():
            await store.maintenance.round()
            await store.compactor.round()
        assert await store.catalog.read(volumes, FREED) == []
        assert not await audit_rows(store)
        assert not await audit_shards(store)
        before = await look(store)
    async with opened(root) as store:
        assert named_at(root) == {(written[2].volume.hex(), written[1].volume.hex())}
        assert await store.imager.newest() == written[2]
        assert await look(store) == before
        assert not await audit_shards(store)


async def test_one_stays_as_long_as_a_place_may_name_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(root) as store:
        written = [await store.imager.write() for _ in range(2)]

        async def not_all(named: object) -> bool:
            return False

        monkeypatch.setattr(store.catalog.aside, "name_images", not_all)
        written.append(await store.imager.write())
        assert {row.id for row in await store.catalog.read(images)} == {each.volume for each in written}


async def test_an_image_that_lost_a_device_is_given_up_and_written_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(root) as store:
        original = imager.image_of

        def losing(*args: object) -> Iterator[bytes]:
            for number, piece in enumerate(original(*args)):  # type: ignore[arg-type]
                if number == 3:
                    device = next(iter(store.devices))
                    trio.from_thread.run(store.fleet.strike, device, DeviceFailed("it is gone"))
                yield piece.ljust(store.writer.stripe_payload, b"\0")  # a stripe each

        monkeypatch.setattr(imager, "image_of", losing)
        monkeypatch.setattr(imager, "UNSYNCED_BYTES_MAX", 1)  # what is synced is not written again elsewhere
        with pytest.raises(StratumError, match="was lost"):
            await store.imager.write()
        assert await store.catalog.read(images) == []
        assert await store.imager._is_due()
        monkeypatch.setattr(imager, "image_of", original)
        await store.imager.write()
        assert len(await store.catalog.read(images)) == 1
        assert not await store.imager._is_due()
        assert not await audit_rows(store)


async def test_it_is_due_as_long_as_any_that_is_kept_lies_on_a_device_that_is_drained_or_lost(root: Path) -> None:
    async with opened(root) as store:
        for leave in (store.fleet.drain, lambda ident: store.fleet.strike(ident, DeviceFailed("it died"))):
            for _ in range(2):
                await store.imager.write()
            assert not await store.imager._is_due()
            await leave((await store.catalog.read(images))[0].devices[0])
            for _ in range(2):
                assert await store.imager._is_due()
                await store.imager.write()
            assert not await store.imager._is_due()


async def test_one_that_a_kill_cut_short_is_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(root) as store:

        async def killed(*args: object) -> int:
            await append(*args)  # type: ignore[arg-type]
            left.update(image_below(root))
            raise DeviceFailed("killed")

        append, left = store.imager._append, Image()
        monkeypatch.setattr(store.imager, "_append", killed)
        with pytest.raises(DeviceFailed):
            await store.imager.write()
    write_image(left, root)
    async with opened(root) as store:
        assert await store.imager.newest() is None
        with at_once():
            await store.maintenance.round()
            await store.maintenance.round()
        assert IMAGE not in {row.state for row in await store.catalog.read(volumes, IMAGE)}
        assert not await audit_rows(store)
        assert not await audit_shards(store)


async def test_beside_a_long_log_one_is_written_without_rest_and_given_up_beside_one_that_is_too_long(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rest(*_: object) -> None:
        pytest.fail("rests while the log grows")

    monkeypatch.setattr(imager.Pace, "__call__", rest)
    monkeypatch.setattr(aside, "CHECKPOINT_LATE_BYTES", 0)
    async with opened(root) as store:
        await store.imager.write()
        for bound in ({"SNAPSHOT_LOG_MAX": 0}, {"has_room": lambda *_: False}):
            with smaller(aside, **bound):
                with pytest.raises(StoreBusy):
                    await store.imager.write()
                with pytest.raises(StoreBusy):
                    await dump(store.id, store.catalog, root / "store", tmp_path / "dump")
        assert len(await store.catalog.read(images)) == 1
        assert not (tmp_path / "dump").exists()
        assert await store.catalog.checkpoint()
        assert not await audit_rows(store)


async def test_it_is_due_once_enough_has_changed_and_time_has_passed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(root) as store:
        assert await store.imager._is_due()
        await store.imager.write()
        with at_once():
            await store.maintenance.round()
        monkeypatch.setattr(imager, "IMAGE_INTERVAL_S", 0.0)
        assert not await store.imager._is_due(), "nothing has changed"
        with monkeypatch.context() as week:
            week.setattr(imager, "IMAGE_AGE_MAX_S", 0.0)
            assert await store.imager._is_due()
        for number in range(10):
            await acts.put(store, f"main/{number}", b"x" * STRIPED)
        assert await store.imager._is_due()
        monkeypatch.setattr(imager, "IMAGE_INTERVAL_S", 3600.0)
        assert not await store.imager._is_due()
        monkeypatch.setattr(imager, "IMAGE_CHANGES", 5)
        assert await store.imager._is_due()

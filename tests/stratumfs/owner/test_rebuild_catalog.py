"""The catalog is lost with all its copies, and made again."""

import errno
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from stratumfs.catalog import absence, boot, install
from stratumfs.catalog.epochs import Named
from stratumfs.erasure.code import Code
from stratumfs.errors import CatalogCorrupt, ConfigError, StoreReadOnly
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.limits import STRIKE_S
from stratumfs.owner import lost
from stratumfs.owner import rebuild_catalog as rebuild_module
from stratumfs.owner.places import IdentityPlace
from stratumfs.owner.rebuild_catalog import Report, rebuild_catalog
from stratumfs.shards.backend import ShardBackend
from stratumfs.store.store import Store
from stratumfs.volumes.found import FoundVolume
from stratumfs.volumes.toc import TocEntry
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import INLINE, STRIPED, make_base
from tests.faults.disk import Image, image_below, write_image
from tests.faults.look import look
from tests.faults.paths.volumes import at_once
from tests.faults.place import fast_place
from tests.faults.run import opened
from tests.faults.tree import FILE, Tree

ALL = 1 << 40


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with fast_place() as folder:
        yield folder / "root"


@pytest.fixture(scope="module")
def furnished(place: Path) -> Image:
    return trio.run(make_base, place)[0]


@pytest.fixture(scope="module")
def packed(place: Path, furnished: Image) -> Image:
    """All bytes lie in volumes."""

    async def pack() -> None:
        async with opened(place) as store:
            await store.packer.round(ALL)

    write_image(furnished, place)
    trio.run(pack)
    return image_below(place)


@pytest.fixture
def root(place: Path, packed: Image) -> Path:
    write_image(packed, place)
    return place


def lose(root: Path) -> None:
    """The store folder, and every copy of the catalog."""
    shutil.rmtree(root / "store")
    for copy in root.glob("d*/catalog"):
        shutil.rmtree(copy)


def shards(root: Path, folder: str, volume: VolumeId) -> list[Path]:
    return sorted(root.glob(f"d*/{folder}/{volume.hex()}.*"))


async def rebuilt(root: Path) -> Report:
    return await trio.to_thread.run_sync(rebuild_catalog, root / "d3")


async def seen(store: Store) -> Tree:
    assert await audit_rows(store) == []
    assert await audit_shards(store) == []
    return await look(store)


async def test_all_that_was_packed_is_back_as_it_was(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    lose(root)
    report = await rebuilt(root)
    assert report.image is not None
    assert report.whole
    async with opened(root) as store:
        assert await seen(store) == before


def said(tree: Tree) -> dict[str, tuple[object, ...]]:
    """What a user sees of each name; not the rows of it."""
    return {path: (node.kind, node.data, node.etag, node.metadata) for path, node in tree.nodes.items()}


async def seal(store: Store) -> None:
    await store.maintenance.reap()
    await store.writer.volumes.seal_idle(0)


async def test_younger_shards_tell_of_what_came_after_the_image(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        await acts.put(store, "main/new", b"n" * STRIPED, made="later")
        replaced = said(await look(store))["main/striped"]
        await acts.put(store, "main/striped", b"o" * STRIPED, made="again")
        await acts.put(store, "rest/deep/down", b"d" * STRIPED)
        await acts.write_file(store, "main/dir/posix", b"p" * STRIPED)
        await acts.rename(store, "rest/striped", "rest/moved")
        await store.objects.create_bucket("third", 1)
        await acts.put(store, "third/small", b"s" * 10)
        await store.packer.round(ALL)
        await seal(store)
        before = await look(store)
    lose(root)
    report = await rebuilt(root)
    assert (report.lost.inline_bytes, report.lost.shards_bytes, report.unclaimed) == (0, 0, {})
    assert report.created == 5
    wanted = said(before)
    # Its bytes lie in a volume that is older than the image, so that nothing younger tells of its new name.
    wanted["rest/striped"] = wanted.pop("rest/moved")
    async with opened(root) as store:
        now = said(await seen(store))
    # What was replaced may have been renamed, for all that anybody can say.
    wanted |= {"lost-found/": now["lost-found/"], report.found[0].decode(): replaced}
    assert now == wanted


async def test_a_file_that_was_moved_and_rewritten_has_its_new_name_and_its_new_bytes(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        ino = await acts.find(store, "main/dir/big")
        await acts.rename(store, "main/dir/big", "main/elsewhere")
        await acts.publish(store, ino, [(0, b"x" * 20_000)], 20_000, 0, durable=True)
        await acts.put(store, "main/dir/big", b"y" * STRIPED)
        await seal(store)
        before = await look(store)
    lose(root)
    await rebuilt(root)
    async with opened(root) as store:
        assert said(await seen(store)) == said(before)


async def test_a_file_whose_name_a_younger_one_has_taken_is_kept_and_listed(root: Path) -> None:
    """As logs are rotated: nothing younger tells of the new name of the old one."""
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        rotated = said(await look(store))["main/dir/big"]
        number = await acts.find(store, "main/dir/big")
        await acts.rename(store, "main/dir/big", "main/dir/big.1")
        await acts.put(store, "main/dir/big", b"y" * STRIPED)
        await seal(store)
    lose(root)
    report = await rebuilt(root)
    name = f"lost-found/inode-{number}"
    assert (report.found, report.found_count, report.lost.shards_bytes) == ([name.encode()], 1, 0)
    async with opened(root) as store:
        with at_once():
            await store.maintenance.round()
            await store.maintenance.round()
        assert said(await seen(store))[name] == rotated


class Table(list[TocEntry]):
    """One of which it is known whether somebody has it yet."""


async def test_tables_are_read_one_after_the_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together may be as long as the catalog."""
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        for number in range(4):
            await acts.put(store, f"main/{number}", b"n" * STRIPED)
            await seal(store)
    lose(root)
    read, given, held = rebuild_module.table_of, list[weakref.ref[Table]](), list[int]()

    def table_of(volume: FoundVolume, code: Code, devices: Mapping[DeviceId, ShardBackend]) -> Table:
        table = Table(read(volume, code, devices) or ())
        held.append(sum(each() is not None for each in given))
        given.append(weakref.ref(table))
        return table

    monkeypatch.setattr(rebuild_module, "table_of", table_of)
    assert (await rebuilt(root)).created == 4
    assert max(held) <= 2  # the last of each walk


async def test_what_the_image_knew_as_deleted_stays_so(root: Path) -> None:
    async with opened(root) as store:
        await seal(store)
        await acts.delete(store, "main/striped")
        await acts.unlink(store, "main/dir/big")
        await store.maintenance.reap()
        await store.imager.write()
        before = await look(store)
    lose(root)
    report = await rebuilt(root)
    assert (report.created, report.updated) == (0, 0)
    async with opened(root) as store:
        assert await seen(store) == before


async def test_shards_of_a_volume_that_was_freed_before_the_image_bring_nothing_back(root: Path) -> None:
    async with opened(root) as store:
        await acts.put(store, "main/gone", b"g" * STRIPED)
        await seal(store)
        kept = image_below(root)
        for path in ("main/gone", "main/striped", "rest/striped", "main/dir/big"):
            await acts.unlink(store, path)
        for upload in (await store.uploads.list("main")).uploads:
            await acts.abort(store, "main/upload", upload.id)
        with at_once():
            await store.maintenance.round()
            await store.maintenance.round()
        await store.packer.round(ALL)
        await store.imager.write()
        before = await look(store)
    lose(root)
    old = {path: data for path, data in kept.items() if "/volumes/" in path and not (root / path).exists()}
    assert old
    for path, data in old.items():
        assert data is not None
        (root / path).write_bytes(data)
    report = await rebuilt(root)
    assert report.created == 0
    async with opened(root) as store:
        assert await seen(store) == before


async def test_bytes_that_lay_in_the_catalog_alone_are_listed_and_refused(root: Path, furnished: Image) -> None:
    write_image(furnished, root)
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    lose(root)
    report = await rebuilt(root)
    lost = {run.path.decode(): (run.offset, run.length) for run in report.lost.inline}
    assert lost["main/inline"] == (0, INLINE)
    assert report.lost.inline_bytes == sum(length for _, length in lost.values())
    async with opened(root) as store:
        assert [line for line in await audit_rows(store) if "fail their checksum" not in line] == []
        for path, node in before.nodes.items():
            if node.kind != FILE:
                continue
            ino = await acts.find(store, path)
            if path in lost or path == "main/dir/hard":
                with pytest.raises(CatalogCorrupt):
                    await store.reader.read(ino, 0, ALL)
            else:
                assert bytes(await store.reader.read(ino, 0, ALL)) == node.data
        await store.packer.round(ALL)  # passes over them
        await acts.put(store, "main/inline", b"new")
        await acts.unlink(store, "main/dir/file")
        await store.maintenance.reap()


async def test_bytes_that_no_name_leads_to_are_set_aside(root: Path) -> None:
    """A volume that was left open has no table of contents."""
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        before = await look(store)
        await acts.put(store, "main/new", b"n" * STRIPED)
        killed = image_below(root)
    write_image(killed, root)
    lose(root)
    report = await rebuilt(root)
    ((volume, count),) = report.unclaimed.items()
    assert count == STRIPED
    assert not report.whole
    assert not report.lost.any
    async with opened(root) as store:
        assert await seen(store) == before
    assert len(shards(root, "quarantine", volume)) == 6


async def test_without_an_image_names_come_from_tables_of_contents(root: Path) -> None:
    async with opened(root) as store:
        await seal(store)
        before = said(await look(store))
    settings = (root / "store/stratumfs.toml").read_text()
    lose(root)
    with pytest.raises(ConfigError, match="nothing says how tier warm is coded"):
        await rebuilt(root)
    (root / "store/stratumfs.toml").write_text(settings)
    report = await rebuilt(root)
    assert report.image is None
    assert report.new_credentials
    async with opened(root) as store:
        found = said(await look(store))
    # A second name of a file, a link and an empty directory are in no table.
    assert {path for path in before if path not in found} == {"main/symlink", "main/empty/", "main/dir/hard"}
    files = {path: each for path, each in found.items() if each[0] == FILE}
    assert files == {path: before[path] for path in files}


async def test_a_damaged_image_gives_way_to_the_one_before(root: Path) -> None:
    async with opened(root) as store:
        first = await store.imager.write()
        await seal(store)
        await acts.put(store, "main/new", b"n" * STRIPED)
        await seal(store)
        second = await store.imager.write()
        before = await look(store)
    lose(root)
    for shard in shards(root, "volumes/*", second.volume)[:3]:
        data = bytearray(shard.read_bytes())
        data[200] ^= 1
        shard.write_bytes(data)
    report = await rebuilt(root)
    assert report.image is not None
    assert report.image.volume == first.volume
    async with opened(root) as store:
        assert said(await look(store)) == said(before)


async def test_two_devices_may_be_lost_with_it(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    lose(root)
    for slot in (0, 5):
        shutil.rmtree(root / f"d{slot}")
    with pytest.raises(ConfigError, match="attach that"):
        await rebuilt(root)
    await trio.to_thread.run_sync(partial(rebuild_catalog, root / "d3", force=True))
    async with opened(root) as store:
        assert await look(store) == before


async def test_a_catalog_that_is_there_is_not_taken_for_lost(root: Path) -> None:
    with pytest.raises(ConfigError, match="has the catalog"):
        await rebuilt(root)


def manifests(root: Path) -> list[Path]:
    return [*root.glob("d*/catalog/manifest.json")]


async def test_a_catalog_that_cannot_be_read_just_now_is_not_taken_for_lost(root: Path) -> None:
    async with opened(root):
        pass
    shutil.rmtree(root / "store")
    kept, *others = manifests(root)
    for manifest in others:
        shutil.rmtree(manifest.parent)
    kept.rename(kept.with_suffix(".away"))
    kept.mkdir()  # it answers a read with an error
    with pytest.raises(ConfigError, match=f"may be there yet: {kept.parent} cannot be read"):
        await rebuilt(root)
    assert not (root / "store").exists()


async def test_a_catalog_whose_disk_is_silent_is_not_taken_for_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(root):
        pass
    shutil.rmtree(root / "store")
    read, answer = IdentityPlace.read_named, threading.Event()

    def silent(place: IdentityPlace) -> Named | None:
        if threading.current_thread() is not own and place.root in holders:
            answer.wait(STRIKE_S)
        return read(place)

    def rebuild() -> None:
        nonlocal own
        own = threading.current_thread()
        rebuild_catalog(root / "d3")

    own = threading.current_thread()

    holders = {manifest.parents[1] for manifest in manifests(root)}
    monkeypatch.setattr(IdentityPlace, "read_named", silent)
    for module, name in ((boot, "LOOK_S"), (absence, "FOLD_S")):
        monkeypatch.setattr(module, name, 0.01)
    try:
        with pytest.raises(ConfigError, match=r"may be there yet: .* does not answer"):
            await trio.to_thread.run_sync(rebuild)
    finally:
        answer.set()


async def test_a_store_folder_that_has_lost_its_identity_file_has_its_catalog_yet(root: Path) -> None:
    async with opened(root):
        pass
    (root / "store/identity.json").unlink()
    for manifest in manifests(root):
        shutil.rmtree(manifest.parent)
    with pytest.raises(ConfigError, match="store/catalog has a catalog up to transaction"):
        await rebuilt(root)


async def test_a_catalog_that_is_damaged_wherever_it_lies_is_lost(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    shutil.rmtree(root / "store")
    one, *others = manifests(root)
    for each in (path for path in one.parent.glob("chain-*/*") if path.is_file()):
        each.write_bytes(b"x" * each.stat().st_size)
    for manifest in others:
        for chain in manifest.parent.glob("chain-*"):
            shutil.rmtree(chain)
    await rebuilt(root)
    async with opened(root) as store:
        assert await look(store) == before


@pytest.mark.parametrize("stop", ["begun", "manifest", "in force"])
async def test_a_stop_while_it_is_put_in_force_leaves_what_can_be_done_again(root: Path, stop: str) -> None:
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    lose(root)

    class Stopped(BaseException):
        pass

    def stopping(*args: object) -> None:
        def step(done: str) -> None:
            nonlocal left
            if done == stop:
                left = image_below(root)
                raise Stopped

        install.put_in_force(*args, step=step)  # type: ignore[arg-type]

    left: Image = {}
    with patch.object(lost, "put_in_force", stopping), pytest.raises(Stopped):
        await rebuilt(root)
    write_image(left, root)
    if stop == "begun":
        await rebuilt(root)
    else:  # there is a chain that counts
        with pytest.raises(ConfigError, match="has the catalog"):
            await rebuilt(root)
    async with opened(root) as store:
        assert await seen(store) == before


async def test_a_file_that_was_written_in_part_after_the_image_is_not_mixed_unseen(root: Path) -> None:
    async with opened(root) as store:
        await store.imager.write()
        await seal(store)
        ino = await acts.find(store, "main/dir/big")
        other = await acts.find(store, "main/dir/file")
        await acts.publish(store, ino, [(1000, b"i" * 10), (20_000, b"v" * 20_000)], STRIPED, durable=True)
        await acts.publish(store, other, [(INLINE, b"w" * 20_000)], INLINE + 20_000, durable=True)
        await seal(store)
        before = await look(store)
    lose(root)
    report = await rebuilt(root)
    assert b"main/dir/big" in report.mixed
    assert not report.whole
    assert [(run.path, run.offset, run.length) for run in report.lost.inline] == [(b"main/dir/big", 1000, 10)]
    async with opened(root) as store:
        ino = await acts.find(store, "main/dir/big")
        with pytest.raises(CatalogCorrupt):
            await store.reader.read(ino, 0, STRIPED)
        wanted = before.nodes["main/dir/big"].data
        assert bytes(await store.reader.read(ino, 1010, STRIPED)) == wanted[1010:]


async def test_a_device_that_takes_no_writes_does_not_keep_a_catalog_from_being_put_in_force(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(root) as store:
        await store.imager.write()
        before = await look(store)
    lose(root)
    write, broken = IdentityPlace.write_named, {root / "d4"}

    def failing(place: IdentityPlace, named: Named) -> None:
        if place.root in broken:
            raise OSError(errno.EIO, "it is broken")
        write(place, named)

    monkeypatch.setattr(IdentityPlace, "write_named", failing)
    await rebuilt(root)
    broken.clear()
    async with opened(root) as store:
        assert await look(store) == before
    lose(root)
    broken |= {root / f"d{slot}" for slot in range(5)}
    broken |= {root / f"w{slot}" for slot in range(3)}
    with pytest.raises(StoreReadOnly, match="more than half"):
        await rebuilt(root)

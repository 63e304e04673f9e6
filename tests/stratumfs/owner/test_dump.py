"""The catalog as text, and back."""

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.schema import VERSION
from stratumfs.errors import CatalogCorrupt, ConfigError, DeviceRefused
from stratumfs.owner.dump import Loaded, dump, load
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import make_base
from tests.faults.disk import Image, write_image
from tests.faults.look import look
from tests.faults.place import fast_place
from tests.faults.run import opened


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


def chains(root: Path) -> list[Path]:
    return [*root.glob("store/catalog/chain-*")]


def lose(root: Path) -> None:
    shutil.rmtree(root / "store")
    for copy in root.glob("d*/catalog"):
        shutil.rmtree(copy)


async def dumped(store: Store, root: Path, name: str) -> list[bytes]:
    """Its lines; the first one is for this moment alone."""
    await dump(store.id, store.catalog, root / "store", root.parent / name)
    lines = (root.parent / name).read_bytes().splitlines()
    return lines[1:]


async def loaded(root: Path, name: str) -> Loaded:
    """The dump goes."""
    report = await trio.to_thread.run_sync(partial(load, root.parent / name, root / "store", force=True))
    (root.parent / name).unlink()
    return report


def swap(one: Path, other: Path) -> None:
    """Shards of the same volumes, between two devices."""
    paths = sorted(path.relative_to(each) for each in (one, other) for path in each.glob("volumes/*/*"))
    assert paths
    for path in paths:
        source, target = (one, other) if (one / path).exists() else (other, one)
        (source / path).rename(target / path)


async def new_file(store: Store, path: str) -> str:
    await acts.put(store, path, b"n")
    return path


async def test_a_dump_that_is_loaded_into_a_new_store_folder_is_dumped_the_same(root: Path, tmp_path: Path) -> None:
    async with opened(root) as store:
        await store.writer.volumes.seal_idle(0)
        before, tree = await dumped(store, root, "first"), await look(store)
    lose(root)
    await trio.to_thread.run_sync(load, root.parent / "first", root / "d2")
    async with opened(root) as store:
        assert await dumped(store, root, "second") == before
        assert await look(store) == tree
        assert await audit_rows(store) == []
        assert await audit_shards(store) == []
        await acts.put(store, "main/later", b"l")  # its ids are new ones
    for name in ("first", "second"):
        (root.parent / name).unlink()


async def test_what_is_loaded_is_a_whole_dump_of_this_store(root: Path, tmp_path: Path) -> None:
    async with opened(root) as store:
        await dumped(store, root, "whole")
    whole = (root.parent / "whole").read_bytes()
    (root.parent / "whole").unlink()
    lines = whole.split(b"\n")
    row = next(number for number, line in enumerate(lines) if line.startswith(b"["))
    first, _, rest = whole.partition(b"\n")
    cases = {
        "are missing": b"\n".join([*lines[:row], *lines[row + 1 :]]),
        "too early": whole[: len(whole) // 2].rpartition(b"\n")[0] + b"\n",
        "newer stratumfs": first.replace(b'"schema":%d' % VERSION, b'"schema":99') + b"\n" + rest,
        "it is of store": first.replace(b'"store":"0', b'"store":"f') + b"\n" + rest,
        "no lines of a catalog": b"something else\n",
        "out of range|<= 9223372036854775807": whole.replace(
            lines[row], re.sub(rb"\d+", b"9" * 20, lines[row], count=1)
        ),
        "never handed out": re.sub(rb'"ids":{[^}]*}', b'"ids":{}', first) + b"\n" + rest,
        "its format": b'{"stratumfs-catalog":99}\n',
        "no table": first + b'\n{"table":"sqlite_schema","columns":["name"]}\n["x"]\n',
        "a line that is none": whole.replace(b"\n[", b"\n[!", 1),
    }
    lose(root)
    for message, text in cases.items():
        (tmp_path / "dump").write_bytes(text)
        with pytest.raises((ConfigError, CatalogCorrupt), match=message):
            await trio.to_thread.run_sync(load, tmp_path / "dump", root / "d2")
    assert chains(root) == []  # what was begun is gone


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "stratumfs.toml.new"])
async def test_a_dump_brings_no_files_but_those_of_a_store_folder(root: Path, tmp_path: Path, name: str) -> None:
    async with opened(root) as store:
        await dumped(store, root, "whole")
    whole = root.parent / "whole"
    head, _, rest = whole.read_bytes().partition(b"\n")
    whole.write_bytes(head.replace(b'"files":{', b'"files":{"%s":"planted",' % name.encode()) + b"\n" + rest)
    lose(root)
    with pytest.raises(DeviceRefused, match="no file of a store"):
        await trio.to_thread.run_sync(load, whole, root / "d2")
    assert not (root / "store" / name).exists()
    assert chains(root) == []
    whole.unlink()


async def test_a_catalog_that_is_there_stays_unless_it_is_forced(root: Path, tmp_path: Path) -> None:
    async with opened(root) as store:
        await dumped(store, root, "old")
        before = await look(store)
        await acts.put(store, "main/later", b"l")
    old = root.parent / "old"
    with pytest.raises(ConfigError, match="has the catalog"):
        await trio.to_thread.run_sync(load, old, root / "store")
    await trio.to_thread.run_sync(lambda: load(old, root / "store", force=True))
    old.unlink()
    async with opened(root) as store:
        assert await look(store) == before


async def test_shards_are_looked_for_where_they_lie_now_and_ids_are_not_handed_out_again(root: Path) -> None:
    async with opened(root) as store:
        await store.writer.volumes.seal_idle(0)
        await dumped(store, root, "old")
        before = await look(store)
    async with opened(root) as store:
        inode = await acts.find(store, await new_file(store, "main/later"))
    swap(root / "d0", root / "d1")
    report = await loaded(root, "old")
    assert not report.lost.any
    async with opened(root) as store:
        assert await look(store) == before
        assert await audit_shards(store) == []
        assert await acts.find(store, await new_file(store, "main/new")) > inode
    assert not (root / "d0" / "quarantine").exists()


async def test_what_a_loaded_catalog_names_and_is_not_there_any_more_is_listed(root: Path) -> None:
    async with opened(root) as store:
        await store.writer.volumes.seal_idle(0)
        await dumped(store, root, "old")
        await acts.unlink(store, "main/striped")
    for slot in range(3):
        shutil.rmtree(root / f"d{slot}" / "volumes")
    report = await loaded(root, "old")
    assert b"main/striped" in {run.path for run in report.lost.shards}
    assert (report.lost.shards_bytes, report.lost.inline_bytes) == (sum(run.length for run in report.lost.shards), 0)


async def test_a_file_that_is_there_is_not_written_over(root: Path, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"precious")
    async with opened(root) as store:
        with pytest.raises(ConfigError, match="is there already"):
            await dump(store.id, store.catalog, root / "store", tmp_path / "dump")
    assert (tmp_path / "dump").read_bytes() == b"precious"

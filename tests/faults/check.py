"""Opens what a stop left, as the next owner does, and says what is wrong with it."""

import random
import shutil
import time
import traceback
from dataclasses import replace
from pathlib import Path

from stratumfs import config
from stratumfs.catalog import compaction
from stratumfs.devices.identity import DEVICE_FILE, Identity, has_identity, read_identity
from stratumfs.errors import ConfigError, DeviceRefused, StoreFull
from stratumfs.owner.fill import Filler
from stratumfs.owner.fsck import Wanted, _fsck
from stratumfs.owner.wire import Running
from stratumfs.store.store import Store
from tests.faults.acts import finish_moves, put
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import STRIPED
from tests.faults.disk import Image, image_below, write_image
from tests.faults.inline import on_the_loop
from tests.faults.look import look
from tests.faults.run import make_here, opened, running, store_folder
from tests.faults.story import Expected
from tests.faults.tree import DIRECTORY, Tree

PROBE = "probe"


async def wrong_after(image: Image, root: Path, expected: Expected) -> list[str]:
    """What is wrong with *image* below *root*, a line each."""
    write_image(image, root)
    return await wrong_here(root, expected)


async def wrong_here(root: Path, expected: Expected, tables_missing: int = 0) -> list[str]:
    """What is wrong with what is below *root*; *tables_missing*: see `audit_shards`.

    It is opened and looked at; then it must take an object and tidy, and is looked at again.
    """
    if expected.perhaps_nothing and not has_identity(root / "store"):
        return _wrong_without_store(root)
    try:
        with on_the_loop(root):
            return await _wrong_once_opened(root, expected, tables_missing)
    except Exception:
        return traceback.format_exc().splitlines()


async def _wrong_once_opened(root: Path, expected: Expected, tables_missing: int) -> list[str]:
    if expected.damaged:
        await _fsck(store_folder(root), Wanted(mend=True, full=False), lambda text, done, total: None)
    async with running(root) as opened_store:
        store = opened_store.store
        found = await look(store)
        if store.read_only is not None:
            return expected.differences(found) if _too_few(store) else [f"read-only: {store.read_only}"]
        wrong = _identities(root) + expected.differences(found)
        return wrong or await audit_rows(store) or await _used(opened_store, found, tables_missing)


async def wrong_without(image: Image, root: Path, expected: Expected, rng: random.Random) -> list[str]:
    """What is wrong if, besides, as many devices are lost as a volume has parity: everything must be read, and the
    store be written to."""
    write_image(image, root)
    try:
        _lose_devices(root, rng)
        with on_the_loop(root):
            async with opened(root) as store:
                before = await look(store)
                wrong = expected.differences(before)
                if store.read_only is not None and not _too_few(store):
                    wrong.append(f"read-only: {store.read_only}")
                buckets = await store.objects.buckets()
                if buckets and store.read_only is None:
                    wrong += await _taken(store, before, f"{buckets[0].name}/{PROBE}/{PROBE}", PROBE.encode() * STRIPED)
                return wrong
    except Exception:
        return traceback.format_exc().splitlines()


async def _taken(store: Store, before: Tree, path: str, data: bytes) -> list[str]:
    """It is there with all else; or is refused where one that is drained is among those that are left, which takes no
    new volumes."""
    if len(store.fleet.taking(store.tier)) > store.code.m:
        return before.put(path, data, await put(store, path, data)).differences(await look(store))
    try:
        await put(store, path, data)
    except StoreFull:
        return before.differences(await look(store))
    return ["what no devices are left for was taken"]


def _too_few(store: Store) -> bool:
    """For writes, which need one more device than may be lost: half of 3+3 is not enough."""
    return len(store.fleet.up(store.tier)) <= store.code.m


def _lose_devices(root: Path, rng: random.Random) -> None:
    code = config.load(store_folder(root) / config.SETTINGS_FILE).hot
    for device in rng.sample(sorted(root.glob("d[0-9]*")), code.m):
        shutil.rmtree(device)


async def _used(found: Running, before: Tree, tables_missing: int) -> list[str]:
    """It is a store like any other: it repairs what the stop left, with all its devices up then; takes an object under
    new ids; and packs and tidies behind whoever was stopped."""
    store = found.store
    if any(device.struck for device in store.devices.values()):
        tables_missing = store.code.m + 1  # a strike seals without
    await store.repairer.round()
    await _fill_empty(found)
    if store.fleet.struck:
        return [f"not repaired: {store.fleet.struck}"]
    await store.compactor.round()
    if any((waiting := await store.catalog.read(compaction.waiting, store.tier, store.code.n)).values()):
        return [f"not compacted: {waiting}"]
    await store.packer.round(1 << 40)
    buckets = await store.objects.buckets()
    if not buckets:
        await store.objects.create_bucket(PROBE, time.time_ns())
        before = before.make(f"{PROBE}/", DIRECTORY)
    path = f"{buckets[0].name if buckets else PROBE}/{PROBE}/{PROBE}"
    before = before.put(path, PROBE.encode(), await put(store, path, PROBE.encode()))
    await finish_moves(store)
    for _ in range(2):  # the second frees what the first emptied
        await store.maintenance.round()
    wrong = before.differences(await look(store))
    wrong += await audit_rows(store, tidy=True) + await audit_shards(store, tables_missing)
    return [f"once tidied: {line}" for line in wrong]


async def _fill_empty(found: Running) -> None:
    """New disks in the place of devices that failed, which have nothing of the store, or a part: see ``owner.fill``."""
    for ident in [*found.store.fleet.struck]:
        entry = found.folders.entry(ident)
        if entry is not None and entry.path.is_dir() and _is_new(entry.path, found.folders.identity):
            await Filler(found)._fill(entry)
            await found.store.repairer.round()


def _is_new(device: Path, store: Identity) -> bool:
    """It has no identity, or one that no list names: it is to be filled."""
    if not (device / DEVICE_FILE).exists():
        return True
    own = read_identity(device).own
    return own is None or all(each.id != own.id for each in store.devices)


def _identities(root: Path) -> list[str]:
    """All identity files name the same store, devices and places, and these are where they are."""
    folder = store_folder(root)
    said = read_identity(folder)
    wrong = [f"{folder} says that it is {said.store_path}"] if said.store_path != folder else []
    for entry in said.devices:
        if _is_new(entry.path, said):
            continue
        if _without_epochs(read_identity(entry.path)) != _without_epochs(said.of_device(entry.id)):
            wrong.append(f"the identity file of {entry.path} differs from that of {folder}")
    return wrong


def _without_epochs(identity: Identity) -> Identity:
    """What a file knows of the catalog is its own: one is written after the other."""
    return replace(identity, epoch_begun=None, epoch_in_force=None, sequence=0, images=(), standings=None)


def _wrong_without_store(root: Path) -> list[str]:
    """mkfs was stopped before there was a store. The next one makes it, or says what is in the way."""
    before = image_below(root)
    try:
        make_here(root)
    except (DeviceRefused, ConfigError):
        return [] if image_below(root) == before else ["mkfs refused, and changed something"]
    return []

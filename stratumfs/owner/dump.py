"""The catalog as text: all of it, for people and for programs that read no database.

A dump is written by the owner, of one moment, beside whatever goes on. It is loaded where nobody owns the store: into a
new database that is put in force at the end; what was there is set aside. What two dumps of the same rows differ in
stands in their first line.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.install import NewCatalog, new_catalog
from stratumfs.catalog.lines import Head, Loader, head_of, lines_of
from stratumfs.catalog.rebuilt import IDS_JUMP
from stratumfs.catalog.schema import VERSION
from stratumfs.errors import ConfigError, StoreFull
from stratumfs.ids import StoreId
from stratumfs.owner.blame import cause_of
from stratumfs.owner.lost import LostStore, lost_store
from stratumfs.owner.lost_cold import look_in_cold_of
from stratumfs.owner.places import travelling_files
from stratumfs.owner.whereabouts import Lost, Where, Younger, list_lost, place_known
from stratumfs.threads import in_thread
from stratumfs.volumes.found import find_volumes

_PIECE = 1 << 20


@dataclass(slots=True)
class Loaded:
    """known_sequence  the last that an identity file knew of: what came in between is gone
    younger            volumes that the dump does not know
    cold_not_looked    why nobody knows what the cold tier has of what it names; None: all is known
    """

    head: Head
    known_sequence: int
    younger: Younger
    lost: Lost
    cold_not_looked: str | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sequence": self.head.sequence,
            "at": self.head.created_ns / 1e9,
            "known_sequence": self.known_sequence,
            **self.younger.plain(),
            **self.lost.plain(),
            "cold_not_looked": self.cold_not_looked,
        }


async def dump(store: StoreId, catalog: Catalog, folder: Path, path: Path) -> dict[str, Any]:
    """Write the catalog to a new file. Returns how many bytes it has.

    Raises: ConfigError if there is such a file; StoreFull, OSError; StratumError of the catalog.
    """
    thread = trio.CapacityLimiter(1)
    now_ns = time.time_ns()
    size = 0
    file = await in_thread(_create, path, limiter=thread)
    try:
        async with catalog.aside.snapshot() as view:
            head = await in_thread(head_of, view, store, now_ns, travelling_files(folder), limiter=thread)
            lines = lines_of(view, head)
            while (piece := await in_thread(partial(next, lines, None), limiter=thread)) is not None:
                await in_thread(_write, file, piece, limiter=thread)
                size += len(piece)
                await catalog.aside.check_log()
        await in_thread(os.fsync, file, limiter=thread)
    except BaseException:
        with trio.CancelScope(shield=True):
            await in_thread(partial(path.unlink, missing_ok=True), limiter=thread)
        raise
    finally:
        os.close(file)
    return {"file": str(path), "bytes": size, "sequence": head.sequence}


def load(source: Path, named: Path, *, force: bool = False, told: Callable[[str], None] = lambda text: None) -> Loaded:
    """Make the catalog that *source* tells of that of the store *named* (its folder, or any device; a folder that
    is lost is made). Blocking; nobody may own the store.

    force  also where a catalog is there, which is set aside, or may be on a place that is not

    Raises: ConfigError if *source* is no dump of this store, or there is a catalog; CatalogCorrupt if it is damaged;
    StoreInUse, StoreReadOnly, DeviceRefused, NotFound, OSError.
    """
    with source.open("rb") as file, lost_store(named) as found:
        if not force:
            try:
                trio.run(found.check_lost)
            except BaseExceptionGroup as group:
                raise cause_of(group) from group
        found.make_folder()
        with new_catalog(found.catalog_folder) as made:
            head = load_lines(made, iter(partial(file.read, _PIECE), b""), partial(_check, found))
            told("looks what lies on the devices")
            devices = found.shards()
            volumes = find_volumes(devices)
            cold = look_in_cold_of(found, made, head.files, told)
            volumes.update(cold.volumes)
            younger = place_known(made, volumes, Where(found.identity, {**devices, **cold.readers}), devices)
            lost = list_lost(made, volumes, remote=cold.looked)
            report = Loaded(head, found.known_sequence, younger, lost, cold.not_looked)
            found.keep_standings(made, head.sequence)
            ids = {key: head.ids[key] + IDS_JUMP for key in FIRST}
            told("puts the catalog in force")
            found.put_in_force(made, ids, max(report.known_sequence, head.sequence) + 1, lambda: head.files)
    return report


def load_lines(made: NewCatalog, pieces: Iterator[bytes], check: Callable[[Head], None]) -> Head:
    """Raises: CatalogCorrupt, ConfigError; what *check* raises."""
    loader = Loader(made.db, VERSION, check)
    with made.transaction():
        for piece in pieces:
            loader.feed(piece)
        return loader.end()


def _check(found: LostStore, head: Head) -> None:
    if head.store != found.identity.store.hex():
        raise ConfigError(f"it is of store {head.store}, and this is {found.identity.store.hex()}")


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: it is not written over") from None


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"the dump cannot be written: {error.strerror}") from error
        raise

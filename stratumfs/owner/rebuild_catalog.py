"""Makes a lost catalog again: the newest namespace image, and on top of it what younger shards say.

The new one is built beside whatever is there and put in force at the end; a stop before that leaves everything as it
was, but for shards that the image names and that come back out of the quarantine, and the next try begins anew. Shards
that nothing names are not touched: the next opening sets them aside.

`rebuild_catalog` is what ``fsck.stratumfs --rebuild-catalog`` and ``stratumfs catalog rebuild`` call.
"""

import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs import config
from stratumfs.catalog.epochs import NamedImage
from stratumfs.catalog.first import first_rows
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.image import lines_in
from stratumfs.catalog.install import NewCatalog, new_catalog, read_all_named
from stratumfs.catalog.lines import Head, Loader
from stratumfs.catalog.rebuilt import (
    IDS_JUMP,
    Applied,
    Content,
    Ids,
    adopt_volume,
    applied,
    find_again,
    forget_volume,
    is_named,
    known_volumes,
)
from stratumfs.catalog.schema import VERSION
from stratumfs.catalog.vacated import forget_all_vacated
from stratumfs.catalog.volumes import OPEN, SEALED, seal_image, volume
from stratumfs.config import SETTINGS_FILE, Tier, render
from stratumfs.erasure.code import Code
from stratumfs.errors import CatalogCorrupt, ConfigError, StratumError
from stratumfs.ids import CellIndex, DeviceId, InodeNo, VolumeId
from stratumfs.owner import credentials
from stratumfs.owner.blame import cause_of
from stratumfs.owner.lost import LostStore, lost_store
from stratumfs.owner.lost_cold import look_in_cold_of
from stratumfs.owner.whereabouts import LISTED_MAX, Lost, Where, list_lost
from stratumfs.shards.backend import ShardReader
from stratumfs.threads import in_thread
from stratumfs.values import NewExtent
from stratumfs.volumes import toc
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.found import (
    FoundStripe,
    FoundVolume,
    code_of,
    find_volumes,
    runs_of_table,
    stripes_of_headers,
    table_of,
    take_back,
)
from stratumfs.volumes.reader import VolumeReader
from stratumfs.volumes.remote import remote_id

_FILES = 500
"""Files of a table that one transaction takes."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Report:
    """What came of it.

    image           the image that it began with; None: there was none, and only shards have spoken
    known_sequence  the last transaction that anything tells of: what came after the image is known only as far as
                    younger shards say it
    created, updated, unnamed
                    files by what younger tables of contents did to them; unnamed ones are parts of uploads, what was
                    deleted while it was open, and names that cannot be
    mixed           paths of updated ones that were written after the image, and of whose bytes younger tables tell in
                    part: the rest may be older
    found, found_count
                    names in the bucket lost-found of files whose own names mean others by now: they were deleted, or
                    renamed after the image; and how many, for so many are not listed
    unclaimed       volumes that no name leads to, with the bytes of their stripes; the next opening sets them aside
    lost            runs that lay in the catalog alone, and were not packed when it was lost, or in volumes that have
                    too few shards on the devices that are there
    cold_not_looked why nobody knows what lies in the cold tier beside what the image knows; None: all is known
    """

    image: NamedImage | None = None
    known_sequence: int = 0
    created: int = 0
    updated: int = 0
    unnamed: int = 0
    mixed: list[bytes] = field(default_factory=list)
    found: list[bytes] = field(default_factory=list)
    found_count: int = 0
    adopted: int = 0
    unclaimed: dict[VolumeId, int] = field(default_factory=dict)
    lost: Lost = field(default_factory=Lost)
    new_credentials: bool = False
    cold_not_looked: str | None = None

    @property
    def whole(self) -> bool:
        """Whether there are no bytes that are lost, may be older than they should, or that no name leads to."""
        return not (self.cold_not_looked or self.lost.any or self.mixed or any(self.unclaimed.values()))

    def plain(self) -> dict[str, Any]:
        """For JSON; paths as text, bytes that are no UTF-8 spelt out."""
        image = self.image
        return {
            "image": None
            if image is None
            else {"volume": image.volume.hex(), "sequence": image.sequence, "created": image.created_ns / 1e9},
            "known_sequence": self.known_sequence,
            "files": {"created": self.created, "updated": self.updated, "unnamed": self.unnamed},
            "mixed": [path.decode("utf-8", "backslashreplace") for path in self.mixed],
            "found": [path.decode() for path in self.found],
            "found_count": self.found_count,
            "volumes_adopted": self.adopted,
            "unclaimed": [{"volume": ident.hex(), "bytes": count} for ident, count in self.unclaimed.items()],
            **self.lost.plain(),
            "new_credentials": self.new_credentials,
            "cold_not_looked": self.cold_not_looked,
        }


def rebuild_catalog(named: Path, *, force: bool = False, told: Callable[[str], None] = lambda text: None) -> Report:
    """Make the catalog of the store *named* (its folder, or any device) again. Blocking; nobody may own the store.

    force  also where a catalog is there, which is set aside, or may be on a place that is not
    told   of each step, in words

    Raises: ConfigError where there is nothing to do, or it may not be done; StoreInUse, StoreReadOnly, DeviceRefused,
    NotFound, CatalogCorrupt, OSError.
    """
    with lost_store(named) as found:
        try:
            return trio.run(partial(_Rebuild(found, told).run, force))
        except BaseExceptionGroup as group:
            raise cause_of(group) from group


class _Rebuild:
    def __init__(self, found: LostStore, told: Callable[[str], None]) -> None:
        self._found, self._told = found, told
        self._store = found.identity.store
        self._shards = found.shards()
        self._remote = remote_id(self._store, config.COLD)
        self._readers: dict[DeviceId, ShardReader] = dict(self._shards)
        self._where = Where(found.identity, self._readers)
        self._reader = VolumeReader(self._store, found.attached.devices, lambda volume, index, error: None)
        self._report = Report()

    async def run(self, force: bool) -> Report:
        if not force:
            await self._found.check_lost()
        self._told("looks what lies on the devices")
        volumes = await in_thread(find_volumes, self._shards)
        await in_thread(self._found.make_folder)
        async with aclosing(self._images(volumes)) as images:
            async for image in images:
                try:
                    return await self._build(volumes, image)
                except CatalogCorrupt as error:
                    if image is None:
                        raise
                    self._told(f"the image in volume {image.volume.hex()} cannot be used: {error}")
        raise AssertionError("without an image it is built, or raises")

    async def _images(self, volumes: Mapping[VolumeId, FoundVolume]) -> AsyncGenerator[NamedImage | None, None]:
        """Those that identity files name, the youngest first; then those that only their shards tell of; then None."""
        named = read_all_named(self._found.places())
        self._report.known_sequence = self._found.known_sequence
        images = {image for each in named.values() for image in each.images if image.volume in volumes}
        for image in sorted(images, key=_age):
            yield image
        self._told("looks for namespace images that no identity file names")
        others = await in_thread(self._images_among, volumes)
        for image in sorted(others - images, key=_age):
            yield image
        yield None

    def _images_among(self, volumes: Mapping[VolumeId, FoundVolume]) -> set[NamedImage]:
        found = set()
        for each in volumes.values():
            table = self._table(each)
            about = toc.about(table or ())
            if table is not None and about is not None and runs_of_table(table):
                found.add(NamedImage(each.id, about.sequence, about.written_ns))
        return found

    async def _build(self, volumes: dict[VolumeId, FoundVolume], image: NamedImage | None) -> Report:
        rows = () if image is not None else first_rows(os.geteuid(), os.getegid(), time.time_ns())
        with new_catalog(self._found.catalog_folder, rows) as made:
            files: Mapping[str, str] = {}
            ids = Ids(*(FIRST[key] + IDS_JUMP for key in FIRST))
            if image is not None:
                self._told(f"reads the image of transaction {image.sequence}")
                head = await self._load(made, volumes[image.volume])
                image = NamedImage(image.volume, head.sequence, head.created_ns)
                files, self._report.image = head.files, image
                ids = Ids(*(head.ids[key] + IDS_JUMP for key in FIRST))
            await in_thread(self._look_in_cold, made, volumes, files)
            await in_thread(self._adopt, made, volumes, image, ids)
            listing = partial(list_lost, remote=self._remote in self._readers)
            self._report.lost = await in_thread(listing, made, volumes)
            since = image.sequence if image is not None else -1
            await in_thread(self._found.keep_standings, made, since)
            sequence = max(self._report.known_sequence, image.sequence if image is not None else 0) + 1
            self._told("puts the new catalog in force")
            await in_thread(
                self._found.put_in_force, made, ids.next(), sequence, lambda: files or self._new_files(volumes)
            )
        return self._report

    # The image

    async def _load(self, made: NewCatalog, found: FoundVolume) -> Head:
        """Raises: CatalogCorrupt if it is damaged, or none."""
        info, stripes = await in_thread(self._stripes, found)

        def read() -> Iterator[bytes]:
            for stripe in stripes:
                try:
                    yield bytes(trio.from_thread.run(self._reader.read, info, stripe.location, 0, stripe.length))
                except StratumError as error:
                    raise CatalogCorrupt(f"volume {found.id.hex()}: {error}") from error

        def load() -> Head:
            loader = Loader(made.db, VERSION)
            made.db.execute("begin")
            for lines in lines_in(read()):
                loader.feed(lines)
            made.db.execute("commit")
            head = loader.end()
            if head.store != self._store.hex():
                raise CatalogCorrupt("an image of another store")
            return head

        return await in_thread(load)

    def _stripes(self, found: FoundVolume) -> tuple[VolumeInfo, Sequence[FoundStripe]]:
        table = self._table(found)
        code = code_of(found, self._readers, self._store)
        if code is None:
            raise CatalogCorrupt("none of its shards can be read")
        stripes = runs_of_table(table) if table else stripes_of_headers(found, self._readers, self._store)
        return VolumeInfo(found.id, self._where.tier(found), code, self._where.devices(found, code)), stripes

    # The cold tier

    def _look_in_cold(self, made: NewCatalog, volumes: dict[VolumeId, FoundVolume], files: Mapping[str, str]) -> None:
        """Add the volumes that lie there, if settings tell of it, and it can be looked into. Once."""
        if self._remote in self._readers:
            return
        looked = look_in_cold_of(self._found, made, files, self._told)
        self._report.cold_not_looked = looked.not_looked
        self._readers.update(looked.readers)
        volumes.update(looked.volumes)

    # Younger shards

    def _adopt(
        self, made: NewCatalog, volumes: dict[VolumeId, FoundVolume], image: NamedImage | None, ids: Ids
    ) -> None:
        """Where the shards of known volumes lie now; volumes that the image does not know; and what younger tables say.

        A table that is older than the image is not asked: what it tells of and the image does not is deleted.
        """
        known_until = image.sequence if image is not None else -1
        # Each is read again in its turn: all of them together may be as long as the catalog.
        tables: list[tuple[toc.About, VolumeId]] = []
        now_ns = time.time_ns()
        with made.transaction() as tx:
            forget_all_vacated(tx)
            known = known_volumes(tx)
        take_back(known, volumes, self._shards)
        for found in volumes.values():
            state, devices = known.get(found.id, (None, ()))
            remote = self._remote in found.cells.get(CellIndex(0), ())
            if state is not None:
                with made.transaction() as tx:
                    self._where.place(tx, found, devices)
                    unnamed = remote and state == SEALED and not is_named(tx, found.id)
                if state != OPEN and not unnamed:
                    continue
            code = code_of(found, self._readers, self._store)
            if code is None:
                continue
            table = table_of(found, code, self._readers)
            about = toc.about(table or ())
            if image is not None and found.id == image.volume:
                self._adopt_image(made, found, code, table)
            elif table is None or about is None:
                self._report.unclaimed[found.id] = self._unnamed_bytes(made, found)
                if remote:
                    self._leave_alone(made, found)
            elif about.sequence > known_until and not runs_of_table(table):
                tables.append((about, found.id))
                if state is None:
                    with made.transaction() as tx:
                        adopt_volume(
                            tx,
                            found.id,
                            self._where.tier(found),
                            code.k,
                            code.m,
                            self._where.devices(found, code),
                            now_ns,
                        )
                    self._report.adopted += 1
            elif remote and self._leave_alone(made, found):
                self._report.unclaimed[found.id] = self._unnamed_bytes(made, found)
        self._told(f"{len(tables)} tables of contents are younger")
        for said, ident in sorted(tables, key=lambda each: each[0].sequence):
            self._report.known_sequence = max(self._report.known_sequence, said.sequence)
            if (entries := self._table(volumes[ident])) is not None:
                self._apply(made, said, entries, ids, now_ns)
            else:  # the device has failed since
                self._report.unclaimed[ident] = self._unnamed_bytes(made, volumes[ident])
        self._find_again(made, ids, now_ns)
        for _, ident in tables:
            if ident not in known:
                with made.transaction() as tx:
                    if forget_volume(tx, ident):
                        self._report.adopted -= 1
                        self._report.unclaimed[ident] = self._unnamed_bytes(made, volumes[ident])

    def _leave_alone(self, made: NewCatalog, found: FoundVolume) -> bool:
        """An object that nothing names has no row, for the next owner deletes what is only empty: people decide.

        A delete takes the object before its row goes, so this is none that was deleted. False if something names it.
        """
        with made.transaction() as tx:
            return forget_volume(tx, found.id)

    def _adopt_image(
        self, made: NewCatalog, found: FoundVolume, code: Code, table: Sequence[toc.TocEntry] | None
    ) -> None:
        """The image cannot know its own volume."""
        stripes = runs_of_table(table) if table else stripes_of_headers(found, self._readers, self._store)
        last = max(stripes, key=lambda each: each.location.position).location
        now_ns = time.time_ns()
        with made.transaction() as tx:
            adopt_volume(
                tx, found.id, self._where.tier(found), code.k, code.m, self._where.devices(found, code), now_ns
            )
            seal_image(tx, found.id, last.position + last.stride, last.stripe + 1, now_ns)

    def _apply(self, made: NewCatalog, about: toc.About, table: Sequence[toc.TocEntry], ids: Ids, now_ns: int) -> None:
        told = toc.attributes(table)
        files: dict[InodeNo, list[toc.TocEntry]] = {}
        for entry in table:
            if entry.inode != toc.NO_INODE and entry.length:
                files.setdefault(entry.inode, []).append(entry)
        contents = [_content(ino, entries, told.get(ino), about) for ino, entries in files.items()]
        for start in range(0, len(contents), _FILES):
            with made.transaction() as tx:
                for content in contents[start : start + _FILES]:
                    match applied(tx, content, ids, now_ns):
                        case Applied.CREATED:
                            self._report.created += 1
                        case Applied.UPDATED:
                            self._report.updated += 1
                        case Applied.MIXED:
                            self._report.updated += 1
                            self._report.mixed.append(content.path)
                        case Applied.UNNAMED:
                            self._report.unnamed += 1
        made.fold()

    def _find_again(self, made: NewCatalog, ids: Ids, now_ns: int) -> None:
        while True:
            with made.transaction() as tx:
                names = find_again(tx, ids, now_ns)
            if not names:
                return
            self._report.found_count += len(names)
            self._report.found += names[: LISTED_MAX - len(self._report.found)]

    # Volumes, by their shards

    def _table(self, found: FoundVolume) -> list[toc.TocEntry] | None:
        code = code_of(found, self._readers, self._store)
        return table_of(found, code, self._readers) if code is not None else None

    def _unnamed_bytes(self, made: NewCatalog, found: FoundVolume) -> int:
        """Of all its stripes, those left out that some row names."""
        total = sum(stripe.length for stripe in stripes_of_headers(found, self._readers, self._store))
        with made.transaction() as tx:
            row = volume(tx, found.id)
        return max(0, total - row.live) if row is not None else total

    def _new_files(self, volumes: Mapping[VolumeId, FoundVolume]) -> Mapping[str, str]:
        """What is missing of settings and credentials of a store that has no image."""
        files = {}
        if not (self._found.folder / SETTINGS_FILE).exists():
            files[SETTINGS_FILE] = self._new_settings(volumes)
        if not (self._found.folder / credentials.CREDENTIALS_FILE).exists():
            files[credentials.CREDENTIALS_FILE] = credentials.text(credentials.make())
            self._report.new_credentials = True
        return files

    def _new_settings(self, volumes: Mapping[VolumeId, FoundVolume]) -> str:
        """Of each tier the widest code that a volume has. Raises: ConfigError if one has none."""
        tiers: dict[str, Tier] = {}
        for found in volumes.values():
            code, tier = code_of(found, self._readers, self._store), self._where.tier(found)
            if code is not None and (tier not in tiers or code.n > tiers[tier].k + tiers[tier].m):
                tiers[tier] = Tier(code.k, code.m)
        wanted = [name for name in (config.HOT, config.WARM) if name in self._where.tiers.values()]
        for name in wanted:
            if name not in tiers:
                path = self._found.folder / SETTINGS_FILE
                raise ConfigError(f"nothing says how tier {name} is coded: write {path}, and try again")
        return render({name: tiers[name] for name in wanted})


def _content(ino: InodeNo, entries: Sequence[toc.TocEntry], told: toc.Attributes | None, about: toc.About) -> Content:
    extents = [NewExtent(each.offset, each.length, each.location) for each in entries]
    path = entries[0].path
    if told is None:
        return Content(ino, path, extents, about.written_ns, about.written_ns)
    return Content(
        ino,
        path,
        extents,
        told.mtime_ns,
        told.modified_ns,
        told.content,
        told.size,
        told.mode,
        told.uid,
        told.gid,
        told.etag,
        told.object,
        told.parts,
        told.inline,
    )


def _age(image: NamedImage) -> int:
    return -image.sequence

"""A new database for a store that has its catalog no more, or is to have another one: made beside, and put in force.

The order is that of every epoch, see `epochs`: identity files name it as begun, the new chain is whole and gets its
manifest, the files name it in force. Until then a stop leaves what was there, and a chain that nobody names. What it
takes the place of is set aside as every chain is that no epoch names. All of it blocks; the caller holds all locks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

import apsw

from stratumfs.catalog import chains
from stratumfs.catalog.chains import Form, Manifest
from stratumfs.catalog.connection import DATABASE, WAL, connect, fsync_path, rollback, translate
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.epochs import Epoch, Named, majority, may_begin, newest_in_force, next_epoch
from stratumfs.catalog.migrations import MIGRATIONS, due
from stratumfs.catalog.places import Place
from stratumfs.catalog.schema import TABLES, VERSION
from stratumfs.catalog.state import GET_STATE, SET_STATE, TICK
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import CatalogCorrupt, StoreReadOnly, StratumError
from stratumfs.ids import PlaceId
from stratumfs.limits import CATALOG_PAGE_SIZE


@dataclass(slots=True)
class NewCatalog:
    """A database in a chain of its own at a place. Used by one thread.

    folder  of the chain
    db      to load rows into, outside of a transaction
    """

    folder: Path
    db: apsw.Connection

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Committed at the end of the block, undone if it raises."""
        self.db.execute("begin immediate")
        tx = Transaction(self.db, writable=True)
        try:
            yield tx
            self.db.execute("commit")
        except BaseException as error:
            rollback(self.db)
            if isinstance(error, apsw.Error):
                raise translate(error) from error
            raise
        finally:
            tx.end()

    def state(self, key: str) -> int:
        """Raises: CatalogCorrupt."""
        with self.transaction() as tx:
            row = tx.one(GET_STATE, (key,))
        if row is None:
            raise CatalogCorrupt(f"the catalog has lost its {key}")
        return int(row[0])

    def fold(self) -> None:
        """Keep the log short, between transactions."""
        self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def finish(self, state: Mapping[str, int]) -> int:
        """Nothing more comes: *state* is what the engine's table is to say. Returns the salt of generation 0.

        Durable on return. Raises: ChainDamaged if SQLite's check finds anything; StratumError, OSError.
        """
        with self.transaction() as tx:
            for key, value in state.items():
                tx.run(SET_STATE, (value, key))
        self.fold()
        self.db.execute(TICK)  # begins the log anew
        self.db.close()
        chains.check_database(self.folder)
        for name in (DATABASE, WAL):
            fsync_path(self.folder / name)
        fsync_path(self.folder)
        salt = chains.wal_salt(self.folder / WAL)
        if salt is None:
            raise CatalogCorrupt(f"{self.folder / WAL} has no header")
        return salt


@contextmanager
def new_catalog(place: Path, rows: Sequence[str] = ()) -> Iterator[NewCatalog]:
    """Tables in a new chain in the catalog folder *place*; it is removed again if the block raises.

    *rows* are statements that fill it. Raises: StratumError, OSError.
    """
    folder = chains.new_chain(place)
    try:
        create_catalog(folder, (*TABLES, *rows), VERSION, page_size=CATALOG_PAGE_SIZE)
        made = NewCatalog(folder, connect(folder / DATABASE))
        try:
            yield made
        finally:
            made.db.close()
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def catalog_of_copy(place: Path, fill: Callable[[Path], None]) -> Iterator[NewCatalog]:
    """As `new_catalog`, of what *fill* puts into the chain's folder: a copy, all of whose generations are closed.

    Raises: also ChainDamaged, ConfigError if its tables are of a newer program; what *fill* raises.
    """
    folder = chains.new_chain(place)
    try:
        fill(folder)
        chains.fold(folder)
        (folder / f"base.{chains.copy_files(folder).base}").rename(folder / DATABASE)
        (folder / "spare").unlink(missing_ok=True)
        made = NewCatalog(folder, connect(folder / DATABASE))
        try:
            due(made.state("schema_version"), VERSION, MIGRATIONS)
            yield made
        finally:
            made.db.close()
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise


def read_all_named(places: Sequence[Place]) -> dict[PlaceId, Named]:
    """What the files of *places* say of epochs; not those that cannot be read, or say nothing."""
    found = {}
    for place in places:
        with suppress(StratumError, OSError):
            if (named := place.read_named()) is not None:
                found[place.id] = named
    return found


def put_in_force(
    places: Sequence[Place],
    listed: frozenset[PlaceId],
    holder: PlaceId,
    chain: str,
    salt: int,
    files: Mapping[str, str],
    sequence: int,
    step: Callable[[str], None] = lambda step: None,
) -> Epoch:
    """The database in the folder *chain* of *holder*'s catalog folder is the catalog from now on, and the only one.

    *sequence*: its last transaction, which no file may know a later one of. *step* is told of each that is done.
    Raises: StoreReadOnly if too few *places* of those *listed* are there; StratumError, OSError: then the one that was
    in force is, or another try puts this one in force.
    """
    by_id = {place.id: place for place in places}
    named = read_all_named(places)
    if not named:
        raise StoreReadOnly("no identity file says which epoch of the catalog was in force")
    parent = newest_in_force(named.values())
    if not (may_begin(parent, listed, by_id.keys()) and majority(parent.places, named.keys())):
        raise StoreReadOnly(
            f"{len(by_id)} of {len(listed)} places of the store are there, and more than half must: attach more devices"
        )
    epoch = next_epoch(parent, named.values(), [holder], listed)
    images = max((each.images for each in named.values()), key=lambda one: one[0].sequence if one else -1)
    _tell({by_id[ident]: replace(said, begun=epoch) for ident, said in named.items()}, listed)
    step("begun")
    chains.write_manifest(by_id[holder].folder, Manifest(epoch, chain, Form.DATABASE, salt, files))
    step("manifest")
    newest = max((each.standings for each in named.values()), key=lambda said: said.sequence)
    said = Named(epoch, epoch, sequence, images, newest)
    by_id[holder].write_named(said)
    step("in force")
    _tell(dict.fromkeys(by_id.values(), said), listed)
    return epoch


def _tell(words: Mapping[Place, Named], listed: frozenset[PlaceId]) -> None:
    """Those whose file cannot be written are judged by the next opening. Raises: StoreReadOnly if they are too many."""
    told, failed = set(), ""
    for place, word in words.items():
        try:
            place.write_named(word)
            told.add(place.id)
        except (StratumError, OSError) as error:
            failed = str(error)
    if not majority(listed, told):
        raise StoreReadOnly(f"{len(told)} of {len(listed)} places take writes, and more than half must: {failed}")

"""The tables as lines of JSON, in an order that depends on their rows alone: what images and dumps are made of.

The first line says what follows. A line that is an object begins a table; each line behind it that is an array is a
row of it; the last line says how many rows there were. See stratumfs-format(5).
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any

import apsw
import msgspec

from stratumfs.catalog.connection import translate
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.state import GET_STATE
from stratumfs.errors import CatalogCorrupt, ConfigError
from stratumfs.ids import StoreId
from stratumfs.limits import IMAGE_ROWS

FORMAT = 1
STATE_TABLE = "catalog_state"
"""What of it outlasts a catalog is in the first line; an opening changes all of it."""

_encoder = msgspec.json.Encoder()

_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What SQLite can have."""
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""One that can be counted on from."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"format": "stratumfs-catalog"}):
    """The first line.

    store       id in hex digits
    schema      version of the tables
    sequence    of the last transaction that the lines show
    created_ns  when they were read
    ids         from where on ids were never handed out, by the keys of `stratumfs.catalog.ids.FIRST`
    files       small files of the store folder that travel with the catalog
    """

    format: int
    store: str
    schema: int
    sequence: _Count
    created_ns: _Integer
    ids: dict[str, _Count]
    files: dict[str, str] = {}


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    table: str
    columns: list[str]


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: int


@dataclass(frozen=True, slots=True)
class Left:
    """Columns that are left out, by table."""

    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)


ALL = Left()
WITHOUT_INLINE = Left({"extent": frozenset({"data"})})


def head_of(db: apsw.Connection, store: StoreId, created_ns: int, files: Mapping[str, str]) -> Head:
    """Raises: CatalogCorrupt."""
    state = {key: _state(db, key) for key in ("schema_version", "sequence", *FIRST)}
    ids = {key: state[key] for key in FIRST}
    return Head(FORMAT, store.hex(), state["schema_version"], state["sequence"], created_ns, ids, dict(files))


def lines_of(db: apsw.Connection, head: Head, left: Left = ALL) -> Iterator[bytes]:
    """All lines, some IMAGE_ROWS rows at a time. The caller has begun a transaction, so that they are of one moment.

    Raises: StratumError, as `translate` says.
    """
    count = 0
    try:
        yield _encoder.encode(head) + b"\n"
        for table in _tables(db):
            info = _columns(db, table)
            names = [name for name in info if name not in left.columns.get(table, ())]
            yield _encoder.encode(_Table(table, names)) + b"\n"
            order = ", ".join(_keys(db, table))
            cursor = db.execute(f"select {', '.join(names)} from {table} order by {order}")  # noqa: S608 - our own names
            while rows := list(islice(cursor, IMAGE_ROWS)):
                count += len(rows)
                yield _encoder.encode_lines(rows)
        yield _encoder.encode(_End(count)) + b"\n"
    except apsw.Error as error:
        raise translate(error) from error


class Loader:
    """Puts lines into empty tables, which are there. Feed it with pieces of any length, then call `end`.

    head  the first line, once it was fed
    """

    def __init__(self, db: apsw.Connection, version: int, check: Callable[[Head], None] = lambda head: None) -> None:
        """*version* of the tables; *check* is told of the head before anything else and raises if it will not do."""
        self.head: Head | None = None
        self.ended = False
        self._db, self._version, self._check = db, version, check
        self._known = {table: _columns(db, table) for table in _tables(db)}
        self._rest = b""
        self._insert = ""
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._count = 0

    def feed(self, piece: bytes) -> None:
        """Raises: ConfigError if it is none of ours, or of a newer program; CatalogCorrupt; StratumError."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        rows: list[Any] = []
        try:
            for line in lines:
                if line.startswith(b"["):
                    if self._decoder is None:
                        raise CatalogCorrupt("a row before the name of its table")
                    rows.append(self._decoder.decode(line))
                else:
                    self._put(rows)
                    self._take(line)
            self._put(rows)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise CatalogCorrupt(f"a line that is none: {error}") from error

    def end(self) -> Head:
        """Raises: CatalogCorrupt if lines are missing."""
        if self.head is None or not self.ended or self._rest:
            raise CatalogCorrupt("the lines end too early")
        return self.head

    def _take(self, line: bytes) -> None:
        if self.ended:
            raise CatalogCorrupt("there are lines behind the last one")
        if self.head is None:
            self.head = _head(line)
            if self.head.schema > self._version:
                raise ConfigError(
                    f"its tables have version {self.head.schema}, made by a newer stratumfs; this one knows "
                    f"{self._version}"
                )
            self._check(self.head)
        elif line.startswith(b'{"table"'):
            self._begin(msgspec.json.decode(line, type=_Table))
        else:
            if msgspec.json.decode(line, type=_End).rows != self._count:
                raise CatalogCorrupt("rows are missing")
            self.ended = True

    def _begin(self, said: _Table) -> None:
        known = self._known.get(said.table)
        if known is None or not set(said.columns) <= known.keys():
            raise CatalogCorrupt(f"there is no table {said.table!r} with columns {', '.join(said.columns)}")
        types = tuple(_TYPES[known[name]] for name in said.columns)
        self._decoder = msgspec.json.Decoder(tuple.__class_getitem__(types))
        marks = ", ".join("?" * len(types))
        self._insert = f"insert into {said.table} ({', '.join(said.columns)}) values ({marks})"  # noqa: S608 - as above

    def _put(self, rows: list[Any]) -> None:
        if not rows:
            return
        self._count += len(rows)
        try:
            self._db.executemany(self._insert, rows)
        except apsw.Error as error:
            raise translate(error) from error
        rows.clear()


_TYPES: Mapping[str, Any] = {"INTEGER": _Integer | None, "BLOB": bytes | None, "TEXT": str | None}


def text_of(blob: bytes) -> str:
    """As a blob stands in a line."""
    return base64.b64encode(blob).decode()


def read_head(lines: Iterable[bytes]) -> Head:
    """Of lines of which the first piece has the first one. Raises: ConfigError, CatalogCorrupt."""
    for piece in lines:
        return _head(piece.partition(b"\n")[0])
    raise CatalogCorrupt("there are no lines")


def _head(line: bytes) -> Head:
    try:
        found: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if found.get("stratumfs-catalog") != FORMAT:
            raise ConfigError(f"its format is {found.get('stratumfs-catalog')!r}, and this version knows {FORMAT}")
        head = msgspec.convert(found, Head)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"these are no lines of a catalog: {error}") from error
    if head.ids.keys() != FIRST.keys():
        raise ConfigError(f"it does not say from where on {', '.join(sorted(FIRST))} were never handed out")
    return head


def _state(db: apsw.Connection, key: str) -> int:
    row: Any = db.execute(GET_STATE, (key,)).fetchone()
    if row is None:
        raise CatalogCorrupt(f"the catalog has lost its {key}")
    return int(row[0])


def _tables(db: apsw.Connection) -> list[str]:
    rows: Any = db.execute("select name from sqlite_schema where type = 'table' order by name").fetchall()
    return [name for (name,) in rows if name != STATE_TABLE and not name.startswith("sqlite_")]


def _columns(db: apsw.Connection, table: str) -> dict[str, str]:
    """Names and types, in their order."""
    rows: Any = db.execute("select name, upper(type) from pragma_table_info(?)", (table,)).fetchall()
    return dict(rows)


def _keys(db: apsw.Connection, table: str) -> list[str]:
    rows: Any = db.execute("select name from pragma_table_info(?) where pk > 0 order by pk", (table,)).fetchall()
    return [name for (name,) in rows]

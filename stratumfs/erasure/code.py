"""The systematic Reed-Solomon code: a value `Code`, its generator matrix, and the `Codec` that runs it.

reedsolo defines the code (field polynomial 0x11d, generator 2, first root 0). It is linear, so encoding unit vectors
with reedsolo yields the generator matrix, and any engine that multiplies by a matrix yields reedsolo's parity, byte for
byte.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stratumfs.erasure.engine import Engine, default_engine
from stratumfs.erasure.field import combine, define_parity, invert
from stratumfs.errors import GeometryError, TooFewShards
from stratumfs.ids import Buffer, CellIndex
from stratumfs.limits import SHARDS_MAX
from stratumfs.room import room

RECOVERIES_KEPT = 256
"""Inverted tables kept by a codec: one for each pattern of losses in use, and patterns are few at a time."""


@dataclass(frozen=True, slots=True)
class Code:
    """*k* data cells and *m* parity cells to a stripe; any *k* of them give it back.

    Raises: GeometryError unless k >= 1, m >= 0 and k + m <= 255.
    """

    k: int
    m: int

    def __post_init__(self) -> None:
        if self.k < 1 or self.m < 0 or self.n > SHARDS_MAX:
            raise GeometryError(f"no code has k={self.k} and m={self.m}: k >= 1, m >= 0, k + m <= {SHARDS_MAX}")

    @property
    def n(self) -> int:
        """Cells of a stripe, shards of a volume."""
        return self.k + self.m


@lru_cache(maxsize=64)
def parity_matrix(code: Code) -> tuple[bytes, ...]:
    """*m* rows of *k* factors: how the parity cells follow from the data cells."""
    columns = [define_parity(bytes(int(at == one) for at in range(code.k)), code.m) for one in range(code.k)]
    return tuple(bytes(column[row] for column in columns) for row in range(code.m))


def generator_row(code: Code, index: CellIndex) -> bytes:
    """How cell *index* follows from the *k* data cells."""
    if index < code.k:
        return bytes(int(column == index) for column in range(code.k))
    return parity_matrix(code)[index - code.k]


def recovery_matrix(code: Code, present: Sequence[CellIndex], wanted: Sequence[CellIndex]) -> list[bytes]:
    """A row of *k* factors for each wanted cell: how it follows from the *k* present ones, in their order."""
    inverted = invert([generator_row(code, index) for index in present])
    return [combine(generator_row(code, index), inverted) for index in wanted]


class Codec:
    """Runs one code. Thread-safe; shared by all volumes of a geometry.

    The only state is a bounded cache of inverted tables, guarded by a lock that is never held while computing.
    """

    def __init__(self, code: Code, engine: Engine | None = None) -> None:
        self.code = code
        self.engine = engine or default_engine()
        self._parity = self.engine.tables(parity_matrix(code)) if code.m else None
        self._recoveries: OrderedDict[tuple[tuple[CellIndex, ...], tuple[CellIndex, ...]], object] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, data: Sequence[Buffer], size: int) -> list[memoryview]:
        """The *m* parity cells of *k* data cells of *size* bytes each."""
        if len(data) != self.code.k:
            raise GeometryError(f"{len(data)} data cells given to a code of k={self.code.k}")
        parity = _cells(self.code.m, size)
        if self._parity is not None and size:
            self.engine.multiply(self._parity, data, parity, size)
        return parity

    def encode_in_place(self, block: memoryview, size: int) -> Callable[[], None]:
        """A call that sets the parity cells in *block*, n cells of *size* bytes, from the data cells there.

        For headers: many data cells of few bytes. *block* is writable, and stays where it is while the call is kept.
        """
        assert self._parity is not None
        cells = [block[at * size : (at + 1) * size] for at in range(self.code.n)]
        return self.engine.bind(self._parity, cells[: self.code.k], cells[self.code.k :], size)

    def recover(
        self, cells: Mapping[CellIndex, Buffer], wanted: Sequence[CellIndex], size: int
    ) -> dict[CellIndex, memoryview]:
        """The *wanted* cells, data or parity, from any *k* (the first of them) good ones of *size* bytes each.

        Raises: TooFewShards if fewer than k cells are given.
        """
        present = tuple(sorted(cells)[: self.code.k])
        if len(present) < self.code.k:
            raise TooFewShards(f"{len(present)} good cells of a stripe that needs {self.code.k}")
        found = _cells(len(wanted), size)
        if wanted and size:
            tables = self._recovery(present, tuple(wanted))
            self.engine.multiply(tables, [cells[index] for index in present], found, size)
        return dict(zip(wanted, found, strict=True))

    def _recovery(self, present: tuple[CellIndex, ...], wanted: tuple[CellIndex, ...]) -> object:
        key = (present, wanted)
        with self._lock:
            if key in self._recoveries:
                self._recoveries.move_to_end(key)
                return self._recoveries[key]
        tables = self.engine.tables(recovery_matrix(self.code, present, wanted))
        with self._lock:
            self._recoveries[key] = tables
            while len(self._recoveries) > RECOVERIES_KEPT:
                self._recoveries.popitem(last=False)
        return tables


@lru_cache(maxsize=64)
def codec_for(code: Code) -> Codec:
    """The shared codec of *code* on the default engine."""
    return Codec(code)


def _cells(count: int, size: int) -> list[memoryview]:
    whole = room(count * size)
    return [whole[at * size : (at + 1) * size] for at in range(count)]

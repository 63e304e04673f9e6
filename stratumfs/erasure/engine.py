"""What multiplies cells by a matrix, and which of those that do is used here."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Protocol

import structlog

from stratumfs.erasure import isal
from stratumfs.erasure.field import add_scaled
from stratumfs.ids import Buffer

log = structlog.get_logger(__name__)


class Engine(Protocol):
    """Multiplies by matrices over GF(256); thread-safe, and frees the GIL if it can."""

    name: str

    def tables(self, matrix: Sequence[bytes]) -> object:
        """Whatever `multiply` wants of *matrix* (rows of equal length), made once and kept by the caller."""
        ...

    def multiply(self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int) -> None:
        """Set the first *size* bytes of each output (writable; one a row) from those of the sources (one a column)."""
        ...

    def bind(
        self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int
    ) -> Callable[[], None]:
        """`multiply` on these very buffers, to be called again and again: for many columns of few bytes, where looking
        up a hundred addresses takes longer than the work. They may not be resized while the call is kept."""
        ...


class PortableEngine:
    """reedsolo's field by ``bytes.translate`` and big integers: right everywhere, fast nowhere."""

    name = "portable"

    def tables(self, matrix: Sequence[bytes]) -> object:
        return tuple(matrix)

    def multiply(self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int) -> None:
        assert isinstance(tables, tuple)
        copies = [bytes(memoryview(source)[:size]) for source in sources]
        for row, output in zip(tables, outputs, strict=True):
            total = bytes(size)
            for factor, source in zip(row, copies, strict=True):
                total = add_scaled(total, factor, source)
            memoryview(output)[:size] = total

    def bind(
        self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int
    ) -> Callable[[], None]:
        return partial(self.multiply, tables, sources, outputs, size)


def choose_engine(candidates: Sequence[str] | None = None) -> Engine:
    """ISA-L of the system, else the copy in pyeclib's wheel, else the portable engine with a loud warning."""
    refused = []
    for path in isal.candidates() if candidates is None else candidates:
        try:
            return isal.IsalEngine(path)
        except isal.IsalUnusableError as error:
            refused.append(str(error))
    reason = "; ".join(refused) or "none found"
    message = f"no usable ISA-L ({reason}): erasure coding is some hundred times slower; install libisal2 or pyeclib"
    log.warning("erasure.no_isal", reason=reason, advice="install libisal2 or pyeclib")
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return PortableEngine()


@cache
def default_engine() -> Engine:
    """The engine of this process, chosen at first use."""
    return choose_engine()

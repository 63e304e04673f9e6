"""Intel's ISA-L through ctypes: multiplies by a matrix at memory speed and frees the GIL meanwhile."""

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from stratumfs.erasure.field import combine
from stratumfs.ids import Buffer

SYSTEM_LIBRARY = "libisal.so.2"
TABLE_SIZE = 32
"""Bytes of expanded table that ISA-L wants of each element of a matrix."""


class IsalUnusableError(Exception):
    """This library is not there, or computes something else."""


class _PyBuffer(ctypes.Structure):
    """``Py_buffer`` of the stable ABI: the only way to the address of a *read-only* buffer without a copy."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None
_SIMPLE, _WRITABLE = 0, 1


def candidates() -> list[str]:
    """Where ISA-L may be, best first."""
    found = [SYSTEM_LIBRARY]
    spec = importlib.util.find_spec("pyeclib")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent.parent / "pyeclib.libs"
        found += sorted(str(path) for path in wheel.glob("libisal*.so*"))
    return found


class _Tables:
    __slots__ = ("columns", "expanded", "rows")

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.expanded = ctypes.create_string_buffer(TABLE_SIZE * rows * columns)


class IsalEngine:
    """An `Engine` (see ``engine.py``) on the shared library at *path*.

    Raises: IsalUnusableError if it can't be loaded or fails a multiplication whose result is known.
    """

    def __init__(self, path: str) -> None:
        self.name = f"ISA-L ({path})"
        try:
            library = ctypes.CDLL(path)
            self._init_tables = library.ec_init_tables
            self._encode_data = library.ec_encode_data
        except (OSError, AttributeError) as error:
            raise IsalUnusableError(f"{path}: {error}") from error
        self._init_tables.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._init_tables.restype = None
        self._encode_data.argtypes = (ctypes.c_int,) * 3 + (ctypes.c_void_p,) * 3
        self._encode_data.restype = None
        self._prove(path)

    def tables(self, matrix: Sequence[bytes]) -> object:
        made = _Tables(len(matrix), len(matrix[0]))
        self._init_tables(made.columns, made.rows, b"".join(matrix), made.expanded)
        return made

    def multiply(self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int) -> None:
        assert isinstance(tables, _Tables)
        assert len(sources) == tables.columns
        assert len(outputs) == tables.rows
        with _Pinned(sources, size, _SIMPLE) as data, _Pinned(outputs, size, _WRITABLE) as coding:
            self._encode_data(size, tables.columns, tables.rows, tables.expanded, data, coding)

    def bind(
        self, tables: object, sources: Sequence[Buffer], outputs: Sequence[Buffer], size: int
    ) -> Callable[[], None]:
        assert isinstance(tables, _Tables)
        assert len(sources) == tables.columns
        assert len(outputs) == tables.rows
        with _Pinned(sources, size, _SIMPLE) as data, _Pinned(outputs, size, _WRITABLE) as coding:
            kept = (sources, outputs)  # and not resized: so the addresses stay what they are

        def call(_kept: object = kept) -> None:
            self._encode_data(size, tables.columns, tables.rows, tables.expanded, data, coding)

        return call

    def _prove(self, path: str) -> None:
        matrix = [bytes((1, 2, 3)), bytes((0x8E, 0x1D, 255))]
        sources = [bytes((seed + 37 * at) & 255 for at in range(200)) for seed in (0, 5, 250)]
        outputs = [bytearray(200), bytearray(200)]
        self.multiply(self.tables(matrix), sources, outputs, 200)
        if [bytes(output) for output in outputs] != [combine(row, sources) for row in matrix]:
            raise IsalUnusableError(f"{path}: computes another field")


class _Pinned:
    """Addresses of buffers, as a C array, held still for the length of a ``with`` block."""

    __slots__ = ("_buffers", "_flags", "_size", "_views")

    def __init__(self, buffers: Sequence[Buffer], size: int, flags: int) -> None:
        self._buffers = buffers
        self._size = size
        self._flags = flags
        self._views = (_PyBuffer * len(buffers))()

    def __enter__(self) -> "ctypes.Array[ctypes.c_void_p]":
        addresses = (ctypes.c_void_p * len(self._buffers))()
        for at, buffer in enumerate(self._buffers):
            view = self._views[at]
            _get_buffer(buffer, view, self._flags)
            assert view.len >= self._size
            addresses[at] = view.buf
        return addresses

    def __exit__(self, *_: object) -> None:
        for view in self._views:
            _release_buffer(view)  # of a view that was never filled this does nothing

"""Memory for bytes that are about to come."""

import ctypes

_make = ctypes.pythonapi.PyByteArray_FromStringAndSize
_make.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_make.restype = ctypes.py_object


def room(size: int) -> memoryview:
    """*size* writable bytes that hold anything: who takes them fills them before anybody reads them.

    ``bytearray(size)`` sets them to zero, Python's lock held: of a stripe that is 20 µs, and its cache lines with it.
    """
    made = memoryview(_make(None, size))
    assert len(made) == size
    return made

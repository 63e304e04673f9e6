"""Which engine is chosen, and that its lack is loud."""

import ctypes.util

import pytest
from structlog.testing import capture_logs

from stratumfs.erasure import isal
from stratumfs.erasure.code import Code, Codec
from stratumfs.erasure.engine import PortableEngine, choose_engine, default_engine


def test_every_isal_on_this_machine_works() -> None:
    usable = []
    for path in isal.candidates():
        try:
            usable.append(isal.IsalEngine(path))
        except isal.IsalUnusableError:
            assert path == isal.SYSTEM_LIBRARY  # not installed; the wheel's copy always is
    assert any("pyeclib" in engine.name for engine in usable)
    parities = [Codec(Code(4, 2), engine).encode([b"abc", b"def", b"ghi", b"jkl"], 3) for engine in usable]
    assert all(parity == parities[0] for parity in parities)


def test_without_isal_reedsolos_field_serves_and_a_warning_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="libisal2"), capture_logs() as logs:
        engine = choose_engine(["/nonexistent/libisal.so.2"])
    assert isinstance(engine, PortableEngine)
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_a_library_that_is_not_isal_is_passed_over() -> None:
    other = ctypes.util.find_library("c")
    assert other is not None
    good = isal.candidates()[-1]
    assert choose_engine([other, good]).name == f"ISA-L ({good})"


def test_the_engine_of_this_process_is_fast() -> None:
    assert default_engine().name.startswith("ISA-L")

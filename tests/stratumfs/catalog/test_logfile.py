"""Logs that must be found under their names."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stratumfs.catalog.logfile import LogFile
from stratumfs.errors import CatalogCorrupt


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize(
    ("lose", "what"),
    [
        (Path.unlink, "removed"),
        (lambda path: path.rename(path.with_name("other")), "removed"),
        (_replace, "replaced"),
        (lambda path: os.truncate(path, 9), "cut"),
    ],
)
def test_what_no_name_leads_to_is_not_held(tmp_path: Path, lose: Callable[[Path], object], what: str) -> None:
    path = tmp_path / "log"
    file = LogFile(path, os.open(path, os.O_RDWR | os.O_CREAT))
    os.pwrite(file.number, bytes(10), 0)
    file.hold(10)
    lose(path)
    with pytest.raises(CatalogCorrupt, match=what):
        file.hold(10)

"""The stream of a namespace image: what it says, and that nothing of it can be damaged unseen."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from stratumfs.catalog import image, lines
from stratumfs.catalog.connection import stable_view
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.extents import insert_row
from stratumfs.catalog.image import HEAD_SIZE, image_of, lines_in, unpack_head
from stratumfs.catalog.install import new_catalog
from stratumfs.catalog.lines import Loader, head_of
from stratumfs.catalog.schema import ROWS, TABLES, VERSION
from stratumfs.errors import CatalogCorrupt, ConfigError
from stratumfs.ids import InodeNo, StoreId
from stratumfs.limits import CATALOG_PAGE_SIZE

STORE = StoreId(b"s" * 16)


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Of a catalog with inline bytes and a nonce that is negative, in several frames."""
    monkeypatch.setattr(lines, "IMAGE_ROWS", 2)
    with new_catalog(tmp_path / "catalog", ROWS) as made, made.transaction() as tx:
        for number in range(2, 9):
            tx.run("insert into inode select ?, mode, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, x'00ff', null, null, null"
                   " from inode where ino = 1", (number,))  # fmt: skip
            insert_row(tx, number, InodeNo(number), 0, 7, None, b"inline!")
        tx.run("insert into extent (id, ino, offset, length, nonce, sum) values (99, 2, 7, 1, -5, -6)")
    (folder,) = (tmp_path / "catalog").iterdir()
    view = stable_view(folder)
    yield b"".join(image_of(view, head_of(view, STORE, 123, {"settings": "text"})))
    view.close()


def test_an_image_is_loaded_as_it_was_but_for_inline_bytes(stream: bytes, tmp_path: Path) -> None:
    create_catalog(tmp_path / "other", TABLES, VERSION, page_size=CATALOG_PAGE_SIZE)
    db = apsw.Connection(str(tmp_path / "other/catalog.db"))
    loader = Loader(db, VERSION)
    pieces = [stream[start : start + 100] for start in range(0, len(stream), 100)]
    for piece in lines_in(pieces):
        loader.feed(piece)
    head = loader.end()
    assert (head.store, head.created_ns, head.files) == (STORE.hex(), 123, {"settings": "text"})
    assert unpack_head(stream).sequence == head.sequence
    rows = db.execute("select id, ino, length, data, hash is null, nonce, sum = -6 from extent where id in (2, 99)")
    assert rows.fetchall() == [(2, 2, 7, None, 0, None, 0), (99, 2, 1, None, 1, -5, 1)]
    assert db.execute("select count(*), max(etag) from inode").fetchall() == [(8, b"\0\xff")]
    db.close()


def test_a_byte_that_is_flipped_anywhere_is_noticed(stream: bytes) -> None:
    for at in range(0, len(stream), 7):
        damaged = bytearray(stream)
        damaged[at] ^= 4
        with pytest.raises(CatalogCorrupt):
            list(lines_in([bytes(damaged)]))


def test_a_stream_that_is_cut_anywhere_is_none(stream: bytes) -> None:
    for end in range(0, len(stream), 11):
        with pytest.raises(CatalogCorrupt):
            list(lines_in([stream[:end]]))


def test_frames_that_were_exchanged_are_noticed(stream: bytes) -> None:
    frames = []
    at = HEAD_SIZE
    while at < len(stream):
        size = 40 + int.from_bytes(stream[at : at + 4], "little")
        frames.append(stream[at : at + size])
        at += size
    frames[1], frames[2] = frames[2], frames[1]
    with pytest.raises(CatalogCorrupt, match="not those of its end"):
        list(lines_in([stream[:HEAD_SIZE], *frames]))


def test_an_image_of_a_newer_program_is_refused(stream: bytes) -> None:
    fields = bytearray(stream[:40])
    fields[4] = 2
    with pytest.raises(ConfigError, match="version 2"):
        unpack_head(bytes(fields) + image.blake3(fields).digest())

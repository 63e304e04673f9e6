"""fsck.stratumfs on whole stores: what lies on devices and in copies of the catalog, exit codes, and that a second run
is clean."""

import errno
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog
import trio

from stratumfs.catalog import comparing
from stratumfs.catalog.chains import LOOK, copy_files, read_manifest
from stratumfs.catalog.connection import VFS
from stratumfs.catalog.invariants import LEFT
from stratumfs.catalog.transaction import Transaction
from stratumfs.cli import fsck as command
from stratumfs.cli.fsck import Code
from stratumfs.limits import CATALOG_PAGE_SIZE, COMPARED_MAX
from stratumfs.owner import cold, rebuild_catalog
from stratumfs.owner.fsck import Wanted, fsck
from stratumfs.shards.layout import QUARANTINE_FOLDER
from stratumfs.store.store import Store
from tests.faults.acts import finish_moves, move
from tests.faults.rot import cut, flip, primary, rot, shards, stale, zero
from tests.faults.run import make_here, opened
from tests.faults.service import FOLDER, add_cold, folder_remote
from tests.faults.table import PAGE
from tests.stratumfs.catalog import test_membership
from tests.stratumfs.cli.test_bad_input import tree
from tests.stratumfs.owner import test_fill
from tests.stratumfs.store import test_remote_look
from tests.stratumfs.store.helpers import ANY, get, put

KEYS = {b"large": b"l" * 900_000, b"small": b"s" * 1000, b"a/b": b"ab" * 30_000}
HEADER = 128


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    for slot in range(6):
        (root / f"d{slot}").mkdir()
    make_here(root)

    async def fill() -> None:
        async with opened(root) as store:
            await store.objects.create_bucket("bucket", 1)
            for key, data in KEYS.items():
                await put(store, key, data)

    trio.run(fill)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A store that was closed in order, over six devices of which some hold copies of the catalog.

    It is where it was made: identity files say paths.
    """
    aside = tmp_path / "aside"
    shutil.copytree(template, aside)
    yield template
    structlog.reset_defaults()
    shutil.rmtree(template)
    shutil.copytree(aside, template)


def check(root: Path, *, mend: bool = True, full: bool = True) -> dict[str, Any]:
    return fsck(root / "store", Wanted(mend=mend, full=full), lambda text, done, total: None)


def faults(found: dict[str, Any]) -> list[str]:
    return [each["text"] for each in found["findings"] if each["outcome"] != "noted"]


def swap(path: Path) -> None:
    """With the shard of another cell, which is whole by itself."""
    other = next(each for each in shards(path.parents[3]) if each != path)
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


PLANTS: dict[str, Callable[[Path], None]] = {
    "payload": lambda path: flip(path, HEADER + 5),
    "header": lambda path: flip(path, 70),
    "header's parity": lambda path: flip(path, HEADER - 1),
    "cut": cut,
    "deleted": Path.unlink,
    "zeros": zero,
    "stale": stale,
    "swapped": swap,
    "table": lambda path: flip(path, path.stat().st_size - 300),
    "end of the table": lambda path: flip(path, path.stat().st_size - 3),
}


def everything(root: Path) -> None:
    async def look() -> None:
        async with opened(root) as store:
            for key, data in KEYS.items():
                assert await get(store, key) == data

    trio.run(look)


def test_a_look_changes_nothing_and_finds_nothing(root: Path) -> None:
    before = tree(root)
    for full in (False, True):
        found = check(root, mend=False, full=full)
        assert (found["clean"], found["noted"], found["volumes"], found["copies"]) == (True, 0, 1, 3)
    assert tree(root) == before


@pytest.mark.parametrize("kind", PLANTS)
def test_a_bad_shard_is_found_and_made_anew(root: Path, kind: str) -> None:
    path = shards(root)[5]
    PLANTS[kind](path)
    before = tree(root)
    found = check(root, mend=False)
    assert found["left"] >= 1, found
    assert tree(root) == before
    found = check(root)
    assert (found["left"], found["mended"] >= 1) == (0, True), found
    assert check(root)["clean"]
    everything(root)


@pytest.mark.parametrize("kind", ["header", "cut", "deleted", "zeros", "swapped", "end of the table"])
def test_a_quick_look_finds_what_needs_no_reading(root: Path, kind: str) -> None:
    PLANTS[kind](shards(root)[5])
    assert check(root, mend=False, full=False)["left"] >= 1


def test_more_damage_than_parity_makes_up_for_is_said_and_nothing_is_given_up(root: Path) -> None:
    for path in shards(root)[:3]:
        flip(path, HEADER + 5)
    before = {path: path.read_bytes() for path in shards(root)[:3]}
    found = check(root)
    assert found["left"] == 3
    assert {path: path.read_bytes() for path in before} == before


def test_files_that_no_row_knows_are_moved_aside(root: Path) -> None:
    path = shards(root)[0]
    stranger = path.with_name("00" * 16 + ".3")
    stranger = path.parents[1] / "00" / stranger.name
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"somebody's")
    found = check(root, mend=False)
    assert (found["clean"], found["noted"]) == (True, 1)
    assert check(root)["noted"] == 1
    aside = path.parents[2] / QUARANTINE_FOLDER
    assert [each.read_bytes() for each in aside.rglob("*") if each.is_file()] == [b"somebody's"]
    assert check(root)["noted"] == 0


def test_where_two_devices_have_a_shard_whose_row_is_lost_the_whole_one_counts(root: Path) -> None:
    """One of them was away while it was made anew on the other."""
    paths = {path.parents[2].name: path for path in shards(root)}
    holder, path = max(paths.items())
    for other in sorted(paths.keys() - {holder}):
        old = paths[other].with_name(path.name)
        old.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name in copies(root):
        rot(name, name.with_name(name.name.replace("base", "wal")), [("delete from shard", ())])
    rot(primary(root), primary(root).with_name("catalog.db-wal"), [("delete from shard", ())])
    found = check(root)
    assert (found["left"], found["mended"]) == (0, 1), found
    assert path.exists()
    everything(root)


@pytest.mark.slow
@pytest.mark.parametrize("tables", [("volume",), ("volume", "shard"), ("shard",)])
def test_regression_a_volume_that_extents_name_is_not_moved_aside(root: Path, tables: Sequence[str]) -> None:
    """Its rows are lost in all copies; fsck makes them anew, and an owner that opens meanwhile leaves the files."""

    async def lose() -> None:
        async with opened(root) as store:
            await store.catalog.write(_plant, [f"delete from {table}" for table in tables])

    async def open_only() -> None:
        async with opened(root):
            pass

    before = {path: path.read_bytes() for path in shards(root)}
    trio.run(lose)
    trio.run(open_only)
    assert {path: path.read_bytes() for path in shards(root)} == before
    assert check(root, mend=False)["left"] >= 1
    found = check(root)
    assert (found["left"], found["mended"] >= 1) == (0, True), found
    assert check(root)["clean"]
    everything(root)


def copies(root: Path) -> list[Path]:
    found = []
    for device in sorted(root.glob("d[0-9]*")):
        manifest = read_manifest(device / "catalog")
        if manifest is not None:
            folder = device / "catalog" / manifest.folder
            found.append(folder / f"base.{copy_files(folder).base}")
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "update extent set nonce = nonce + 1 where volume is not null",
        "update extent set data = zeroblob(length(data)) where data is not null",
        "update inode set mtime_ns = 5 where size = 1000",
        "delete from entry where name = x'736d616c6c'",
    ],
)
def test_rows_of_the_primary_that_rot_are_restored_from_copies(root: Path, statement: str) -> None:
    path = primary(root)
    rot(path, path.with_name("catalog.db-wal"), [(statement, ())])
    found = check(root, mend=False)
    assert found["left"] >= 1, found
    assert "rows that are right in copies of the catalog alone" in faults(found)
    found = check(root)
    assert (found["left"], found["mended"] >= 1) == (0, True), found
    assert check(root)["clean"]
    everything(root)


def test_a_copy_of_the_catalog_that_rots_is_made_anew(root: Path) -> None:
    path = copies(root)[0]
    rot(
        path,
        path.with_name(path.name.replace("base", "wal")),
        [("update inode set mtime_ns = 5 where size = 1000", ())],
    )
    found = check(root)
    assert (faults(found), found["left"]) == (["copies of the catalog that are damaged"], 0)
    assert check(root)["clean"]


def _with_attributes(root: Path, count: int) -> Path:
    """The primary, with so many rows that lie in no log."""

    def insert(tx: Transaction) -> None:
        for number in range(count):
            tx.run("insert into xattr values (1, ?, x'00')", (b"%04d" % number,))

    async def fill() -> None:
        async with opened(root) as store:
            await store.catalog.write(insert)
            assert await store.catalog.checkpoint()

    trio.run(fill)
    return primary(root)


def test_regression_more_rows_rot_than_are_judged_together(root: Path) -> None:
    path = _with_attributes(root, COMPARED_MAX + 200)
    rot(path, path.with_name("catalog.db-wal"), [("update xattr set value = x'99'", ())])
    found = check(root)
    assert (found["left"], found["mended"]) == (0, COMPARED_MAX + 200), found["left"]
    assert check(root)["clean"]


def test_regression_a_copy_has_more_rows_between_two_than_one_chunk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "SWAP_ROWS", 10)
    monkeypatch.setattr(comparing, "COMPARED_MAX", 20)
    monkeypatch.setattr(comparing, "_THEIRS", 20, raising=False)
    path = _with_attributes(root, 200)
    rot(path, path.with_name("catalog.db-wal"), [("delete from xattr where name > ? and name < ?", (b"0050", b"0120"))])
    found = check(root)
    assert (found["left"], found["mended"]) == (0, 69), found
    assert check(root)["clean"]


def test_regression_where_copies_were_not_looked_into_no_name_is_taken_away(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of an inode rots, and there is no room for a look at the copies, which have it."""
    path = primary(root)
    rot(path, path.with_name("catalog.db-wal"), [("delete from inode where size = 1000", ())])
    made = tempfile.mkdtemp

    def full(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        if prefix == LOOK:
            raise OSError(errno.ENOSPC, "no room")
        return made(suffix, prefix, dir)

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkdtemp", full)
        found = check(root)
        assert (found["mended"], found["left"] >= 4) == (0, True), found
        assert "entries of missing inodes" in faults(found)
    found = check(root)
    assert (found["left"], found["mended"] >= 1) == (0, True), found
    everything(root)


@pytest.mark.parametrize("sure", [True, False])
def test_regression_where_rows_are_unknown_no_name_is_taken_away(root: Path, sure: bool) -> None:
    """The primary and one copy have lost an inode, and another two have it: who is right is not known."""
    lost = [("delete from inode where size = 1000", ())]
    for path in copies(root)[: 0 if sure else 1]:
        rot(path, path.with_name(path.name.replace("base", "wal")), lost)
    rot(primary(root), primary(root).with_name("catalog.db-wal"), lost)
    found = check(root)
    texts = {each["text"]: each["outcome"] for each in found["findings"]}
    if sure:
        assert found["left"] == 0
        everything(root)
    else:
        assert texts["rows of which no copy says what is right"] == "left"
        assert texts["entries of missing inodes"] == "left"
        assert found["mended"] == 0


def test_a_primary_that_is_no_database_any_more_is_made_anew_of_a_copy(root: Path) -> None:
    path = primary(root)
    data = bytearray(path.read_bytes())
    for at in range(CATALOG_PAGE_SIZE, len(data), CATALOG_PAGE_SIZE):
        data[at : at + 200] = bytes(200)
    path.write_bytes(data)
    before = tree(root)
    assert check(root, mend=False)["left"] >= 1
    assert tree(root) == before
    found = check(root)
    assert (found["left"], found["mended"] >= 1) == (0, True), found
    assert check(root)["clean"]
    everything(root)


def test_an_index_that_says_something_else_than_its_table_is_made_anew(root: Path) -> None:
    path = primary(root)
    aside = root / "look.db"
    shutil.copyfile(path, aside)
    db = apsw.Connection(str(aside), vfs=VFS)
    [(page,)] = db.execute("select rootpage from sqlite_schema where name = 'entry_inode'").fetchall()
    db.close()
    aside.unlink()
    data = bytearray(path.read_bytes())
    at = (page - 1) * CATALOG_PAGE_SIZE
    cells = int.from_bytes(data[at + 3 : at + 5], "big")
    last = at + int.from_bytes(data[at + 6 + 2 * cells : at + 8 + 2 * cells], "big")
    data[last + 1 + data[last + 1]] += 1  # the greatest inode number: behind the size of the cell and its own header
    path.write_bytes(data)
    assert "pages of the catalog" in faults(check(root, mend=False))
    found = check(root)
    assert (found["left"], set(faults(found))) == (0, {"pages of the catalog"}), found
    assert check(root)["clean"]
    everything(root)


def test_exit_codes_are_those_of_fsck(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            command.main([*words])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    store = str(root / "store")
    assert run("-n", store) == Code.CLEAN
    flip(shards(root)[5], 70)
    assert run("-n", "--json", store) == Code.LEFT
    assert json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))["left"] == 1
    assert run("-a", store) == Code.MENDED
    assert run("-p", "-f", store) == Code.CLEAN
    assert run("-n", "-y", store) == Code.USAGE
    assert run("--nonsense", store) == Code.USAGE
    assert run(str(root / "nothing")) == Code.FAILED


@pytest.mark.parametrize("left", ["", "lost_inline_bytes", "lost_shards_bytes", "unclaimed", "mixed"])
def test_regression_what_a_rebuild_cannot_name_or_date_is_left(left: str) -> None:
    facts = rebuild_catalog.Report().plain()
    if left:
        facts[left] = 7 if isinstance(facts[left], int) else ["something"]
    assert command.rebuilt_code(facts) == Code.MENDED | (Code.LEFT if left else Code.CLEAN)


async def test_a_store_that_somebody_has_open_is_left_alone(root: Path) -> None:
    async with opened(root) as store:
        assert isinstance(store, Store)
        with pytest.raises(SystemExit) as ended:
            await trio.to_thread.run_sync(command.main, ["-n", str(root / "store")])
        assert ended.value.code == Code.FAILED


_FILE = "(select inode from entry where name = cast('small' as blob))"
_BUCKET = "(select ino from bucket where name = 'bucket')"
_INO = "(select value - 1 from catalog_state where key = 'next_inode')"
_NEW = f"insert into inode values ({_INO}, 33152, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, null, null, null)"

LEFT_PLANTS: dict[str, Sequence[str]] = {
    "volumes that were left open": ["update volume set state = 'open', length = 0, stripes = 0"],
    "inodes without a name that are to be reaped": [_NEW, f"insert into orphan values ({_INO})"],
    "truncates that are to be cleared": [f"insert into void values ({_FILE}, 0, 1, 0)"],
    "moves that have not ended": [
        f"insert into move values (x'0a', {_FILE}, x'61', 'hot', 0, '', 1, null, '', 0)",
    ],
    "parts of uploads that are done": [
        _NEW,
        f"insert into upload values (x'77', {_BUCKET}, x'75', 1, null, null, 0, 'done', null)",
        f"insert into part values (x'77', 1, {_INO}, 0, x'00', 1, null)",
    ],
}
"""What the crash table says that a stop leaves in rows, and the next owner sees to."""


def _plant(tx: Transaction, statements: Sequence[str]) -> None:
    for statement in statements:
        assert tx.run(statement) > 0, statement


@pytest.mark.parametrize("text", LEFT_PLANTS)
def test_what_a_crash_leaves_in_rows_is_noted_and_the_next_owner_sees_to_it(root: Path, text: str) -> None:
    async def plant() -> None:
        async with opened(root) as store:
            await store.catalog.write(_plant, LEFT_PLANTS[text])

    async def see_to_it() -> None:
        async with opened(root) as store:
            await finish_moves(store)
            await store.maintenance.round()

    trio.run(plant)
    found = check(root, mend=False)
    assert found["clean"]
    assert text in [each["text"] for each in found["findings"]]
    assert check(root)["clean"]
    trio.run(see_to_it)
    assert check(root, mend=False)["findings"] == []
    everything(root)


def test_volumes_that_nothing_points_at_are_noted(root: Path) -> None:
    async def delete() -> None:
        async with opened(root) as store:
            for key in (b"large", b"a/b"):
                await store.objects.delete("bucket", key, ANY, 5)
            for _ in range(2):
                await store.maintenance.round()

    trio.run(delete)
    found = check(root)
    assert (found["clean"], [each["text"] for each in found["findings"]]) == (True, ["volumes that are to be freed"])


def test_a_transaction_that_has_no_end_is_left_out(root: Path) -> None:
    with primary(root).with_name("catalog.db-wal").open("ab") as log:
        log.write(bytes(range(256)) * 40)
    assert check(root, mend=False)["findings"] == []


def test_a_store_that_was_not_finished_is_for_the_administrator(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(SystemExit) as ended:
        command.main([str(tmp_path / "store")])
    assert ended.value.code == Code.FAILED


def test_an_image_that_no_place_names_is_no_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(named: object) -> bool:
        return False

    async def write() -> None:
        async with opened(root) as store:
            monkeypatch.setattr(store.catalog.aside, "name_images", nobody)
            await store.imager.write()

    trio.run(write)
    assert faults(check(root)) == []


def test_regression_a_bad_image_is_found_and_another_one_is_due(root: Path) -> None:
    async def write() -> Path:
        async with opened(root) as store:
            before = set(shards(root))
            await store.imager.write()
            return sorted(set(shards(root)) - before)[0]

    async def is_due() -> bool:
        async with opened(root) as store:
            return await store.imager._is_due()

    path = trio.run(write)
    assert check(root)["clean"]
    assert not trio.run(is_due)
    flip(path, HEADER + 5)
    text = "shards of namespace images that are damaged or missing"
    assert (faults(check(root, mend=False)), trio.run(is_due)) == ([text], False)
    assert (faults(check(root)), trio.run(is_due)) == ([text], True)
    found = check(root)
    assert (found["clean"], found["noted"]) == (True, 1)


SEES_TO = {
    "sealing": "volumes that were left open",
    "quarantine": test_files_that_no_row_knows_are_moved_aside,
    "reaping": "inodes without a name that are to be reaped",
    "clearing": "truncates that are to be cleared",
    "freeing": test_volumes_that_nothing_points_at_are_noted,
    "the next epoch": test_membership.test_what_travels_with_the_catalog_is_on_every_member,
    "the next look": test_remote_look.test_what_no_row_knows_goes_if_it_is_ours_and_old,
    "the next image": test_an_image_that_no_place_names_is_no_fault,
    "the next owner's mover": "moves that have not ended",
    "repair": test_a_bad_shard_is_found_and_made_anew,
    "reading": test_more_damage_than_parity_makes_up_for_is_said_and_nothing_is_given_up,
    "auto-fill": test_fill.test_an_empty_disk_in_the_place_of_one_that_failed_is_filled,
    "SQLite": test_a_transaction_that_has_no_end_is_left_out,
    "the administrator": test_a_store_that_was_not_finished_is_for_the_administrator,
}
"""For each that the crash table says mends, the plant or the test of what it mends."""


def test_all_that_the_crash_table_names_is_planted() -> None:
    text = PAGE.read_text("utf-8")
    listed = text.partition("\nWhat mends:\n")[2].partition("\n.PP\n")[0]
    assert set(re.findall(r"^\.I (.+)$", listed, re.MULTILINE)) - {"quarantine"} == set(SEES_TO) - {"quarantine"}
    assert {each for each in SEES_TO.values() if isinstance(each, str)} <= set(LEFT_PLANTS)
    assert {each.text for each in LEFT} - {"volumes that are to be freed"} == set(LEFT_PLANTS)


def test_the_cold_tier_is_looked_at_and_with_full_all_of_it_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def offload() -> None:
        async with opened(root) as store:
            await move(store, "bucket", "cold")

    add_cold(root)
    remote = folder_remote(root)
    assert remote is not None
    monkeypatch.setattr(cold, "open_remote", lambda _: remote)
    trio.run(offload)
    [name] = [each for each in remote.names("") if "/volumes/" in each]
    path = root / FOLDER / name
    whole = path.read_bytes()
    quick, full = check(root, full=False), check(root)
    assert faults(quick) == faults(full) == []
    assert (quick["objects"], quick["object_bytes"]) == (1, 0)
    assert full["object_bytes"] > 900_000
    assert full["object_usd"] > 0
    command._tell(full)
    assert "1 objects of the cold tier" in capsys.readouterr().out
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert faults(check(root, mend=False, full=False)) == []
    bad = "objects of the cold tier that are damaged or missing"
    assert faults(check(root, mend=False)) == [bad]
    path.unlink()
    assert faults(check(root, full=False)) == [bad]
    (path.parent / ("0" * 32)).write_bytes(whole)
    found = check(root, full=False)
    assert "objects of the cold tier that no row knows" in {each["text"] for each in found["findings"]}
    assert (path.parent / ("0" * 32)).exists()
    (root / "secret").unlink()
    assert "a cold tier that cannot be looked at" in faults(check(root, full=False))

"""Backups of the catalog, and what they bring back."""

import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.catalog import checkpoints
from stratumfs.catalog import spool as spools
from stratumfs.catalog.spool import Spool
from stratumfs.cli.catalog_text import render_restored, series_text
from stratumfs.config import Backup, parse
from stratumfs.errors import ConfigError, DeviceFailed, NotFound, StoreBusy, StoreFull, StratumError
from stratumfs.ids import GIB, MIB
from stratumfs.owner import backup as backups
from stratumfs.owner import cold
from stratumfs.owner.backup import SERIES_FILE, SPOOL_FOLDER, read_series, stores_at
from stratumfs.owner.backup_target import FolderTarget, open_target
from stratumfs.owner.restore import Restored, restore
from stratumfs.store.space import keep_free
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import INLINE, STRIPED, make_base
from tests.faults.disk import Image, image_below, write_image
from tests.faults.look import look
from tests.faults.paths.volumes import at_once
from tests.faults.place import fast_place
from tests.faults.run import opened, running
from tests.faults.service import add_cold, folder_remote
from tests.stratumfs.catalog.somewhere import until


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with fast_place() as folder:
        yield folder / "root"


@pytest.fixture(scope="module")
def furnished(place: Path) -> Image:
    return trio.run(make_base, place)[0]


@pytest.fixture
def root(place: Path, furnished: Image, tmp_path: Path) -> Path:
    """Its settings name a folder for backups."""
    write_image(furnished, place)
    (tmp_path / "backup").mkdir()
    with (place / "store/stratumfs.toml").open("a") as file:
        file.write(f'\n[backup]\nto = "{tmp_path}/backup"\nwindow_days = 1.0\n')
    return place


def lose(root: Path) -> None:
    shutil.rmtree(root / "store")
    for copy in root.glob("d*/catalog"):
        shutil.rmtree(copy)


async def restored(root: Path, tmp_path: Path, at_ns: int | None = None, force: bool = False) -> Restored:
    target = FolderTarget(tmp_path / "backup")
    return await trio.to_thread.run_sync(partial(restore, target, root / "d1", at_ns=at_ns, force=force))


async def test_each_moment_that_was_backed_up_can_be_had_again(root: Path, tmp_path: Path) -> None:
    moments = []
    async with running(root) as found:
        for number in range(4):
            await acts.put(found.store, f"main/in-{number}", bytes([number]) * INLINE)
            if number == 1:
                await acts.delete(found.store, "main/in-0")
            if number == 2:  # a generation ends between two pieces, and one of its own lies in between
                assert await found.store.catalog.checkpoint()
                await acts.put(found.store, "main/between", b"b")
                assert await found.store.catalog.checkpoint()
            done = await found.backup.run()
            moments.append((time.time_ns(), await look(found.store)))
        assert done["sequence"] == found.store.catalog.statistics().sequence
    async with running(root) as found:  # the series goes on in the next owner
        await acts.put(found.store, "main/later", b"later")
        assert (await found.backup.run())["series"] == done["series"]
        moments.append((time.time_ns(), await look(found.store)))
        await acts.put(found.store, "main/never", b"never")
    left = image_below(root)
    for at_ns, tree in moments:
        write_image(left, root)
        lose(root)
        report = await restored(root, tmp_path, at_ns)
        assert (report.lost.inline_bytes, report.lost.shards_bytes) == (0, 0)
        assert report.new_credentials
        async with opened(root) as store:
            assert await look(store) == tree
            assert await audit_rows(store) == []
            assert await audit_shards(store) == []
            await acts.put(store, "main/after", b"a" * STRIPED)
    with pytest.raises(NotFound, match="begins at"):
        await restored(root, tmp_path, 1, force=True)


async def test_volumes_freed_since_are_kept_for_the_window_and_missed_behind_it(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        store = found.store
        await acts.put(store, "main/goes", b"g" * STRIPED)
        await store.writer.volumes.seal_idle(0)
        await found.backup.run()
        before = await look(store)
        for path in ("main/goes", "main/striped", "rest/striped", "main/dir/big"):
            await acts.unlink(store, path)
        for upload in (await store.uploads.list("main")).uploads:
            await acts.abort(store, "main/upload", upload.id)
        with at_once():
            await store.maintenance.round()
            await store.maintenance.round()
    kept = image_below(root)
    report = await restored(root, tmp_path, force=True)
    assert report.lost.shards_bytes == 0
    async with opened(root) as store:
        assert await look(store) == before
        assert await audit_shards(store) == []
    write_image(kept, root)
    async with opened(root) as store:
        store.maintenance.keep_s = 0.0
        with at_once():
            await store.maintenance.round()
    report = await restored(root, tmp_path, force=True)
    assert {run.path for run in report.lost.shards} >= {b"main/goes", b"main/striped", b"rest/striped"}
    async with opened(root) as store:
        with pytest.raises(StratumError):
            await store.reader.read(await acts.find(store, "main/goes"), 0, STRIPED)


async def test_what_the_cold_tier_has_no_more_or_has_since_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_cold(root)
    monkeypatch.setattr(cold, "open_remote", lambda _: folder_remote(root))
    async with running(root) as found:
        store = found.store
        for name in ("stays", "goes"):
            await acts.put(store, f"main/{name}", b"g" * STRIPED)
            await acts.move(store, f"main/{name}", "cold")
        await found.backup.run()
        store.maintenance.keep_s = 0.0
        await acts.delete(store, "main/goes")
        with at_once():
            await store.maintenance.round()
            await store.maintenance.round()
            await store.remotes["cold"].tidy()
        await acts.put(store, "main/later", b"l" * STRIPED)
        await acts.move(store, "main/later", "cold")
    left = image_below(root)
    lose(root)
    report = await restored(root, tmp_path)
    assert {run.path for run in report.lost.shards} == {b"main/goes"}
    assert (len(report.younger.cold), report.cold_not_looked) == (1, None)
    render_restored(report.plain())
    told = capsys.readouterr().out
    assert "1 objects of the cold tier are younger" in told
    assert "main/goes" in told
    async with opened(root) as store:
        assert await store.reader.read(await acts.find(store, "main/stays"), 0, STRIPED) == b"g" * STRIPED
    write_image(left, root)
    (root / "secret").unlink()
    lose(root)
    report = await restored(root, tmp_path)
    assert report.cold_not_looked is not None
    assert report.lost.shards == []
    render_restored(report.plain())
    assert "could not be looked into" in capsys.readouterr().out


async def test_volumes_that_are_younger_are_set_aside(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        await found.backup.run()
        before = await look(found.store)
        await acts.put(found.store, "main/new", b"n" * STRIPED)
    report = await restored(root, tmp_path, force=True)
    ((volume),) = report.younger.here
    async with opened(root) as store:
        assert await look(store) == before
        assert await audit_shards(store) == []
    assert len(quarantined(root, volume.hex())) == 6


def quarantined(root: Path, volume: str) -> list[Path]:
    return [*root.glob(f"d*/quarantine/{volume}.*")]


async def test_what_a_catalog_names_comes_back_out_of_the_quarantine(root: Path, tmp_path: Path) -> None:
    """Somebody restores an earlier moment by mistake, opens it once, and restores the last one."""
    async with running(root) as found:
        await found.backup.run()
        earlier_ns = time.time_ns()
        await acts.put(found.store, "main/new", b"n" * STRIPED)
        await found.store.writer.volumes.seal_idle(0)
        await found.backup.run()
        before = await look(found.store)
    ((volume),) = (await restored(root, tmp_path, earlier_ns, force=True)).younger.here
    async with opened(root):
        pass
    assert len(quarantined(root, volume.hex())) == 6
    report = await restored(root, tmp_path, force=True)
    assert not report.lost.any
    assert quarantined(root, volume.hex()) == []
    async with opened(root) as store:
        assert await look(store) == before
        assert await audit_shards(store) == []


async def test_where_the_log_was_lost_another_series_begins(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        first = await found.backup.run()
    settings = (root / "store/stratumfs.toml").read_text()
    (root / "store/stratumfs.toml").write_text(settings.partition("[backup]")[0])
    async with opened(root) as store:  # an owner that knows of no backup
        await acts.put(store, "main/unseen", b"u")
    (root / "store/stratumfs.toml").write_text(settings)
    async with running(root) as found:
        second = await found.backup.run()
        before = await look(found.store)
    assert second["series"] != first["series"]
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


async def test_a_target_that_fails_loses_nothing_of_the_log(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        first = await found.backup.run()
        (tmp_path / "backup").rename(tmp_path / "away")
        await acts.put(found.store, "main/meanwhile", b"m")
        with pytest.raises(DeviceFailed):
            await found.backup.run()
        assert await found.store.catalog.checkpoint()
        (tmp_path / "away").rename(tmp_path / "backup")
        assert (await found.backup.run())["series"] == first["series"]
        before = await look(found.store)
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


@pytest.mark.parametrize("bound", ["length", "room"])
async def test_while_a_target_is_away_no_more_of_the_log_waits_than_may(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    def waiting() -> list[Path]:
        return [*(root / "store" / SPOOL_FOLDER).glob("*")]

    async with running(root) as found:
        first = await found.backup.run()
        (tmp_path / "backup").rename(tmp_path / "away")
        await acts.put(found.store, "main/one", b"1")
        assert await found.store.catalog.checkpoint()
        assert any(path.name.startswith("wal.") for path in waiting())
        if bound == "length":
            monkeypatch.setattr(spools, "BACKUP_LOG_MIN", 0)
            monkeypatch.setattr(spools, "BACKUP_RENEW", 0)
        else:
            monkeypatch.setattr(spools, "has_room", lambda *_: False)
        await acts.put(found.store, "main/two", b"2")
        assert await found.store.catalog.checkpoint()
        assert waiting() == []
        monkeypatch.undo()
        with pytest.raises(DeviceFailed):
            await found.backup.run()
        (tmp_path / "away").rename(tmp_path / "backup")
        assert (await found.backup.run())["series"] != first["series"]
        before = await look(found.store)
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


def test_what_waits_for_a_backup_leaves_the_catalog_the_room_to_go_on() -> None:
    for total in (GIB, 20 * GIB, 4096 * GIB):
        assert not spools.fits(10 * MIB, 10 * GIB, keep_free(total) + 10 * MIB, total)
        assert spools.fits(10 * MIB, 10 * GIB, total, total)
        assert spools.fits(MIB, MIB, 32 * MIB, total)
        assert not spools.fits(MIB, 2 * MIB, 32 * MIB, total)


async def test_a_stop_between_a_piece_and_its_position_takes_it_twice(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        await found.backup.run()
        position = (root / "store" / SPOOL_FOLDER / "position.json").read_bytes()
        await acts.put(found.store, "main/one", b"1")
        await found.backup.run()
        left = image_below(root)
    left[f"store/{SPOOL_FOLDER}/position.json"] = position
    write_image(left, root)
    async with running(root) as found:
        await acts.put(found.store, "main/two", b"2")
        await found.backup.run()
        before = await look(found.store)
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


async def test_series_behind_the_window_go_and_what_is_needed_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = FolderTarget(tmp_path / "backup")
    async with running(root) as found:
        clock = time.time_ns() - 5 * 86400 * 10**9
        monkeypatch.setattr(backups.time, "time_ns", lambda: clock)
        monkeypatch.setattr(backups, "BACKUP_LOG_MIN", 0)
        monkeypatch.setattr(backups, "BACKUP_RENEW", 0)  # each is a series of its own
        names = []
        for _ in range(4):
            names.append((await found.backup.run())["series"])
            clock += 86400 * 10**9
        (tmp_path / "backup" / found.store.id.hex() / "20200101T000000Z-broken").mkdir()
        (tmp_path / "backup" / found.store.id.hex() / "20200101T000000Z-broken/base").write_bytes(b"half")
        names.append((await found.backup.run())["series"])
        assert [each.name for each in read_series(target, found.store.id)] == names[-3:]
        assert stores_at(target) == [found.store.id]
    assert not [name for name in target.names("") if "broken" in name]


async def test_the_younger_series_is_that_of_younger_transactions_whatever_the_clock_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(root) as found:
        clock = time.time_ns()
        monkeypatch.setattr(backups.time, "time_ns", lambda: clock)
        monkeypatch.setattr(backups, "BACKUP_LOG_MIN", 0)
        monkeypatch.setattr(backups, "BACKUP_RENEW", 0)
        names = []
        for number in range(3):
            await acts.put(found.store, f"main/{number}", b"x")
            names.append((await found.backup.run())["series"])
            clock -= 3600 * 10**9  # it was wrong, and is set right
        assert [each.name for each in read_series(FolderTarget(tmp_path / "backup"), found.store.id)] == names
        before = await look(found.store)
    monkeypatch.undo()
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


async def test_a_series_ends_where_pieces_are_missing_says_so_and_another_begins(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        ends = [await found.backup.run()]
        for number in range(3):  # each a generation of its own
            await acts.put(found.store, f"main/{number}", b"x")
            assert await found.store.catalog.checkpoint()
            ends.append(await found.backup.run())
        target = FolderTarget(tmp_path / "backup")
        pieces = [name for name in target.names("") if "/wal.0000000001" in name]
        for name in pieces:
            target.delete(name)
        (series,) = read_series(target, found.store.id)
        told = backups.about(series)
        assert told["gap"]
        assert told["sequence"] == ends[1]["sequence"] < ends[-1]["sequence"]
        assert "MISSING" in series_text(told)
        assert "MISSING" not in series_text(ends[-1])
        again = await found.backup.run()
        assert again["series"] != ends[0]["series"]
        assert not again["gap"]
        before = await look(found.store)
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


async def test_a_series_whose_first_piece_is_missing_is_none_and_another_begins(root: Path, tmp_path: Path) -> None:
    """What lies behind the base is of a later moment than the base: together they would be a catalog that never was."""
    async with running(root) as found:
        first = await found.backup.run()
        await acts.put(found.store, "main/one", b"1")
        assert await found.store.catalog.checkpoint()
        await found.backup.run()
        target = FolderTarget(tmp_path / "backup")
        for name in [name for name in target.names("") if "/wal.0000000000" in name]:
            target.delete(name)
        assert [name for name in target.names("") if "/wal." in name]
        assert read_series(target, found.store.id) == []
        again = await found.backup.run()
        assert again["series"] != first["series"]
        before = await look(found.store)
    await restored(root, tmp_path, force=True)
    async with opened(root) as store:
        assert await look(store) == before


@pytest.mark.parametrize("later", [True, False])
async def test_a_restore_says_that_pieces_are_missing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], later: bool
) -> None:
    async with running(root) as found:
        for number in range(3):  # each a generation of its own
            await acts.put(found.store, f"main/{number}", b"x")
            assert await found.store.catalog.checkpoint()
            await found.backup.run()
        target = FolderTarget(tmp_path / "backup")
        (series,) = read_series(target, found.store.id)
        for name in [name for name in target.names("") if "/wal.0000000001" in name]:
            target.delete(name)
    at_ns = None if later else series.pieces[0].time_ns
    report = await trio.to_thread.run_sync(partial(restore, target, root / "d1", at_ns=at_ns, force=True))
    assert report.gap == later
    render_restored(report.plain())
    assert ("MISSING" in capsys.readouterr().out) == later


async def test_a_backup_by_hand_is_a_series_that_nothing_follows(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with running(root) as found:
        mine = await found.backup.run()
        await acts.put(found.store, "main/one", b"1")
        await found.backup.once(str(tmp_path / "other"))
        before = await look(found.store)
        await acts.put(found.store, "main/two", b"2")
        assert (await found.backup.run())["series"] == mine["series"]
    target = FolderTarget(tmp_path / "other")
    await trio.to_thread.run_sync(partial(restore, target, root / "d1", force=True))
    async with opened(root) as store:
        assert await look(store) == before


@pytest.mark.parametrize("name", ["../escaped", "credentials"])
async def test_of_files_a_backup_has_settings_and_no_others(root: Path, tmp_path: Path, name: str) -> None:
    async with running(root) as found:
        done = await found.backup.run()
        head = tmp_path / "backup" / found.store.id.hex() / done["series"] / SERIES_FILE
    planted = msgspec.json.decode(head.read_bytes())
    planted["files"][name] = "planted"
    head.write_bytes(msgspec.json.encode(planted))
    lose(root)
    with pytest.raises(ConfigError, match="no backup has"):
        await restored(root, tmp_path)
    assert not (root / "store" / name).exists()


class Marked(FolderTarget):
    """As a bucket in which a console has made the folder of a store: there is an object of that name."""

    def names(self, prefix: str) -> list[str]:
        markers = {f"{name.partition('/')[0]}/" for name in super().names("")}
        return sorted([*super().names(prefix), *(name for name in markers if name.startswith(prefix))])

    def delete(self, name: str) -> None:
        assert not name.endswith("/")
        super().delete(name)


async def test_what_others_put_beside_a_backup_is_neither_read_nor_deleted(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        vars(found.backup)["_open"] = lambda to, endpoint, keys: Marked(Path(to))
        foreign = [tmp_path / "backup" / found.store.id.hex() / name for name in ("README", "2000/notes")]
        for path in foreign:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"mine")
        names = [(await found.backup.run())["series"] for _ in range(2)]
        target = Marked(tmp_path / "backup")
        assert [each.name for each in read_series(target, found.store.id)] == names[:1]
        assert stores_at(target) == [found.store.id]
        assert all(path.read_bytes() == b"mine" for path in foreign)


async def test_whatever_a_target_raises_the_next_backup_is_tried(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        asked = []
        tried = trio.Event()

        def open_strange(*_: object) -> FolderTarget:
            asked.append(1)
            if len(asked) > 1:
                trio.from_thread.run_sync(tried.set)
            raise KeyError("an answer that no client expects")

        settings = Backup(to=str(tmp_path / "backup"), every_s=0)
        spool = Spool(tmp_path / "spool", time.time_ns)
        backup = backups.Backup(found.store.id, found.store.catalog, root / "store", settings, spool, open_strange)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backup.serve)
            await tried.wait()
            assert (backup.standing() or {})["failure"] == "'an answer that no client expects'"
            nursery.cancel_scope.cancel()


class Slow(FolderTarget):
    """Its first put waits for *gate*."""

    def __init__(self, folder: Path, gate: threading.Event) -> None:
        super().__init__(folder)
        self.reached = threading.Event()
        self._gate = gate

    def put(self, name: str, source: IO[bytes]) -> None:
        self.reached.set()
        assert self._gate.wait(60)
        super().put(name, source)


async def test_a_backup_by_hand_waits_for_the_one_that_is_under_way(root: Path, tmp_path: Path) -> None:
    gate = threading.Event()
    slow = Slow(tmp_path / "backup", gate)

    def open_it(to: str, *_: object) -> FolderTarget:
        return slow if to == str(tmp_path / "backup") else FolderTarget(Path(to))

    async def once() -> None:
        await found.backup.once(str(tmp_path / "other"))

    (tmp_path / "other").mkdir()
    async with running(root) as found:
        vars(found.backup)["_open"] = open_it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.backup.run)
            await until(slow.reached.is_set)
            nursery.start_soon(once)
            await wait_all_tasks_blocked()
            waiting = vars(found.backup)["_turn"].statistics().tasks_waiting
            gate.set()
        assert waiting == 1
        for folder in ("backup", "other"):
            assert len(read_series(FolderTarget(tmp_path / folder), found.store.id)) == 1


async def test_no_series_begins_of_a_base_that_a_checkpoint_wrote_to(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backups._copy_aside
    async with running(root) as found:
        catalog = found.store.catalog

        def beside(*args: Any) -> int:
            trio.from_thread.run(catalog.checkpoint)
            return copy(*args)

        monkeypatch.setattr(checkpoints, "CHECKPOINT_LATE_BYTES", 0)
        monkeypatch.setattr(backups, "_copy_aside", beside)
        async with catalog.aside.snapshot():  # so that it keeps the log
            with pytest.raises(StoreBusy):
                await found.backup.run()
        assert FolderTarget(tmp_path / "backup").names("") == []
        monkeypatch.undo()
        assert len((await found.backup.run())["series"]) > 0


async def test_a_base_that_takes_the_room_of_the_catalog_is_not_copied(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "has_room", lambda *_: False)
    async with running(root) as found:
        with pytest.raises(StoreFull):
            await found.backup.run()
        assert [*(root / "store" / SPOOL_FOLDER).iterdir()] == []


async def test_a_missing_folder_is_not_made(root: Path, tmp_path: Path) -> None:
    async with running(root) as found:
        with pytest.raises(DeviceFailed, match="does not make it"):
            await found.backup.once(str(tmp_path / "misspelt"))
    assert not (tmp_path / "misspelt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('to = "relative"', "absolute path"),
        ('to = "s3://UPPER/x"', "s3://BUCKET"),
        ('credentials = "keys"', "absolute path"),
        ("every_s = 0", "at least a second"),
        ("window_days = -1.0", "0 to"),
    ],
)
def test_settings_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(f"[hot]\nk = 4\nm = 2\n[backup]\n{text}\n", "here")


def test_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = x\n")
    with pytest.raises(ConfigError, match="aws_secret_access_key"):
        open_target("s3://bucket/prefix", None, str(tmp_path / "keys"))

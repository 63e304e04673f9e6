"""``stratum-tier move`` on a store without an owner: the command is one for as long as it takes."""

import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
import trio
import trio.testing

from stratumfs import config
from stratumfs.catalog.moves import unfinished_moves
from stratumfs.cli import tier
from stratumfs.cli.exit import Exit
from stratumfs.errors import StoreBusy
from stratumfs.owner import create, wire
from stratumfs.owner.create import NewTier
from stratumfs.owner.messages import Credentials
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from stratumfs.values import Conditions, ObjectSpec
from tiering.engine import Engine

Invoke = Callable[..., tuple[int, str, str]]
DATA = os.urandom(100_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store of two tiers with objects in it."""
    for name in ("h0", "h1", "h2", "w0", "w1"):
        (tmp_path / name).mkdir()
    hot = [tmp_path / name for name in ("h0", "h1", "h2")]
    warm = NewTier([tmp_path / "w0", tmp_path / "w1"], 1, 1)
    made = create.make_store(tmp_path / "store", hot, 2, 1, Credentials("root", "correct-horse"), warm)
    assert [(each.tier, each.slot) for each in made.identity.devices] == [
        ("hot", 0),
        ("hot", 1),
        ("hot", 2),
        ("warm", 0),
        ("warm", 1),
    ]
    assert made.survival.devices == 1

    async def furnish(store: Store) -> None:
        await store.objects.create_bucket("photos", time.time_ns())
        for key in (b"a", b"b", b"2019/c", b"2019/d/e"):
            async with store.objects.put("photos") as writer:
                await writer.write(DATA)
                await writer.finish()
                await writer.commit(key, ObjectSpec(), Conditions(), time.time_ns())

    with_store(tmp_path, furnish)
    return tmp_path


def with_store(place: Path, what: Callable[[Store], object]) -> None:
    async def run() -> None:
        folder = place / "store"
        settings = config.load(folder / config.SETTINGS_FILE)
        async with wire.locked(folder) as parts, wire.opened(parts, settings) as running:
            await what(running.store)  # type: ignore[misc]

    trio.run(run)


@pytest.fixture
def invoke(place: Path, capfd: pytest.CaptureFixture[str]) -> Invoke:
    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                tier.main([*words, "--store", str(place / "store")])
        finally:
            structlog.reset_defaults()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in out + err
        return ended.value.code, out, err

    return run


def test_a_prefix_a_key_and_a_bucket_are_moved_and_explained(place: Path, invoke: Invoke) -> None:
    code, out, err = invoke("move", "s3://photos/2019", "--to", "warm", "--reason", "nobody asks for it")
    assert (code, err) == (Exit.OK, "")
    assert out == "stratum-tier: s3://photos/2019: 195.3 KiB moved to warm\n"
    explained = json.loads(invoke("explain", "s3://photos/2019/d/e", "--json")[1])
    assert explained["tiers"] == {"warm": 100_000}
    assert explained["moved"]["reason"] == "nobody asks for it"
    assert explained["moved"]["named"] == "photos/2019/"
    assert (explained["moved"]["from"], explained["moved"]["to"], explained["moved"]["uid"]) == (
        "hot",
        "warm",
        os.getuid(),
    )
    assert json.loads(invoke("explain", "s3://photos/a", "--json")[1])["moved"] is None
    found = json.loads(invoke("move", "s3://photos/a", "--to", "warm", "--json")[1])
    assert (found["bytes"], found["total"], found["files"], found["outcome"]) == (100_000, 100_000, 1, "done")
    found = json.loads(invoke("move", "s3://photos", "--to", "warm", "--json")[1])
    assert (found["bytes"], found["files"]) == (100_000, 4)
    found = json.loads(invoke("move", "s3://photos/", "--to", "hot", "--json")[1])
    assert (found["bytes"], found["files"]) == (400_000, 4)
    assert "tier hot" in invoke("explain", "s3://photos/a")[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("s3://photos/a", "--to", "cold"), Exit.USAGE, "no tier cold: it has hot, warm"),
        (("s3://films", "--to", "warm"), Exit.NOT_FOUND, "no bucket films"),
        (("s3://photos/z", "--to", "warm"), Exit.NOT_FOUND, "photos is called z"),
    ],
)
def test_what_cannot_be_moved_is_said_in_a_line(invoke: Invoke, words: tuple[str, ...], code: Exit, said: str) -> None:
    found, out, err = invoke("move", *words)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_tier_that_lacks_devices_takes_nothing_and_the_store_goes_on(place: Path, invoke: Invoke) -> None:
    assert invoke("move", "s3://photos/a", "--to", "warm")[0] == Exit.OK
    (place / "w1").rename(place / "away")
    code, _, err = invoke("move", "s3://photos/b", "--to", "warm")
    assert code == Exit.STORE
    assert "1 of 2 devices of tier warm are up" in err
    assert invoke("move", "s3://photos/a", "--to", "hot")[0] == Exit.OK, "what is there is read around what is not"


def test_a_store_that_is_read_only_moves_nothing(place: Path, invoke: Invoke) -> None:
    for name in ("h0", "h1"):
        (place / name).rename(place / f"away-{name}")
    code, _, err = invoke("move", "s3://photos/a", "--to", "warm")
    assert code == Exit.STORE
    assert "1 of 3 devices of tier hot are up" in err


def test_an_interrupt_says_how_far_it_came(place: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Repack._settle

    async def interrupted(repack: Repack, batch: object) -> None:
        await settle(repack, batch)  # type: ignore[arg-type]
        if repack.moved:
            os.kill(os.getpid(), 2)
            await trio.sleep_forever()

    monkeypatch.setattr("stratumfs.store.repack.REPACK_BYTES", 100_000)
    monkeypatch.setattr(Repack, "_settle", interrupted)
    code, out, _ = invoke("move", "s3://photos", "--to", "warm")
    assert code == Exit.INTERRUPTED
    assert out == "stratum-tier: s3://photos: stopped, 97.7 KiB of 390.6 KiB are in warm now\n"
    monkeypatch.setattr(Repack, "_settle", settle)

    async def nothing_left(store: Store) -> None:
        assert await store.catalog.read(unfinished_moves) == []

    with_store(place, nothing_left)
    found = json.loads(invoke("move", "s3://photos", "--to", "warm", "--json")[1])
    assert (found["bytes"], found["outcome"]) == (300_000, "done")


def test_pins_are_planned_and_told_of_and_taken_off(invoke: Invoke) -> None:
    assert invoke("log") == (Exit.OK, "no object was moved\n", "")
    code, out, err = invoke("pin", "s3://photos/2019", "--to", "warm")
    assert (code, out, err) == (Exit.OK, "stratum-tier: photos/2019/: pinned to warm\n", "")
    planned = json.loads(invoke("plan", "--json")[1])
    assert sorted((each["path"], each["from"], each["to"], each["cause"]) for each in planned["waiting"]) == [
        ("photos/2019/c", "hot", "warm", "pin"),
        ("photos/2019/d/e", "hot", "warm", "pin"),
    ]
    assert planned["coming"] == []
    assert planned["warmup_left_s"] == pytest.approx(7 * 86400, rel=0.01)
    assert "photos/2019/c" in invoke("plan")[1]
    assert json.loads(invoke("log", "--json")[1])["moves"] == [], "a plan is no decision"
    assert invoke("pin", "s3://photos/a", "--to", "cold")[0] == Exit.USAGE
    assert json.loads(invoke("unpin", "s3://photos/2019", "--json")[1])["before"] == "warm"
    assert invoke("unpin", "s3://photos/2019")[1] == "stratum-tier: photos/2019/: it had no pin of its own\n"
    assert "nothing waits" in invoke("plan")[1]


def test_what_was_asked_for_is_in_the_log_and_what_it_saves_in_the_report(invoke: Invoke) -> None:
    invoke("move", "s3://photos/a", "--to", "warm", "--reason", "by hand")
    [row] = json.loads(invoke("log", "s3://photos/a", "--since", "1h", "--json")[1])["moves"]
    assert (row["path"], row["to"], row["cause"], row["reason"]) == ("photos/a", "warm", "operator", "by hand")
    assert (row["bytes"], row["outcome"], row["verdict"]) == (100_000, "done", None)
    assert json.loads(invoke("log", "s3://photos/b", "--json")[1])["moves"] == []
    assert "? > warm" in invoke("log")[1]
    code, _, err = invoke("log", "--since", "yesterday")
    assert (code, "'yesterday' is no time" in err) == (Exit.USAGE, True)
    hot, warm = json.loads(invoke("status", "--json")[1])["tiers"]
    assert (hot["used"], warm["used"], hot["objects"]) == (300_000, 100_000, None)
    assert invoke("status")[1].splitlines()[1].split()[0] == "hot"
    report = json.loads(invoke("report", "--json")[1])
    assert report["usd_month_saved"] == pytest.approx(1e-4 * (0.08 - 0.015))
    assert report["moved"] == [{"cause": "operator", "from": None, "to": "warm", "moves": 1, "bytes": 100_000}]
    assert "1 moves, 97.7 KiB, ? to warm: operator\n" in invoke("report")[1]


def test_a_store_with_one_tier_has_nothing_to_move(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    create.make_store(tmp_path / "store", [tmp_path / "d"], 1, 0, Credentials("root", "correct-horse"))
    for words in (["status"], ["plan"], ["report"], ["log"]):
        with pytest.raises(SystemExit) as ended:
            tier.main([*words, "--store", str(tmp_path / "store")])
        structlog.reset_defaults()
        assert ended.value.code == Exit.USAGE
        assert "one tier" in capfd.readouterr().err


def test_a_bucket_is_explained_in_sums_and_warmed_for_a_price(place: Path, invoke: Invoke) -> None:
    assert invoke("move", "s3://photos/2019", "--to", "warm")[0] == Exit.OK
    found = json.loads(invoke("explain", "s3://photos", "--json")[1])
    assert (found["kind"], found["bucket"], found["key"]) == ("directory", "photos", None)
    assert {name: each["bytes"] for name, each in found["sums"]["tiers"].items()} == {"hot": 200_000, "warm": 200_000}
    text = invoke("explain", "s3://photos/2019/")[1]
    assert text.startswith("s3://photos/2019/: 2 objects, 195.3 KiB\n  warm: 2 objects, 195.3 KiB, ")
    code, out, err = invoke("warm", "s3://photos")
    assert code == Exit.USAGE
    assert "195.3 KiB from warm to hot costs " in out
    assert "--yes" in err
    code, out, err = invoke("warm", "s3://photos", "--yes", "--json")
    assert (code, json.loads(out)["bytes"], json.loads(out)["to"]) == (Exit.OK, 200_000, "hot")
    assert "195.3 KiB from warm" in err
    assert "recalled by hand" in invoke("explain", "s3://photos/2019/c")[1]
    assert "nothing lies in slower tiers than hot" in invoke("warm", "s3://photos")[1]


def test_where_an_object_was_is_told_of_any_time(place: Path, invoke: Invoke) -> None:
    assert invoke("move", "s3://photos/a", "--to", "warm", "--reason", "a try")[0] == Exit.OK
    now = json.loads(invoke("explain", "s3://photos/a", "--json")[1])
    assert (now["placed"]["tier"], now["placed"]["by"], now["placed"]["reason"]) == ("warm", "operator", "a try")
    assert now["tiering"] is not None
    then = json.loads(invoke("explain", "s3://photos/a", "--at", "1d", "--json")[1])["then"]
    assert (then["tier"], then["by"], then["written_later"]) == ("hot", "placed", True)
    assert "it was in hot, by placed: new data lands in tier hot" in invoke("explain", "s3://photos/a", "--at", "1d")[1]
    code, _, err = invoke("explain", "s3://photos/a", "--at", "yesterday")
    assert (code, "is no time" in err) == (Exit.USAGE, True)


async def asked_while_served(folder: Path, serve: Callable[[Engine], Awaitable[None]]) -> Engine:
    settings = config.load(folder / config.SETTINGS_FILE)
    async with wire.locked(folder) as parts, wire.opened(parts, settings) as running, trio.open_nursery() as nursery:
        tiers = running.tiers
        assert tiers is not None
        with patch.object(Engine, "serve", serve):
            nursery.start_soon(tiers.serve)
            await trio.testing.wait_all_tasks_blocked()
            try:
                return await tiers.opened()
            finally:
                nursery.cancel_scope.cancel()


def test_who_asks_for_the_plan_does_not_wait_for_an_engine_that_ends(place: Path) -> None:
    async def serve(_: Engine) -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError("nobody foresaw this")

    engine = trio.run(asked_while_served, place / "store", serve)
    assert engine.surveyed.is_set()


def test_who_asks_for_the_plan_waits_for_so_long_and_no_longer(place: Path) -> None:
    async def serve(_: Engine) -> None:
        await trio.sleep_forever()

    with patch("stratumfs.owner.tier_engine.SURVEY_WAIT_S", 0.1), pytest.RaisesGroup(StoreBusy, flatten_subgroups=True):
        trio.run(asked_while_served, place / "store", serve)

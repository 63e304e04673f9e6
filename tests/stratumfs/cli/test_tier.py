"""``stratum-tier move`` on a store without an owner: the command is one for as long as it takes."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio

from stratumfs import config
from stratumfs.catalog.moves import unfinished_moves
from stratumfs.cli import tier
from stratumfs.cli.exit import Exit
from stratumfs.owner import create, wire
from stratumfs.owner.create import NewTier
from stratumfs.owner.messages import Credentials
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from stratumfs.values import Conditions, ObjectSpec

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
    flush = Repack.flush

    async def interrupted(repack: Repack) -> None:
        await flush(repack)
        if repack.moved:
            os.kill(os.getpid(), 2)
            await trio.sleep_forever()

    monkeypatch.setattr("stratumfs.store.repack.REPACK_BYTES", 100_000)
    monkeypatch.setattr(Repack, "flush", interrupted)
    code, out, _ = invoke("move", "s3://photos", "--to", "warm")
    assert code == Exit.INTERRUPTED
    assert out == "stratum-tier: s3://photos: stopped, 97.7 KiB of 390.6 KiB are in warm now\n"
    monkeypatch.setattr(Repack, "flush", flush)

    async def nothing_left(store: Store) -> None:
        assert await store.catalog.read(unfinished_moves) == []

    with_store(place, nothing_left)
    found = json.loads(invoke("move", "s3://photos", "--to", "warm", "--json")[1])
    assert (found["bytes"], found["outcome"]) == (300_000, "done")

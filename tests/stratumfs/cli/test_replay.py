"""What the doors served is recorded, and `stratum-tier replay` says what it would have cost otherwise."""

import json
import os
import time
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from stratumfs import config
from stratumfs.cli.exit import Exit
from stratumfs.owner import wire
from stratumfs.store.observer import NullObserver
from stratumfs.values import Conditions, ObjectSpec
from tests.stratumfs.cli.test_tier import Invoke, invoke, place
from tiering import recorder
from tiering.recording import RECORDING_FOLDER, Kind, recorded

__all__ = ["invoke", "place"]
SIZE = 100_000


async def use(folder: Path) -> None:
    """As an owner with doors does: one object is made, and two are read, one of them in pieces."""
    settings = config.load(folder / config.SETTINGS_FILE)
    async with wire.locked(folder) as parts, wire.opened(parts, settings) as running:
        store, made = running.store, running.tiers.recorder
        assert made is not None
        async with store.objects.put("photos") as writer:
            await writer.write(os.urandom(SIZE))
            await writer.finish()
            await writer.commit(b"new", ObjectSpec(), Conditions(), time.time_ns())
        for key, pieces in ((b"a", 1), (b"b", 4), (b"b", 4)):
            async with store.objects.open("photos", key) as reader:
                for number in range(pieces):
                    chunks = reader.chunks(number * SIZE // pieces, (number + 1) * SIZE // pieces)
                    async with aclosing(chunks):
                        assert sum([len(chunk) async for chunk in chunks]) == SIZE // pieces
        await store.objects.delete("photos", b"a", Conditions(), time.time_ns())
        await made.write(store.catalog)
        assert made.lost == 0


def test_accesses_are_recorded_as_they_were_and_replayed(place: Path, invoke: Invoke) -> None:
    policy = place / "policy.toml"
    policy.write_text("[hot]\nusd_gb_month = 800000.0\ncapacity = 1\n")
    assert "has recorded no access" in invoke("replay", "--policy", str(policy))[2]
    trio.run(use, place / "store")
    accesses = list(recorded(place / "store" / RECORDING_FOLDER, 0))
    assert [(each.kind, each.length) for each in accesses] == [
        (Kind.WRITE, SIZE),
        (Kind.READ, SIZE),
        (Kind.READ, SIZE),
        (Kind.READ, SIZE),
        (Kind.GONE, 0),
    ]
    code, out, err = invoke("replay", "--policy", str(policy), "--since", "1d", "--json")
    assert (code, err) == (Exit.OK, "")
    found = json.loads(out)
    assert (found["accesses"], found["objects"], found["objects_left_off"]) == (5, 3, False)
    now, other = found["now"], found["other"]
    assert (now["reads"], now["moves"]) == ({"hot": 3, "warm": 0}, 0)
    assert other["reads"] == {"hot": 0, "warm": 3} or other["reads"]["hot"] < 3
    assert other["stored_bytes"] == {"hot": 0, "warm": 4 * SIZE}
    assert found["saved_usd_month"] == now["usd_month"] - other["usd_month"]
    code, out, _ = invoke("replay", "--policy", str(policy))
    assert code == Exit.OK
    assert out.startswith("5 accesses in ")
    assert "bytes moved" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hot", "is no TOML"),
        ("[hot]\nprice = 1\n", "hot: object contains unknown field `price`"),
        ("[hot]\nusd_gb_month = -1.0\n", "hot.usd_gb_month = -1.0"),
    ],
)
def test_a_policy_that_is_none_is_refused_in_a_line(place: Path, invoke: Invoke, text: str, said: str) -> None:
    policy = place / "policy.toml"
    policy.write_text(text)
    code, out, err = invoke("replay", "--policy", str(policy))
    assert (code, out) == (Exit.USAGE, "")
    assert said in err
    assert err.count("\n") == 1


def test_too_many_accesses_at_once_are_counted_and_those_that_fit_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RECORDED_MAX", 3)
    told: list[tuple[int, int]] = []

    class Next:
        def read(self, ino: int, count: int, offset: int) -> None:
            told.append((ino, count))

        def wrote(self, ino: int, count: int) -> None:
            told.append((ino, count))

    now = 1000.0
    made = recorder.Recorder(Next(), tmp_path, lambda: now)  # type: ignore[arg-type]
    for ino in range(5):
        made.read(ino, 10, 0)  # type: ignore[arg-type]
    made.read(0, 10, 10)  # type: ignore[arg-type]
    assert made.lost == 2
    assert len(told) == 6


async def test_a_disk_that_fails_loses_accesses_and_holds_nobody_up(tmp_path: Path) -> None:
    class Sizes:
        async def read(self, fn: object, inos: list[int]) -> dict[int, int]:
            return dict.fromkeys(inos, 10)

    folder = tmp_path / RECORDING_FOLDER
    made = recorder.Recorder(NullObserver(), folder, lambda: 1000.0)
    folder.write_text("no folder")
    for _ in range(2):
        made.read(1, 10, 0)  # type: ignore[arg-type]
        await made.write(Sizes())  # type: ignore[arg-type]
    assert made.lost == 2
    folder.unlink()
    made.read(1, 10, 0)  # type: ignore[arg-type]
    await made.write(Sizes())  # type: ignore[arg-type]
    assert (made.lost, len(list(recorded(folder, 0)))) == (2, 1)


async def test_regression_what_nobody_foresaw_loses_accesses_and_ends_no_owner(tmp_path: Path) -> None:
    class Broken:
        async def read(self, fn: object, inos: list[int]) -> dict[int, int]:
            raise ValueError("a row that cannot be read")

    made = recorder.Recorder(NullObserver(), tmp_path / RECORDING_FOLDER, lambda: 1000.0)
    made.read(1, 10, 0)  # type: ignore[arg-type]
    await made.write(Broken())  # type: ignore[arg-type]
    assert made.lost == 1

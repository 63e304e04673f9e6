"""An ordinary power cut: some members hold more than others, and what nobody had synced is cut or torn."""

import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.stratumfs.catalog.somewhere import FolderPlace, member_numbers, open_at
from tests.stratumfs.catalog.toy import everything, get, put

SECTOR = 512
ANSWERED, SHOWN = b"answered" * 300, b"on its way" * 900
MEMBERS = (0, 1, 2, 3)

Files = Mapping[Path, bytes]


def files_of(place: FolderPlace) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()}


def leave(place: FolderPlace, files: Files) -> None:
    shutil.rmtree(place.root)
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def torn(synced: Files, written: Files, rng: random.Random) -> dict[Path, bytes]:
    """Of what was written behind the last sync some sectors are there, the others as they were, or zeros."""
    found = {}
    for path, data in written.items():
        old = synced.get(path, b"").ljust(len(data), b"\0")
        sectors = range(0, len(data), SECTOR)
        found[path] = b"".join(rng.choice((data, old))[at : at + SECTOR] for at in sectors)
        found[path] = found[path][: rng.randrange(len(synced.get(path, b"")), len(data) + 1)]
    return found


async def states(places: list[FolderPlace]) -> tuple[list[Files], list[Files]]:
    """What each place holds when the first transaction is answered, and when all hold the second one too."""
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert member_numbers(places, booted.members.members) == set(MEMBERS)
        await catalog.commit(put, 1, ANSWERED)
        before = [files_of(place) for place in places]
        await catalog.commit(put, 2, SHOWN)
        behind = [files_of(place) for place in places]
    return before, behind


async def opens_by_itself(places: list[FolderPlace], surely: bool | None) -> None:
    """*surely*: the second transaction is there, or not; None: nobody had answered it, so either will do."""
    for _ in range(2):
        async with open_at(places) as (catalog, booted):
            assert not booted.why_not
            found = await catalog.read(everything)
            assert found in ([(1, ANSWERED)], [(1, ANSWERED), (2, SHOWN)])
            assert surely in (None, len(found) == 2)
            surely = len(found) == 2  # what an opening has shown stays
    for number in MEMBERS:
        async with open_at(places, {number, 4, 5, 6}) as (catalog, booted):
            assert not booted.why_not
            assert await catalog.read(get, 1) == ANSWERED
            assert (await catalog.read(get, 2) is not None) == surely


@pytest.mark.parametrize("ahead", [[0], [1], [2, 3], [0, 3], [1, 2, 3]], ids=str)
async def test_some_hold_a_transaction_that_others_do_not(places: list[FolderPlace], ahead: Iterable[int]) -> None:
    before, behind = await states(places)
    for number, place in enumerate(places):
        leave(place, behind[number] if number in ahead else before[number])
    await opens_by_itself(places, surely=True)


@pytest.mark.parametrize("seed", range(6))
async def test_a_tail_is_torn_on_the_primary_and_on_copies(places: list[FolderPlace], seed: int) -> None:
    rng = random.Random(seed)
    before, behind = await states(places)
    for number, place in enumerate(places):
        state = rng.choice(("before", "behind", "torn")) if number in MEMBERS else "before"
        whole = before[number] if state == "before" else behind[number]
        leave(place, torn(before[number], behind[number], rng) if state == "torn" else whole)
    await opens_by_itself(places, surely=None)

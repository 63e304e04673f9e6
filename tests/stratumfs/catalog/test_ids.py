"""Ids never go back."""

import itertools
import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.errors import InvalidArgument, StoreReadOnly
from stratumfs.limits import ID_BLOCK
from tests.stratumfs.catalog.toy import FailingMember, StoppedMember, running


async def test_ids_count_up_and_ranges_are_consecutive(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        assert [await catalog.ids.inodes() for _ in range(3)] == [2, 3, 4]
        assert await catalog.ids.extents(200) == 1
        assert await catalog.ids.extents() == 201
        assert await catalog.ids.cookies() == 16


async def test_a_draw_within_the_block_awaits_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        with trio.testing.assert_no_checkpoints():
            await catalog.ids.inodes()
            await catalog.ids.extents(ID_BLOCK)


async def test_the_next_block_is_reserved_ahead_of_need(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        await catalog.ids.extents(ID_BLOCK // 2 + 1)
        while catalog.statistics().rounds.commits < 1:
            await trio.lowlevel.checkpoint()
        await catalog.sync()
        await wait_all_tasks_blocked()  # the reserving task has heard of it
        with trio.testing.assert_no_checkpoints():
            assert await catalog.ids.extents(ID_BLOCK) == ID_BLOCK // 2 + 2


async def test_many_tasks_draw_disjoint_ranges_over_blocks(tmp_path: Path) -> None:
    drawn: list[range] = []

    async def draw(count: int) -> None:
        first = await catalog.ids.extents(count)
        drawn.append(range(first, first + count))

    async with running(tmp_path / "c") as catalog, trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(draw, 1 + (n * 7919) % ID_BLOCK)
    drawn.sort(key=lambda ids: ids.start)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(drawn))


async def test_no_id_is_handed_out_before_its_block_is_durable(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.ids.inodes(ID_BLOCK)
        drawn: list[int] = []

        async def draw() -> None:
            drawn.append(await catalog.ids.inodes())

        nursery.start_soon(draw)
        await wait_all_tasks_blocked()
        assert not drawn
        member.let_go()
    assert drawn == [2 + ID_BLOCK]


async def test_an_opening_jumps_over_whatever_was_reserved(tmp_path: Path) -> None:
    """Also after a crash: the folder is copied while open, as kill -9 would leave it."""
    last = 0
    folder = tmp_path / "0"
    for opening in range(3):
        crashed = tmp_path / str(opening + 1)
        async with running(folder) as catalog:
            first = await catalog.ids.inodes(10)
            assert first > last
            last = first + 9
            shutil.copytree(folder, crashed)
        folder = crashed


async def test_a_block_that_cannot_be_reserved_is_an_error(tmp_path: Path) -> None:
    member = FailingMember()
    async with running(tmp_path / "c", [member]) as catalog:
        member.failing = True
        await catalog.ids.extents(ID_BLOCK)
        for _ in range(2):
            with pytest.raises(StoreReadOnly):
                await catalog.ids.extents(ID_BLOCK)


@pytest.mark.parametrize("count", [0, -1, ID_BLOCK + 1])
async def test_a_count_out_of_bounds_is_refused(tmp_path: Path, count: int) -> None:
    async with running(tmp_path / "c") as catalog:
        with pytest.raises(InvalidArgument):
            await catalog.ids.inodes(count)

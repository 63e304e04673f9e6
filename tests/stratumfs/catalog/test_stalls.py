"""Places that do not answer: whom silence blames, and what goes on meanwhile."""

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog import calls as calls_module
from stratumfs.catalog import chains, copies, seeding
from stratumfs.catalog.calls import Calls
from stratumfs.catalog.chains import COPY_CHUNK
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.membership import Membership
from stratumfs.errors import DeviceFailed, DeviceUnasked, StoreReadOnly
from stratumfs.ids import STORE_PLACE, PlaceId
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    make_catalog,
    member_numbers,
    open_at,
    pass_s,
    pass_until,
    place_id,
    places_in,
    unanswered,
    until,
)
from tests.stratumfs.catalog.toy import everything, put

GATE_S = 300
"""The longest that a thread waits here: without end it would keep a test that fails from saying so."""


async def test_a_note_into_a_stall_strikes_nobody(places: list[FolderPlace], mock_clock: MockClock) -> None:
    async with open_at(places) as (catalog, booted):
        members, noted = _of(booted.members), trio.Event()

        async def note() -> None:
            await members.note(synced)
            noted.set()

        with _stalling(places[6:]) as reached:
            await catalog.commit(put, 1, b"one")  # not before: the catalog notes it by itself, too
            synced = catalog.statistics().synced
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note)
                await until(lambda: len(reached) == 1 and len(_told(members, synced)) == 6)
                # More than its deadline, where threads that answer take longer than seconds of this clock.
                await pass_until(mock_clock, noted.is_set)
        assert not members._doubtful
        await catalog.commit(put, 2, b"two")
        assert member_numbers(places, members.places) == set(range(7))


async def test_an_epoch_that_more_than_m_are_silent_in_blames_nobody_and_goes_on_when_they_answer(
    places: list[FolderPlace], mock_clock: MockClock
) -> None:
    async with open_at(places) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with _stalling(places[1:]) as reached:
                nursery.start_soon(catalog.strike, places[3].id, "EIO")
                for _ in range(3):
                    await until(lambda: len(reached) == 5 and len(_begun(members)) == 1)
                    await pass_s(mock_clock, STRIKE_S)
                    await wait_all_tasks_blocked()
                assert members.struck.keys() == {places[3].id}
        await catalog.commit(put, 2, b"two")
        assert members.struck.keys() == {places[3].id}
    async with open_at(places, {1, 2, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_up_to_m_that_are_silent_in_an_epoch_while_others_answer_are_struck(
    places: list[FolderPlace], mock_clock: MockClock
) -> None:
    async with open_at(places) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with _stalling(places[5:]) as reached:
                nursery.start_soon(catalog.strike, places[3].id, "EIO")
                await until(lambda: len(reached) == 2 and len(_begun(members)) == 4)
                await pass_until(mock_clock, lambda: len(members.struck) == 3)
        await catalog.commit(put, 2, b"two")
        assert member_numbers(places, members.struck) == {3, 5, 6}


async def test_a_spare_that_hangs_while_it_is_seeded_keeps_no_commit_no_strike_and_no_close_waiting(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_seeds(monkeypatch, places[4:5]) as reached:
        async with open_at(places) as (catalog, booted):
            members = _of(booted.members)
            await catalog.commit(put, 1, b"one")
            await catalog.strike(places[3].id, "EIO")
            await until(lambda: bool(reached))
            await catalog.commit(put, 2, b"two")
            await catalog.strike(places[6].id, "EIO")  # no member; the epoch after it names those that are told
            await catalog.strike(places[2].id, "EIO")
            assert member_numbers(places, members.members) == {0, 1, 5}
            await catalog.commit(put, 3, b"three")
            assert places[4].id in members.places


async def test_a_spare_that_hangs_while_it_is_seeded_is_passed_over_for_the_next(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_seeds(monkeypatch, places[4:5]) as reached:
        async with open_at(places) as (catalog, booted):
            members = _of(booted.members)
            await catalog.commit(put, 1, b"one")
            await catalog.strike(places[3].id, "EIO")
            await until(lambda: bool(reached))
            await pass_s(mock_clock, STRIKE_S)
            await until(lambda: len(members.members) == 4)
            assert member_numbers(places, members.members) == {0, 1, 2, 5}
            assert places[4].id in members.places


async def test_a_copy_that_takes_over_for_long_is_not_struck_and_the_next_one_is_tried_beside(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        first = max(members.copies, key=lambda copy: (copy.generation, copy.shipped)).place
        async with trio.open_nursery() as nursery:
            with hanging_builds(monkeypatch, [place for place in places if place.id == first]) as reached:
                _lose(places[0])
                nursery.start_soon(catalog.commit, put, 2, b"two")
                await until(lambda: len(reached) == 1)
                await pass_s(mock_clock, STRIKE_S)
                await until(lambda: catalog.statistics().synced >= 2 and members.primary != STORE_PLACE)
        assert members.primary != first
        assert member_numbers(places, members.struck) == {0}
        await catalog.commit(put, 3, b"three")
        assert len(await catalog.read(everything)) == 3


async def test_where_every_copy_takes_long_to_take_over_they_are_waited_for(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with hanging_builds(monkeypatch, places) as reached:
                _lose(places[0])
                nursery.start_soon(catalog.commit, put, 2, b"two")
                for number in range(5):
                    await until(lambda: len(reached) == min(3, number + 1))  # noqa: B023 - it is called at once
                    await pass_s(mock_clock, STRIKE_S)
        assert member_numbers(places, members.struck) == {0}
        assert len(await catalog.read(everything)) == 2


async def test_long_work_stalls_when_it_does_nothing_and_not_when_it_takes_long(mock_clock: MockClock) -> None:
    place, go_on = place_id(1), threading.Semaphore(0)
    steps: list[int] = []

    def work(step: Callable[[], None]) -> str:
        for number in range(3):
            assert go_on.acquire(timeout=60)
            step()
            steps.append(number)
        return "done"

    said: list[str] = []

    async def wait() -> None:
        said.append(await Calls(1, lambda: 0, {}).long(place, work, stalled=lambda: said.append("stalled")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for number in range(2):
            await wait_all_tasks_blocked()
            go_on.release()
            await until(lambda: len(steps) > number)  # noqa: B023 - it is called before the next one
            await pass_s(mock_clock, STRIKE_S)
        await wait_all_tasks_blocked()
        assert said == []
        await pass_s(mock_clock, STRIKE_S)
        await wait_all_tasks_blocked()
        assert said == ["stalled"]
        go_on.release()
    assert said == ["stalled", "done"]


@pytest.mark.parametrize(
    ("asked", "silent", "to_spare", "blamed"),
    [(1, 1, 9, 0), (2, 1, 9, 1), (2, 2, 9, 0), (7, 2, 9, 2), (7, 3, 9, 0), (3, 2, 1, 0), (3, 1, 1, 1), (3, 1, 0, 0)],
)
async def test_silence_blames_up_to_m_and_never_all_and_no_more_than_can_be_spared(
    autojump_clock: MockClock, asked: int, silent: int, to_spare: int, blamed: int
) -> None:
    ids = [place_id(number) for number in range(asked)]

    async def call(place: PlaceId) -> None:
        if place in ids[:silent]:
            await trio.sleep(3 * STRIKE_S)

    failed = await Calls(2, lambda: to_spare, {}).each(ids, call)
    assert failed.keys() == set(ids[:blamed])


@pytest.mark.parametrize(("hanging", "blamed"), [(5, 0), (1, 0), (0, 2)])
async def test_regression_who_answered_before_all_stalled_is_asked_again(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, hanging: int, blamed: int
) -> None:
    """Seven places stall one after the other, two of them in the middle of a call: it is the machine all the same."""
    places = {place.id: place for place in places_in(tmp_path, 7)}
    ids, may, probed = list(places), threading.Event(), threading.Semaphore(0)
    hang = {places[place].folder for place in ids[2 : 2 + hanging]}

    def probe(folder: Path) -> None:
        probed.release()
        assert folder not in hang or may.wait(60)

    async def call(place: PlaceId) -> None:
        if place in ids[:2]:
            await trio.to_thread.run_sync(may.wait, 60, abandon_on_cancel=True)

    monkeypatch.setattr(calls_module, "probe", probe)
    found: list[set[PlaceId]] = []

    async def ask() -> None:
        found.append(set(await Calls(2, lambda: 9, places).each(ids, call)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await pass_s(mock_clock, STRIKE_S / 2)
        for _ in range(5):
            assert await trio.to_thread.run_sync(probed.acquire, True, 60)
        if blamed:
            await pass_until(mock_clock, lambda: bool(found))
        else:
            await pass_s(mock_clock, 2 * STRIKE_S)
            assert not found
        may.set()
    assert found == [set(ids[:blamed])]


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "x"), OSError(errno.ENFILE, "x"), DeviceUnasked("x")])
async def test_who_has_no_descriptor_for_a_place_waits_and_blames_nobody(
    autojump_clock: MockClock, error: Exception
) -> None:
    ids = [place_id(number) for number in range(3)]
    tries: list[PlaceId] = []

    async def call(place: PlaceId) -> None:
        tries.append(place)
        if place == ids[0] and trio.current_time() - began < 3 * STRIKE_S:
            raise error

    began = trio.current_time()
    assert await Calls(2, lambda: 3, {}).each(ids, call) == {}
    assert trio.current_time() - began >= 3 * STRIKE_S
    assert tries.count(ids[1]) == 1


def _of(members: Membership | None) -> Membership:
    assert members is not None
    return members


def _told(members: Membership, synced: int) -> list[PlaceId]:
    return [place for place in members.places if members._identities.known(place).sequence == synced]


def _begun(members: Membership) -> list[PlaceId]:
    """Who knows of an epoch that is not in force yet."""
    return [place for place in members.places if members._identities.known(place).begun.number > members.epoch.number]


def _lose(place: FolderPlace) -> None:
    place.dead = True
    (place.root / "catalog").rename(place.root / "lost")


@contextmanager
def hanging_seeds(monkeypatch: pytest.MonkeyPatch, places: Sequence[FolderPlace]) -> Iterator[list[Path]]:
    """A base at any of these is not made before the end; says which are begun."""
    with _hanging(monkeypatch, seeding, "seed", places) as reached:
        yield reached


@contextmanager
def hanging_builds(monkeypatch: pytest.MonkeyPatch, places: Sequence[FolderPlace]) -> Iterator[list[Path]]:
    """The same of a database that is made of a copy."""
    with _hanging(monkeypatch, chains, "build_database", places) as reached:
        yield reached


@contextmanager
def _hanging(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, places: Sequence[FolderPlace]
) -> Iterator[list[Path]]:
    gate = threading.Event()
    reached: list[Path] = []
    call = getattr(module, name)

    def hanging(folder: Path, *rest: Any) -> Any:
        if any(place.root in folder.parents for place in places):
            reached.append(folder)
            assert gate.wait(GATE_S)
        return call(folder, *rest)

    monkeypatch.setattr(module, name, hanging)
    try:
        yield reached
    finally:
        gate.set()


@contextmanager
def _stalling(places: Sequence[FolderPlace]) -> Iterator[list[str]]:
    """Whoever writes what an identity file says waits; says who does."""
    gate = threading.Event()
    reached: list[str] = []

    def wait(what: str) -> None:
        if not gate.is_set():
            reached.append(what)
        assert gate.wait(GATE_S)

    for place in places:
        place.before = wait
    try:
        yield reached
    finally:
        gate.set()


async def test_a_spare_that_hangs_is_not_waited_for_where_no_epoch_could_be_begun_anyway(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_seeds(monkeypatch, places[4:5]):
        async with open_at(places, range(5)) as (catalog, _):
            await catalog.commit(put, 1, b"one")
            for place in places[2:4]:
                _lose(place)
            with pytest.raises(StoreReadOnly, match="3 of 7 places"):
                await catalog.commit(put, 2, b"two")


async def test_a_strike_of_the_only_spare_that_a_strike_waits_for_ends_its_wait(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 5)
    make_catalog(places)
    with hanging_seeds(monkeypatch, places[3:4]) as reached:
        async with open_at(places, range(3)) as (catalog, booted):
            members = _of(booted.members)
            await catalog.commit(put, 1, b"one")
            members.welcome(places[3])
            await until(lambda: bool(reached))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_struck, catalog, places[2])
                await until(lambda: places[2].id in members.struck)
                await pass_s(mock_clock, STRIKE_S)
                await until(lambda: catalog.waiting is not None)
                assert "p3" in str(catalog.waiting)
                members.welcome(places[4])
                await catalog.strike(places[3].id, "the fleet has met an error")
            assert member_numbers(places, members.members) == {0, 1, 4}
            assert catalog.waiting is None
            await catalog.commit(put, 2, b"two")


async def test_the_only_copy_that_hangs_is_struck_where_others_are_there(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary has answered, so it is not the machine."""
    places = places_in(tmp_path, 5)
    make_catalog(places)
    async with open_at(places, m=1) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        for place in places[3:]:
            members._spares.taken(place.id)
        await catalog.strike(places[2].id, "EIO")
        async with trio.open_nursery() as nursery:
            with _hanging_holds(monkeypatch, places[1]) as reached:
                nursery.start_soon(catalog.commit, put, 2, b"two")
                await until(lambda: bool(reached) and unanswered(members) == 1)
                await pass_until(mock_clock, lambda: places[1].id in members.struck)
                await until(lambda: catalog.statistics().synced >= 2 and not catalog._rounds.turn.locked())
        assert member_numbers(places, members.struck) == {1, 2}
        assert len(members.members) >= 2


async def test_a_strike_of_a_member_that_a_round_waits_for_ends_its_wait(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom the fleet strikes for what it does elsewhere, the catalog need not wait for."""
    places = places_in(tmp_path, 5)
    make_catalog(places)
    async with open_at(places, m=1) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with _hanging_holds(monkeypatch, places[1]) as reached:
                nursery.start_soon(catalog.commit, put, 2, b"two")
                await until(lambda: bool(reached))
                await catalog.strike(places[1].id, "the fleet has met an error")
        assert member_numbers(places, members.struck) == {1}
        await catalog.commit(put, 3, b"three")


async def test_a_copy_that_is_shipped_a_long_log_is_not_struck_as_long_as_it_gets_on(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "COPY_SYNC", COPY_CHUNK)
    hold, asked, may = Copy.hold, threading.Semaphore(0), threading.Semaphore(0)

    async with open_at(places) as (catalog, booted):
        members = _of(booted.members)
        await catalog.commit(put, 1, b"one")
        slow = members.copies[0]

        def slowly(self: Copy, mark: Mark) -> bool:
            if self is slow:
                asked.release()
                assert may.acquire(timeout=60)
            return hold(self, mark)

        monkeypatch.setattr(Copy, "hold", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.commit, put, 2, bytes(3 * COPY_CHUNK))
            for _ in range(4):
                assert await trio.to_thread.run_sync(asked.acquire, True, 60)
                await pass_s(mock_clock, STRIKE_S - 5)
                may.release()
        assert members.struck == {}
        assert slow in members.copies
        monkeypatch.undo()


async def _struck(catalog: Catalog, place: FolderPlace) -> None:
    await catalog.strike(place.id, "EIO")


@contextmanager
def _hanging_holds(monkeypatch: pytest.MonkeyPatch, place: FolderPlace) -> Iterator[list[Copy]]:
    """The copy at *place* holds nothing more before the end."""
    gate, hold = threading.Event(), Copy.hold
    reached: list[Copy] = []

    def hanging(self: Copy, mark: Mark) -> bool:
        if self.place == place.id:
            reached.append(self)
            assert gate.wait(GATE_S)
        return hold(self, mark)

    monkeypatch.setattr(Copy, "hold", hanging)
    try:
        yield reached
    finally:
        gate.set()


async def test_what_a_stuck_call_may_still_write_is_not_overtaken_by_what_is_written_after_a_welcome() -> None:
    """It would put the older text in the place of the newer one."""
    place, calls = place_id(1), Calls(1, lambda: 1, {})
    may, stuck = threading.Event(), threading.Event()
    written: list[str] = []

    def write(text: str) -> None:
        if text == "older":
            stuck.set()
            assert may.wait(60)
        written.append(text)

    async def older() -> None:
        with pytest.raises(DeviceFailed, match="it hangs"):
            await calls.short(place, write, "older")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(older)
        assert await trio.to_thread.run_sync(stuck.wait, 10)
        calls.strike(place, "it hangs")
        await wait_all_tasks_blocked()
        with pytest.raises(DeviceFailed, match="it hangs"):
            await calls.short(place, write, "in between")
        calls.welcome(place)
        nursery.start_soon(calls.short, place, write, "newer")
        await wait_all_tasks_blocked()
        may.set()
    assert written == ["older", "newer"]

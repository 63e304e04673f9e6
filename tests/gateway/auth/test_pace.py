"""A body that makes no progress is given up; one that is slow but moves is not."""

import hashlib
from collections.abc import MutableMapping
from typing import Any

import pytest
import trio

from gateway.auth.sigv4 import EMPTY_SHA256
from gateway.auth.verified import Checks, PlainReader, VerifiedBody
from gateway.errors import S3Error
from gateway.limits import BODY_WINDOW_MIN, BODY_WINDOW_S

SIZE = 300 * 1024


class Client:
    """Sends *piece* bytes each *pause* seconds, up to *size*; by both of a server's ways."""

    def __init__(self, piece: int, pause_s: float, size: int = SIZE) -> None:
        self.piece, self.pause_s, self.left = piece, pause_s, size

    async def _next(self, most: int) -> int:
        if self.left:
            await trio.sleep(self.pause_s)
        count = min(self.piece, self.left, most)
        self.left -= count
        return count

    async def receive(self) -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": bytes(await self._next(1 << 16)), "more_body": self.left > 0}

    async def receive_into(self, view: memoryview) -> int:
        return await self._next(len(view))

    def body(self, straight: bool) -> VerifiedBody:
        into = self.receive_into if straight else None
        return VerifiedBody(self.receive, SIZE, PlainReader(), Checks(), trio.CapacityLimiter(1), into)


async def take(body: VerifiedBody, work_s: float = 0) -> int:
    """All of *body*; its reader has *work_s* to do for each piece."""
    room, size = memoryview(bytearray(SIZE + 1)), 0
    while count := await body.read_into(room[size:]):
        size += count
        await trio.sleep(work_s)
    return size


@pytest.mark.parametrize("straight", [False, True])
async def test_a_slow_body_that_moves_lives(straight: bool, autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    piece = BODY_WINDOW_MIN // 20
    assert await take(Client(piece, BODY_WINDOW_S / 21).body(straight)) == SIZE
    assert trio.current_time() - began > 5 * BODY_WINDOW_S


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize(("piece", "pause_s"), [(1, 1.0), (BODY_WINDOW_MIN // 31, BODY_WINDOW_S / 30), (SIZE, 1e6)])
async def test_a_body_that_makes_no_progress_is_given_up(
    straight: bool, piece: int, pause_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    with pytest.raises(S3Error) as caught:
        await take(Client(piece, pause_s).body(straight))
    assert caught.value.code == "RequestTimeout"
    assert trio.current_time() - began == pytest.approx(BODY_WINDOW_S)


@pytest.mark.parametrize("straight", [False, True])
async def test_what_the_reader_takes_is_not_the_clients_time(
    straight: bool, autojump_clock: trio.testing.MockClock
) -> None:
    assert await take(Client(BODY_WINDOW_MIN // 10, 1).body(straight), work_s=60) == SIZE


@pytest.mark.parametrize("straight", [False, True])
async def test_what_is_received_straight_into_memory_is_verified(straight: bool) -> None:
    for digest, good in ((hashlib.sha256(bytes(SIZE)).hexdigest(), True), (EMPTY_SHA256, False)):
        client = Client(10_000, 0)
        into = client.receive_into if straight else None
        checks = Checks(sha256=digest)
        body = VerifiedBody(client.receive, SIZE, PlainReader(), checks, trio.CapacityLimiter(1), into)
        if good:
            assert await take(body) == SIZE
            assert body.checksum.algorithm == "CRC64NVME"
        else:
            with pytest.raises(S3Error) as caught:
                await take(body)
            assert caught.value.code == "XAmzContentSHA256Mismatch"


async def test_a_body_that_is_cut_is_incomplete() -> None:
    async def cut(view: memoryview) -> int:
        raise EOFError

    client = Client(1, 0)
    for body in (
        VerifiedBody(client.receive, SIZE, PlainReader(), Checks(), trio.CapacityLimiter(1), cut),
        Client(1000, 0, SIZE - 1).body(True),
    ):
        with pytest.raises(S3Error) as caught:
            await take(body)
        assert caught.value.code == "IncompleteBody"


async def test_what_came_with_the_head_is_waited_for_by_nobody_and_verified() -> None:
    async def never(view: memoryview) -> int:
        raise AssertionError("there is nothing to wait for")

    for digest, good in ((hashlib.sha256(bytes(SIZE)).hexdigest(), True), (EMPTY_SHA256, False)):
        left = [SIZE]

        def here(view: memoryview, left: list[int] = left) -> int:
            count = min(10_000, len(view), left[0])
            left[0] -= count
            return count

        client = Client(1, 0)
        checks = Checks(sha256=digest)
        body = VerifiedBody(client.receive, SIZE, PlainReader(), checks, trio.CapacityLimiter(1), never, here)
        if good:
            assert await take(body) == SIZE
        else:
            with pytest.raises(S3Error) as caught:
                await take(body)
            assert caught.value.code == "XAmzContentSHA256Mismatch"


async def test_what_has_not_come_with_the_head_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    client, here = Client(SIZE, 1e6), [1000, 0, 0]
    client.left -= 1000
    body = VerifiedBody(
        client.receive,
        SIZE,
        PlainReader(),
        Checks(),
        trio.CapacityLimiter(1),
        client.receive_into,
        lambda _: here.pop(0),
    )
    with pytest.raises(S3Error) as caught:
        await take(body)
    assert caught.value.code == "RequestTimeout"

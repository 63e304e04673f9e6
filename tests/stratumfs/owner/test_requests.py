"""What the owner answers, with doors that serve nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.config import Settings, Tier
from stratumfs.owner.doors import Doors, Kind, Ready
from stratumfs.owner.messages import Answer, Done, Failed, OpenGateway
from stratumfs.owner.requests import Requests

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"


class Gateway:
    """Serves nothing at two addresses; its end takes until ``drained`` is set."""

    where = (A, B)

    def __init__(self) -> None:
        self.drained = trio.Event()

    def pending(self) -> str:
        return ""

    def details(self) -> dict[str, Any]:
        return {}

    async def serve(self, stop: trio.Event, ready: Ready) -> None:
        ready(self)
        await stop.wait()
        await self.drained.wait()


class Asking:
    """The owner's side of a connection."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    async def send(self, answer: Answer) -> None:
        self.answers.append(answer)


@asynccontextmanager
async def served(door: Gateway) -> AsyncIterator[tuple[Doors, Requests]]:
    async with trio.open_nursery() as nursery:
        doors = Doors(nursery, lambda: 17.0)
        running: Any = None  # for what is open already nothing of it is needed
        await doors.open(Kind.GATEWAY, door.serve)
        yield doors, Requests(running, doors, Settings(Tier(4, 2)), trio.Event())
        nursery.cancel_scope.cancel()


async def answer(requests: Requests, request: OpenGateway) -> Answer:
    asking: Any = Asking()
    await requests.handle(request, asking)
    [found] = asking.answers
    assert isinstance(found, Done | Failed)
    return found


@pytest.mark.parametrize("listen", [(A,), (B,), (B, A)])
async def test_a_gateway_that_is_open_already_is_enough(listen: tuple[str, ...]) -> None:
    async with served(Gateway()) as (_, requests):
        found = await answer(requests, OpenGateway(listen))
    assert found == Done({"kind": "gateway", "where": [A, B], "already": True})


@pytest.mark.parametrize("request_", [OpenGateway((A,), hold=True), OpenGateway((A, C))])
async def test_a_gateway_is_not_opened_in_part(request_: OpenGateway) -> None:
    async with served(Gateway()) as (_, requests):
        found = await answer(requests, request_)
    assert isinstance(found, Failed)
    assert (found.kind, found.message) == ("ConfigError", f"this store is already served at {A}, {B}")


async def test_a_gateway_that_is_closing_is_waited_for_and_no_answer() -> None:
    door = Gateway()
    found: list[Answer] = []
    async with served(door) as (doors, requests), trio.open_nursery() as nursery:
        nursery.start_soon(doors.close, doors.find(A))
        await wait_all_tasks_blocked()

        async def ask() -> None:
            found.append(await answer(requests, OpenGateway((A,))))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert found == []
        door.drained.set()
    [failure] = found
    # It was the last door: who asks for another one starts the next owner.
    assert isinstance(failure, Failed)
    assert failure.kind == "StoreClosing"

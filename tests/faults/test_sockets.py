"""The n-th call on a socket fails, for every n: of the gateway's clients, and of the control socket.

A client is cut off or answered, never answered wrongly; what it was told stays; nobody else notices.
"""

import errno
import http.client
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from stratumfs import config
from stratumfs.errors import StoreClosing
from stratumfs.owner import client, control
from stratumfs.owner.doors import Doors as OwnersDoors
from stratumfs.owner.doors import Kind
from stratumfs.owner.gateway_door import serving
from stratumfs.owner.messages import Explain, OpenGateway
from stratumfs.owner.requests import Requests
from stratumfs.store.store import Store
from tests.doors import Doors
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.calls import Shortened, Step, watched
from tests.faults.disk import Image, write_image
from tests.faults.held import files
from tests.faults.look import look
from tests.faults.run import running
from tests.faults.story import Story, after_kill
from tests.faults.tree import Tree
from tools.rehearsals._s3 import Client

pytestmark = pytest.mark.slow

SETTLED_S = 60.0
_VERBS = {"reset": ("receive", "send"), "short": ("receive", "send"), "EMFILE": ("accept",), "aborted": ("accept",)}
_CODES = {"reset": errno.ECONNRESET, "EMFILE": errno.EMFILE, "aborted": errno.ECONNABORTED}
_CUT_OFF = (OSError, http.client.HTTPException, StoreClosing)
"""What a client meets whose connection breaks off."""


class _Failer:
    """A `Watch` that makes the *left*-th call that can meet *how* do so; *for_good*: and every later one."""

    def __init__(self) -> None:
        self.how, self.left, self.for_good, self.failed = "", 0, False, list[Step]()

    def arm(self, how: str, left: int, *, for_good: bool) -> None:
        self.how, self.left, self.for_good = how, left, for_good
        self.failed.clear()

    def before(self, step: Step, path: Path) -> None:
        if step.verb not in _VERBS.get(self.how, ()):
            return
        self.left -= 1
        if self.left == -1 or (self.left < 0 and self.for_good):
            self.failed.append(step)
            if self.how == "short":
                raise Shortened
            raise OSError(_CODES[self.how], os.strerror(_CODES[self.how]))

    def synced(self, path: Path) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Served:
    """A store that a gateway and the control socket serve in this process; *doors* knows where."""

    store: Store
    owner: OwnersDoors
    doors: Doors

    async def settled(self, before: Counter[str]) -> None:
        """Return when no client is served any more, and what they asked for has happened or not."""
        with trio.fail_after(SETTLED_S):
            while files() - before:  # noqa: ASYNC110 - nobody says when the kernel has closed one
                await trio.sleep(0.001)
        await self.store.catalog.sync()


@asynccontextmanager
async def _served(root: Path) -> AsyncIterator[_Served]:
    doors = Doors(root)
    async with running(root) as found, trio.open_nursery() as nursery:
        settings = config.load(found.folder / config.SETTINGS_FILE)
        owner = OwnersDoors(nursery, time.time)
        requests = Requests(found, owner, settings, trio.Event())
        async with control.bound_socket(found.folder) as bound, trio.open_nursery() as asking:
            await asking.start(control.serve, bound.socket, requests.handle)
            gateway = OpenGateway(listen=("127.0.0.1:0",))
            door = await owner.open(Kind.GATEWAY, serving(found, settings, gateway))
            doors.port = int(door.opened.where[-1].rpartition(":")[2])
            yield _Served(found.store, owner, doors)
            await owner.close_all()
            asking.cancel_scope.cancel()


def _use(doors: Doors, story: Story, name: str) -> None:
    """A client of each socket, one request after the other. Raises: `_CUT_OFF`."""
    s3 = Client(doors)
    try:
        short, long = os.urandom(INLINE), os.urandom(STRIPED)
        for key, data in ((f"{name}/short", short), (f"{name}/long", long)):
            with story.changing(story.tree.put(f"main/{key}", data, etag_of(data))):
                s3.put("main", key, data)
        assert s3.get("main", f"{name}/long".encode()).data == long
        assert {f"{name}/short".encode(), f"{name}/long".encode()} <= s3.list("main", name.encode())[0].keys()
        with story.changing(story.tree.put(f"main/{name}/copy", long, etag_of(long))):
            s3.copy("main", f"{name}/long", f"{name}/copy")
        path, etag = f"main/{name}/parts", f"{etag_of(bytes.fromhex(etag_of(long)))}-1"
        begun = story.tree.upload(path, {})
        with story.changing(begun, begun.upload(path, {1: long}), story.tree.put(path, long, etag)):
            s3.upload("main", f"{name}/parts", [long])
        with story.changing(story.tree.delete(f"main/{name}/copy")):
            s3.delete("main", f"{name}/copy")
    finally:
        s3.close()
    owner = client.connect(doors.store)
    assert owner is not None
    with owner:
        for _ in range(2):
            assert owner.ask(Explain(bucket="main", key="striped"), wait_s=SETTLED_S)


async def _go_through(root: Path, base: tuple[Image, Tree], how: str, *, for_good: bool = False) -> int:
    """Fail the n-th call, for n = 0, 1, … until there is none; returns how many there were."""
    image, tree = base
    write_image(image, root)
    failer = _Failer()
    with watched(root, failer, sockets=True):
        async with _served(root) as served:
            await trio.to_thread.run_sync(_use, served.doors, Story(tree), "warm")  # what is opened once is open
            tree = await look(served.store)
            before = files()
            number = 0
            while True:
                failer.arm(how, number, for_good=for_good)
                story = Story(tree)
                error = await _cut_off(lambda story=story, number=number: _use(served.doors, story, f"n{number}"))  # type: ignore[misc]
                about = f"{how} of call {number}: {failer.failed[:1]}, the client got {error!r}"
                failed = bool(failer.failed)
                failer.arm("", 0, for_good=False)
                await served.settled(before)
                tree = await look(served.store)
                wrong = after_kill([story], [story.progress]).differences(tree)
                assert not wrong, "\n".join([about, *wrong])
                assert error is None or (failed and how == "reset"), about
                if not failed or for_good:
                    return number
                number += 1


async def _cut_off(use: Callable[[], None]) -> Exception | None:
    try:
        await trio.to_thread.run_sync(use)
    except _CUT_OFF as error:
        return error
    return None


@pytest.mark.parametrize(("how", "calls"), [("reset", 20), ("short", 20), ("EMFILE", 2), ("aborted", 2)])
async def test_each_call_on_a_socket_fails_in_turn(root: Path, base: tuple[Image, Tree], how: str, calls: int) -> None:
    assert await _go_through(root, base, how) >= calls


async def test_all_calls_on_sockets_are_short(root: Path, base: tuple[Image, Tree]) -> None:
    await _go_through(root, base, "short", for_good=True)

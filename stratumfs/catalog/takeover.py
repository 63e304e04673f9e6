"""Where the primary is lost: a database is made of a copy, on the copy's own place."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial

import trio

from stratumfs.catalog import chains
from stratumfs.catalog.calls import Calls
from stratumfs.catalog.chains import Chain, Form, Manifest
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.epochs import Epoch
from stratumfs.catalog.opening import Database, open_database
from stratumfs.catalog.places import Place
from stratumfs.catalog.progress import Step
from stratumfs.errors import StratumError

Taken = tuple[Copy, Chain, Database]


async def first_to_take_over(
    calls: Calls, copies: Sequence[tuple[Copy, Place, Chain]], failed: Callable[[Copy, Exception], None]
) -> tuple[list[Taken], set[Copy]]:
    """The first of *copies* made a database; while one does nothing the next is tried beside. *failed* is told.

    Each holds all that was ever answered. As long as one has not failed it is waited for, for nobody else is left.
    Returns what was made: nothing if all failed, and perhaps more than one; and copies whose thread was left behind.
    """
    made: list[Taken] = []
    trying: set[Copy] = set()

    async def one(copy: Copy, place: Place, chain: Chain, next_one: trio.Event) -> None:
        def stalled() -> None:
            calls.silent.add(copy.place)
            next_one.set()

        trying.add(copy)
        try:
            taken = await calls.long(copy.place, partial(_take_over, place, chain), stalled=stalled)
        except (StratumError, OSError) as error:
            failed(copy, error)
        else:
            made.append((copy, *taken))
            nursery.cancel_scope.cancel()
        trying.remove(copy)
        next_one.set()

    async with trio.open_nursery() as nursery:
        for each in copies:
            next_one = trio.Event()
            nursery.start_soon(one, *each, next_one)
            await next_one.wait()
    calls.silent.difference_update(copy.place for copy, _, _ in copies)
    return made, trying


def _take_over(place: Place, chain: Chain, step: Step) -> tuple[Chain, Database]:
    """Make a database of the copy at *place*, beside it, and open it. If that cannot be, nothing is left. Blocks."""
    manifest = Manifest(_NOBODY, chain.folder, chain.form, chain.salt)
    folder = chains.new_chain(place.folder)
    try:
        salt = chains.build_database(place.folder, manifest, folder, step)
        step()  # nobody would close it
        return Chain(folder.name, Form.DATABASE, salt), open_database(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


_NOBODY = Epoch(0, "", frozenset(), frozenset(), ("",))

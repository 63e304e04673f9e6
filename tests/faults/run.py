"""Runs a write path on a real store, as its owner opens one, and tells a watch of each step."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from unittest.mock import patch

from stratumfs import config
from stratumfs.catalog import engine
from stratumfs.catalog.extents import voided_inodes
from stratumfs.catalog.membership import Membership
from stratumfs.owner import cold, cold_key, create, wire
from stratumfs.owner.cold import open_remote
from stratumfs.owner.create import NewTier, make_embedded, make_store
from stratumfs.owner.messages import Credentials
from stratumfs.repair.repairer import Repairer
from stratumfs.repair.scrub import Scrubber
from stratumfs.repair.usage import UsageWalk
from stratumfs.store.compact import Compactor
from stratumfs.store.imager import Imager
from stratumfs.store.maintenance import Maintenance
from stratumfs.store.pack import Packer
from stratumfs.store.remote_tier import RemoteTier
from stratumfs.store.store import Store
from tests.faults.calls import Watch, watched
from tests.faults.disk import Image, image_below, write_image
from tests.faults.inline import on_the_loop
from tests.faults.service import folder_remote
from tests.faults.story import Story
from tests.faults.tree import Tree

SHARD_STEP = 32 * 1024
"""Bytes by which shards are preallocated here: images stay small, and growing is met too."""

SPARE = "d10"
"""The folder of a device that a path brings: no store here has so many of its own."""

KEYS = Credentials("an-access-key", "a-secret-key-of-some-length")

WritePath = Callable[["Run"], Awaitable[None]]
AtEnd = Callable[[Store, Exception | None], Awaitable[None]]
"""Shown the store at the end of a path while it is still open, and the error that ended it."""


class StepWatch(Watch, Protocol):
    """Hears of every step of a run; only those between `begin` and `end` count."""

    def begin(self, root: Path, stories: Sequence[Story]) -> None: ...

    def end(self) -> None: ...


def make_here(root: Path, k: int = 4, m: int = 2) -> None:
    """mkfs below *root*: over the folders ``d0``, ``d1`` ... if they are there, else with folders of its own.

    ``w0`` to ``w2``, if they are there, are a second tier. Ids count up, so that it is the same places in each run that
    hold the catalog: the store folder and the first devices.
    """
    devices = sorted(root.glob("d[0-9]*"))
    numbers = count(1)
    with patch.object(create, "random_id", lambda: next(numbers).to_bytes(16, "big")):
        if devices:
            warm = sorted(root.glob("w[0-9]*"))
            make_store(root / "store", devices, k, m, KEYS, NewTier(warm, 2, 1) if warm else None)
        else:
            make_embedded(root / "store", KEYS)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Store]:
    """The store below *root* as its owner opens it, but that the clock begins nothing: tidying and repairs are left to
    the caller, ``store.maintenance.round()``, ``store.repairer.round()``, ``store.compactor.round()``,
    ``store.packer.round()``."""
    async with running(root) as found:
        yield found.store


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[wire.Running]:
    """The same, with what the owner knows besides."""
    with (
        patch.object(Maintenance, "serve", _learn_only),
        patch.object(Repairer, "serve", Repairer.recall),
        patch.object(Membership, "serve", _members_stay),
        patch.object(Packer, "serve", _never),
        patch.object(RemoteTier, "serve", _never),
        patch.object(Compactor, "serve", _never),
        patch.object(Scrubber, "serve", _never),
        patch.object(UsageWalk, "serve", _never),
        patch.object(Imager, "serve", _never),
        patch.object(engine, "ROUND_INTERVAL_S", float("inf")),
        patch.object(cold, "open_remote", lambda settings: folder_remote(root) or open_remote(settings)),
        patch.object(cold_key, "_SCRYPT_N", 2),
    ):
        folder = store_folder(root)
        async with wire.locked(folder) as locked:
            settings = config.load(folder / config.SETTINGS_FILE)
            async with wire.opened(locked, settings) as found:
                for writer in found.store.writers.values():
                    vars(writer.volumes)["_step"] = SHARD_STEP
                yield found


def store_folder(root: Path) -> Path:
    """The store folder below *root*: ``store``, unless a path has moved it."""
    return next((path.parent for path in root.glob("*/identity.json")), root / "store")


async def _members_stay(members: Membership, exclusive: object, synced: object) -> None:
    """What is told to identity files once a minute would come between the steps of a path."""


async def _never(_: Packer | Compactor | Scrubber | Imager | UsageWalk | RemoteTier) -> None: ...


async def _learn_only(maintenance: Maintenance) -> None:
    """What ``serve`` begins with; its rounds are run by the paths themselves, so that their steps come in one order."""
    attributes = vars(maintenance)
    attributes["_voided"].update(await attributes["_catalog"].read(voided_inodes))


@contextmanager
def smaller(module: ModuleType | type, **bounds: Any) -> Iterator[None]:
    """The module's bounds while the block runs, so that what takes thousands of rows takes a few."""
    with ExitStack() as stack:
        for name, value in bounds.items():
            stack.enter_context(patch.object(module, name, value))
        yield


class Run:
    """What a write path is given: a place, the tree that the store there shows, and when its steps begin to count."""

    def __init__(self, root: Path, tree: Tree, watch: StepWatch, seed: int, at_end: AtEnd | None = None) -> None:
        self.root = root
        self.story = Story(tree)
        self.stories: Sequence[Story] = ()
        self._random = random.Random(seed)
        self._watch = watch
        self._recording = False
        self._at_end = at_end

    @property
    def tree(self) -> Tree:
        """What the store shows now."""
        return self.story.tree

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Steps count while the block runs. All that was done before counts as promised, and as synced."""
        self.story = Story(self.tree)
        with self.recording_all([self.story]):
            yield

    @contextmanager
    def recording_all(self, stories: Sequence[Story]) -> Iterator[None]:
        """The same for a run that tells several stories at once."""
        self.stories = stories
        self._recording = True
        self._watch.begin(self.root, stories)
        yield
        self._watch.end()

    def data(self, size: int) -> bytes:
        """The same in each run."""
        return self._random.randbytes(size)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """The store, open. At the end of the block, and of an error in it, who wants to see the store as it is then."""
        async with self.running() as found:
            yield found.store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[wire.Running]:
        """The same, with what the owner knows besides."""
        async with AsyncExitStack() as stack:
            with nullcontext() if self._recording else on_the_loop(self.root):  # nobody wants to see how it was opened
                found = await stack.enter_async_context(running(self.root))
            try:
                yield found
            except Exception as error:
                if self._at_end is None:
                    raise
                await self._at_end(found.store, error)
            else:
                if self._at_end is not None:
                    await self._at_end(found.store, None)

    @asynccontextmanager
    async def crashed(self) -> AsyncIterator[Store]:
        """An open store that the end of the block does not close: what follows finds it as a kill would leave it."""
        async with opened(self.root) as store:
            yield store
            image = image_below(self.root)
        write_image(image, self.root)


async def play(
    path: WritePath,
    root: Path,
    image: Image,
    tree: Tree,
    watch: StepWatch,
    seed: int = 0,
    at_end: AtEnd | None = None,
) -> Sequence[Story]:
    """Run *path* from its beginning on a store below *root* that is *image* and shows *tree*; what it told."""
    write_image(image, root)
    run = Run(root, tree, watch, seed, at_end)
    with watched(root, watch):
        await path(run)
    return run.stories

"""A small store that this process owns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.owner import wire
from stratumfs.owner.credentials import Credentials
from tests.stratumfs.store.helpers import put

KEYS = Credentials("root", "correct-horse")
DATA = bytes(range(256)) * 4000


def devices(folder: Path, count: int = 6) -> list[Path]:
    found = [folder / f"d{slot}" for slot in range(count)]
    for path in found:
        path.mkdir(parents=True)
    return found


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[wire.Running]:
    async with wire.locked(folder) as found, wire.opened(found, load(folder / SETTINGS_FILE)) as running:
        yield running


async def filled(running: wire.Running) -> None:
    """One sealed volume with one object."""
    await running.store.objects.create_bucket("bucket", 1)
    await put(running.store, b"key", DATA)
    await running.store.writer.volumes.seal_idle(0)

"""What the catalog can be made again of, for who asks the owner."""

from pathlib import Path
from typing import Any

from stratumfs.catalog.epochs import NamedImage
from stratumfs.owner.backup import Backup
from stratumfs.owner.dump import dump
from stratumfs.owner.messages import BackUpCatalog
from stratumfs.owner.wire import Running
from stratumfs.store.imager import Imager


async def write_image(imager: Imager) -> dict[str, Any]:
    """Write one now. Raises: as `Imager.write`."""
    return about(await imager.write(paced=False))


async def dump_catalog(running: Running, file: str) -> dict[str, Any]:
    """Raises: as `dump`."""
    return await dump(running.store.id, running.store.catalog, running.folder, Path(file))


async def back_up(backup: Backup, request: BackUpCatalog) -> dict[str, Any]:
    """Raises: as `Backup.run`."""
    if request.to is None:
        return await backup.run()
    return await backup.once(request.to, request.endpoint, request.credentials)


def about(image: NamedImage) -> dict[str, Any]:
    return {"volume": image.volume.hex(), "sequence": image.sequence, "created": image.created_ns / 1e9}

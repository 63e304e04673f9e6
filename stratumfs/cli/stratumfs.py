"""stratumfs(1): ask a store how it fares, replace its devices, unmount it, end its owner."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stratumfs.cli import command, device
from stratumfs.cli.exit import Exit
from stratumfs.cli.status_text import render_status
from stratumfs.errors import ConfigError, NotFound
from stratumfs.owner import client, locate
from stratumfs.owner.messages import CloseDoor, Shutdown, Status
from stratumfs.owner.mounts import mount_at

NAME = "stratumfs"

app = command.make_app(
    NAME,
    None,
    "Ask a store how it fares, replace its devices, unmount it, end its owner.",
    """
    stratumfs status
    stratumfs status --json /srv/store
    stratumfs device list /srv/store
    stratumfs device replace /srv/store hot:3 /mnt/disk7
    stratumfs umount /mnt/stratum
    stratumfs stop /srv/store
""",
)

app.command(device.app)

Store = Annotated[
    Path | None, Parameter(name="STORE", help="The store's folder, or any device; default: the default store.")
]


@app.command
def status(
    store: Store = None,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")] = False,
) -> Exit:
    """Show devices, volumes, space, open doors, and how many losses all data survives now."""
    folder = _folder(store)
    found = client.ask_or_open(folder, Status())
    if as_json:
        command.print_json(found)
    else:
        render_status(found)
    return Exit.OK


@app.command
def umount(
    mountpoint: Annotated[Path, Parameter(name="MOUNTPOINT", help="Where the store is mounted.")],
    /,
) -> Exit:
    """Unmount a store and wait until all that was written is safe; say meanwhile what is pending."""
    point = Path(os.path.realpath(mountpoint))
    there = mount_at(point)
    if there is None or not there.ours:
        raise ConfigError(f"{point} is no mount point of stratumfs")
    try:
        owner = client.connect(there.store)
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(f"{there.store} is lost ({error.strerror}): `umount {point}` is safe too") from None
    if owner is None:
        raise ConfigError(f"the owner of {there.store} is gone: `umount -l {point}` takes away what it left")
    with owner:
        try:
            result = owner.ask(CloseDoor(str(point)), lambda text: command.complain(NAME, text))
        except NotFound:
            raise NotFound(
                f"{point} is no door of the owner of {there.store}, but a bind mount or what a killed owner left: "
                f"`umount -l {point}` takes it away"
            ) from None
        if result["last"]:
            owner.wait_gone()
    if result["failure"]:
        command.complain(NAME, result["failure"])
        return Exit.SYSTEM
    return Exit.OK


@app.command
def stop(store: Store = None, /) -> Exit:
    """Close all doors of a store, wait until all is safe, and end its owner; no owner is no error."""
    owner = client.connect_to_holder(lambda: _folder(store))
    if owner is None:
        print(f"{NAME}: {_folder(store)} has no open doors")
        return Exit.OK
    with owner:
        result = owner.ask(Shutdown(), lambda text: command.complain(NAME, text))
        owner.wait_gone()
    for door in result["doors"]:
        print(f"{NAME}: closed {door['kind']} {', '.join(door['where'])}")
    return Exit.OK


def _folder(store: Path | None) -> Path:
    return locate.store_folder(store if store is not None else locate.default_folder())


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

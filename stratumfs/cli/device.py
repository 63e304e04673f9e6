"""``stratumfs device``: list the devices of a store, add, drain, remove and replace them."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from stratumfs.cli import command
from stratumfs.cli.device_text import (
    added_text,
    drained_text,
    outcome_text,
    removed_text,
    render_devices,
)
from stratumfs.cli.exit import Exit
from stratumfs.cli.parameters import Json, Store
from stratumfs.cli.progress import BytesProgress
from stratumfs.config import HOT
from stratumfs.owner import client, locate
from stratumfs.owner.messages import AddDevice, DrainDevice, RemoveDevice, ReplaceDevice, Status

app = App(name="device", help="List the devices of a store; add, drain, remove or replace one.")

Device = Annotated[str, Parameter(name="DEVICE", help="The device: its path, its id, or TIER:SLOT.")]


@app.command(name="list")
def list_(store: Store, /, *, as_json: Json = False) -> Exit:
    """Show each device: where it is, its state, since when and why, what it holds and lacks, its space."""
    found = client.ask_or_open(locate.store_folder(store), Status())
    if as_json:
        command.print_json({"devices": found["devices"]})
    else:
        render_devices(found["devices"])
    return Exit.OK


@app.command
def add(
    store: Store,
    new: Annotated[Path, Parameter(name="NEW", help="An empty folder.")],
    /,
    *,
    tier: Annotated[str, Parameter(name="--tier", help="The tier that it comes to.")] = HOT,
    as_json: Json = False,
) -> Exit:
    """Make an empty folder one more device of a tier: new volumes are placed on it too."""
    folder = locate.store_folder(store)
    found = client.ask_or_open(folder, AddDevice(tier, str(Path(new).absolute())))
    _say(found, added_text(found), as_json)
    return Exit.OK


@app.command
def drain(
    store: Store,
    device: Device,
    /,
    *,
    stop: Annotated[
        bool, Parameter(name="--stop", negative="", help="Not any more: it is a device as before.")
    ] = False,
    as_json: Json = False,
) -> Exit:
    """Make what a device holds on others, so that it can be removed; asked again, it goes on."""
    folder = locate.store_folder(store)
    with BytesProgress("looks what there is to move") as progress:
        found = client.ask_or_open(folder, DrainDevice(_absolute(device), stop), progress.show)
    _say(found, drained_text(found, stop), as_json)
    return Exit.DATA if found["shards_left"] and not stop else Exit.OK


@app.command
def remove(
    store: Store,
    device: Device,
    /,
    *,
    force: Annotated[
        bool, Parameter(name="--force", negative="", help="Even if what a lost one held is not made elsewhere yet.")
    ] = False,
    as_json: Json = False,
) -> Exit:
    """Take a device out of the store that was drained, or is lost and made up for; asked again, it goes on."""
    found = client.ask_or_open(locate.store_folder(store), RemoveDevice(_absolute(device), force))
    _say(found, removed_text(found), as_json)
    return Exit.OK


@app.command
def replace(
    store: Store,
    old: Annotated[str, Parameter(name="OLD", help="The device: its path, its id, or TIER:SLOT.")],
    new: Annotated[Path, Parameter(name="NEW", help="An empty folder; may be the old one, emptied.")],
    /,
    *,
    plain_folder: Annotated[
        bool, Parameter(name="--plain-folder", negative="", help="Even if OLD was a mount point and NEW is none.")
    ] = False,
    as_json: Json = False,
) -> Exit:
    """Put an empty folder in a device's place and rebuild there what it held; asked again, it goes on."""
    folder = locate.store_folder(store)
    request = ReplaceDevice(_absolute(old), str(Path(new).absolute()), plain_folder)
    with BytesProgress("looks what there is to rebuild") as progress:
        found = client.ask_or_open(folder, request, progress.show)
    _say(found, outcome_text(found), as_json)
    return Exit.DATA if found["bytes_left"] else Exit.OK


def _absolute(device: str) -> str:
    """What is spelled as a path is one from here on, of whatever folder the owner is in; nothing is asked of it, for it
    may hang."""
    return device if re.fullmatch("[0-9a-f]{32}|[a-z]+:[0-9]+", device) else os.path.abspath(device)


def _say(found: dict[str, Any], text: str, as_json: bool) -> None:
    if found.get("warning"):
        command.complain("stratumfs", found["warning"])
    if as_json:
        command.print_json(found)
    else:
        print(text)

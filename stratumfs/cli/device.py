"""``stratumfs device``: list the devices of a store, replace one."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stratumfs.cli import command
from stratumfs.cli.device_text import outcome_text, render_devices
from stratumfs.cli.exit import Exit
from stratumfs.cli.progress import BytesProgress
from stratumfs.owner import client, locate
from stratumfs.owner.messages import ReplaceDevice, Status

app = App(name="device", help="List the devices of a store, or replace one.")

Store = Annotated[Path, Parameter(name="STORE", help="The store's folder, or any device.")]


@app.command(name="list")
def list_(
    store: Store,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")] = False,
) -> Exit:
    """Show each device: where it is, its state, since when and why, what it holds and lacks, its space."""
    found = client.ask_or_open(locate.store_folder(store), Status())
    if as_json:
        command.print_json({"devices": found["devices"]})
    else:
        render_devices(found["devices"])
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
) -> Exit:
    """Put an empty folder in a device's place and rebuild there what it held; asked again, it goes on."""
    folder = locate.store_folder(store)
    request = ReplaceDevice(old, str(Path(new).absolute()), plain_folder)
    with BytesProgress("looks what there is to rebuild") as progress:
        found = client.ask_or_open(folder, request, progress.show)
    if found["warning"]:
        command.complain("stratumfs", found["warning"])
    print(outcome_text(found))
    return Exit.DATA if found["bytes_left"] else Exit.OK

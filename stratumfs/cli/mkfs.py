"""mkfs.stratumfs(8): make a store."""

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.status_text import survives_text
from stratumfs.errors import ConfigError
from stratumfs.owner import create, credentials

NAME = "mkfs.stratumfs"

app = command.make_app(
    NAME,
    f"Usage: {NAME} --hot DIR... [-k K] [-m M] [--json] STORE",
    "Make a store in the folder STORE, over devices: one folder each, best the mount points of as many disks.",
    """
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 /mnt/disk4 /mnt/disk5 /mnt/disk6 /srv/store
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 -k 2 -m 1 /srv/store
""",
)


@app.default
def mkfs(
    store: Annotated[
        Path | None, Parameter(name="STORE", help="The folder for the catalog, settings and keys; empty, or made.")
    ] = None,
    /,
    *,
    hot: Annotated[
        list[Path],
        Parameter(
            name="--hot",
            negative="",
            consume_multiple=True,
            help="Devices of the hot tier, empty folders; may be given again. STORE may be the last word.",
        ),
    ],
    k: Annotated[int, Parameter(name="-k", help="Data shards of each volume.")] = create.EMBEDDED_K,
    m: Annotated[int, Parameter(name="-m", help="Parity shards: so many devices may be lost.")] = create.EMBEDDED_M,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Say the outcome as one JSON object.")] = False,
) -> Exit:
    """Called by cyclopts with what was typed."""
    devices = list(hot)
    if store is None:
        if not devices:
            raise ConfigError("no store is named: mkfs.stratumfs --hot DIR... STORE")
        # `--hot DIR... STORE`: the list of devices took the last word too.
        store = devices.pop()
    keys = credentials.from_environment(os.environ) or credentials.make()
    folder = Path(os.path.realpath(store))
    made = create.make_store(folder, [Path(os.path.realpath(path)) for path in devices], k, m, keys)
    if as_json:
        command.print_json(_facts(folder, made))
    else:
        _tell(folder, made)
    return Exit.OK


def _facts(folder: Path, made: create.Made) -> dict[str, Any]:
    return {
        "store": str(folder),
        "id": made.identity.store.hex(),
        "k": made.k,
        "m": made.m,
        "devices": [
            {"tier": each.tier, "slot": each.slot, "path": str(each.path), "mount_point": each.mount_point}
            for each in made.identity.devices
        ],
        "disks": len({each.st_dev for each in made.identity.devices}),
        "devices_survived": made.survival.devices,
        "disks_survived": made.survival.disks,
        "credentials": str(folder / credentials.CREDENTIALS_FILE),
    }


def _tell(folder: Path, made: create.Made) -> None:
    facts = _facts(folder, made)
    print(f"{NAME}: made a store in {folder}, {made.k}+{made.m} over {len(facts['devices'])} devices")
    for each in facts["devices"]:
        kind = "mount point" if each["mount_point"] else "folder"
        print(f"  {each['tier']} {each['slot']}: {each['path']} ({kind})")
    print(f"  keys: {facts['credentials']}")
    print(f"  {survives_text(made.survival.devices, made.survival.disks)}")
    if facts["disks"] < len(facts["devices"]):
        command.complain(
            NAME,
            f"warning: {len(facts['devices'])} devices share {_count(facts['disks'], 'disk')}, and folders on one disk "
            f"are lost together",
        )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

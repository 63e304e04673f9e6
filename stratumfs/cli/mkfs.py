"""mkfs.stratumfs(8): make a store."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.status_text import survives_text
from stratumfs.config import HOT
from stratumfs.errors import ConfigError
from stratumfs.owner import create, credentials

NAME = "mkfs.stratumfs"
_LISTS = ("--hot", "--warm")

app = command.make_app(
    NAME,
    f"Usage: {NAME} --hot DIR... [-k K] [-m M] [--warm DIR... [--warm-k K] [--warm-m M]] [--json] STORE",
    "Make a store in the folder STORE, over devices: one folder each, best the mount points of as many disks.",
    """
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 /mnt/disk4 /mnt/disk5 /mnt/disk6 /srv/store
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 -k 2 -m 1 /srv/store
    mkfs.stratumfs --hot /mnt/ssd? -k 2 -m 1 --warm /mnt/hdd? --warm-k 4 --warm-m 2 /srv/store
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
    warm: Annotated[
        list[Path] | None,
        Parameter(
            name="--warm",
            negative="",
            consume_multiple=True,
            help="Devices of a second, slower tier, which takes what is moved to it; may be given again.",
        ),
    ] = None,
    warm_k: Annotated[
        int, Parameter(name="--warm-k", help="Data shards of each volume of the warm tier.")
    ] = create.EMBEDDED_K,
    warm_m: Annotated[int, Parameter(name="--warm-m", help="Parity shards of the warm tier.")] = create.EMBEDDED_M,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Say the outcome as one JSON object.")] = False,
) -> Exit:
    """Called by cyclopts with what was typed."""
    devices = list(hot)
    if store is None:
        if not devices or warm:
            raise ConfigError("no store is named: mkfs.stratumfs --hot DIR... STORE, as the first or the last word")
        # `--hot DIR... STORE -k 2`: the list of devices took the word behind it too.
        store = devices.pop()
    keys = credentials.from_environment(os.environ) or credentials.make()
    folder = Path(os.path.realpath(store))
    second = create.NewTier(_real(warm), warm_k, warm_m) if warm is not None else None
    made = create.make_store(folder, _real(devices), k, m, keys, second)
    if as_json:
        command.print_json(_facts(folder, made))
    else:
        _tell(folder, made)
    return Exit.OK


def _store_apart(words: list[str]) -> list[str]:
    """`--` before the last word, where a list of devices would take the store for one of its own."""
    flags = [at for at, word in enumerate(words) if word.startswith("-")]
    if not flags or flags[0] or words[flags[-1]] not in _LISTS or flags[-1] + 2 >= len(words):
        return words
    return [*words[:-1], "--", words[-1]]


def _real(paths: Sequence[Path]) -> list[Path]:
    return [Path(os.path.realpath(path)) for path in paths]


def _facts(folder: Path, made: create.Made) -> dict[str, Any]:
    return {
        "store": str(folder),
        "id": made.identity.store.hex(),
        "k": made.tiers[HOT].k,
        "m": made.tiers[HOT].m,
        "tiers": {name: {"k": tier.k, "m": tier.m} for name, tier in made.tiers.items()},
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
    codes = ", ".join(f"{name} {tier.k}+{tier.m}" for name, tier in made.tiers.items())
    print(f"{NAME}: made a store in {folder}, {codes} over {len(facts['devices'])} devices")
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
    command.run(app, _store_apart(sys.argv[1:] if arguments is None else arguments))

"""mkfs.stratumfs(8): make a store."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from stratumfs import config
from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.parameters import Cold, ColdCredentials, ColdEndpoint, ColdKeyFile, Json, Warm, WarmK, WarmM
from stratumfs.cli.status_text import survives_text
from stratumfs.config import HOT, check_cold
from stratumfs.errors import ConfigError
from stratumfs.owner import create, credentials
from stratumfs.owner.places import PASSPHRASE_VARIABLE, SECRET_FILE

NAME = "mkfs.stratumfs"
_LISTS = ("--hot", "--warm")

app = command.make_app(
    NAME,
    f"Usage: {NAME} --hot DIR... [-k K] [-m M] [--warm DIR... [--warm-k K] [--warm-m M]] "
    "[--cold s3://BUCKET/PREFIX [--cold-endpoint URL] [--cold-credentials FILE] [--cold-key-file FILE]] "
    "[--json] STORE",
    "Make a store in the folder STORE, over devices: one folder each, best the mount points of as many disks.",
    """
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 /mnt/disk4 /mnt/disk5 /mnt/disk6 /srv/store
    mkfs.stratumfs --hot /mnt/disk1 /mnt/disk2 /mnt/disk3 -k 2 -m 1 /srv/store
    mkfs.stratumfs --hot /mnt/ssd? -k 2 -m 1 --warm /mnt/hdd? --warm-k 4 --warm-m 2 /srv/store
    mkfs.stratumfs --cold s3://bucket/stratum --cold-endpoint https://s3.example.org --hot /mnt/ssd? /srv/store
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
    warm: Warm = None,
    warm_k: WarmK = create.EMBEDDED_K,
    warm_m: WarmM = create.EMBEDDED_M,
    cold: Cold = None,
    cold_endpoint: ColdEndpoint = None,
    cold_credentials: ColdCredentials = None,
    cold_key_file: ColdKeyFile = None,
    as_json: Json = False,
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
    elsewhere = None
    if cold is not None:
        elsewhere = _cold(folder, cold, cold_endpoint, cold_credentials, cold_key_file)
    elif cold_endpoint or cold_credentials or cold_key_file:
        raise ConfigError("--cold-endpoint, --cold-credentials and --cold-key-file are of a tier that --cold names")
    made = create.make_store(folder, _real(devices), k, m, keys, second, elsewhere)
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


def _cold(folder: Path, to: str, endpoint: str | None, keys: Path | None, key_file: Path | None) -> config.Cold:
    """Where a passphrase is in the environment, no key file is wanted. Raises: ConfigError."""
    if key_file is None and not os.environ.get(PASSPHRASE_VARIABLE):
        key_file = folder / SECRET_FILE
    keys_path, key_path = (None if path is None else os.path.realpath(path) for path in (keys, key_file))
    found = config.Cold(to, endpoint, keys_path, key_path)
    check_cold(found)
    return found


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
        "cold": msgspec.structs.asdict(made.cold) if made.cold is not None else None,
    }


def _tell(folder: Path, made: create.Made) -> None:
    facts = _facts(folder, made)
    codes = ", ".join(f"{name} {tier.k}+{tier.m}" for name, tier in made.tiers.items())
    print(f"{NAME}: made a store in {folder}, {codes} over {len(facts['devices'])} devices")
    for each in facts["devices"]:
        kind = "mount point" if each["mount_point"] else "folder"
        print(f"  {each['tier']} {each['slot']}: {each['path']} ({kind})")
    print(f"  keys: {facts['credentials']}")
    if made.cold is not None:
        secret = made.cold.key_file or f"the passphrase in {PASSPHRASE_VARIABLE}"
        print(f"  cold: {made.cold.to}; its secret: {secret}")
        if made.cold.key_file == str(folder / SECRET_FILE):  # the disk of the store folder has it, and no other
            print(f"        {(folder / SECRET_FILE).read_text('ascii').strip()}")
        print("        Keep a copy of the secret elsewhere: without it nobody can read what is in the cold tier.")
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

"""``stratumfs tier``: give a store that lives a warm or a cold tier; say whose the cold one is."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.config import EMBEDDED_K, EMBEDDED_M
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import AddCold, AddWarm, ClaimCold
from stratumfs.owner.places import PASSPHRASE_VARIABLE, SECRET_FILE

app = App(name="tier", help="Add a warm or a cold tier to a store; say whose the cold one is.")

Store = Annotated[Path, Parameter(name="STORE", help="The store's folder, or any device.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")]


@app.command
def add(
    store: Store,
    /,
    *,
    warm: Annotated[
        list[Path] | None,
        Parameter(
            name="--warm",
            negative="",
            consume_multiple=True,
            help="Devices of a second, slower tier, empty folders; may be given again.",
        ),
    ] = None,
    warm_k: Annotated[
        int, Parameter(name="--warm-k", help="Data shards of each volume of the warm tier.")
    ] = EMBEDDED_K,
    warm_m: Annotated[int, Parameter(name="--warm-m", help="Parity shards of the warm tier.")] = EMBEDDED_M,
    cold: Annotated[str | None, Parameter(name="--cold", help="s3://BUCKET/PREFIX of a bucket that is there.")] = None,
    endpoint: Annotated[
        str | None, Parameter(name="--cold-endpoint", help="URL of that S3 service; default: AWS.")
    ] = None,
    credentials: Annotated[
        Path | None, Parameter(name="--cold-credentials", help="A file with keys for it, in AWS's form.")
    ] = None,
    key_file: Annotated[
        Path | None,
        Parameter(
            name="--cold-key-file", help="The secret of the cold tier; made if not there. Default: STORE/cold.key."
        ),
    ] = None,
    as_json: Json = False,
) -> Exit:
    """Give a store a warm tier on devices, or a cold one in somebody's S3, as mkfs.stratumfs would have."""
    folder = locate.store_folder(store)
    if (warm is None) == (cold is None):
        raise ConfigError("which tier? --warm DIR... or --cold s3://BUCKET/PREFIX, one after the other")
    if warm is not None:
        return _add_warm(folder, AddWarm(tuple(str(each.absolute()) for each in warm), warm_k, warm_m), as_json)
    assert cold is not None
    own = os.path.realpath(folder / SECRET_FILE)
    if key_file is None and not os.environ.get(PASSPHRASE_VARIABLE):
        key_file = Path(own)
    keys, secret = (None if path is None else os.path.realpath(path) for path in (credentials, key_file))
    found = client.ask_or_open(folder, AddCold(cold, endpoint, keys, secret))
    if as_json:
        command.print_json(found)
    else:
        where = f"in {found['key_file']}" if found["key_file"] else f"the passphrase in {PASSPHRASE_VARIABLE}"
        print(f"The cold tier is at {found['at']}. Its secret is {where}: keep a copy of it elsewhere.")
        if found["key_file"] == own:  # the disk of the store folder has it, and no other
            print(Path(own).read_text("ascii").strip())
    return Exit.OK


def _add_warm(folder: Path, request: AddWarm, as_json: bool) -> Exit:
    found = client.ask_or_open(folder, request)
    if as_json:
        command.print_json(found)
        return Exit.OK
    print(f"The warm tier has {len(found['devices'])} devices, coded {found['k']} + {found['m']}.")
    for each in found["warnings"]:
        print(f"warning: {each}", file=sys.stderr)
    return Exit.OK


@app.command
def claim(store: Store, /, *, as_json: Json = False) -> Exit:
    """Say that what lies in the cold tier is this store's, and no copy's of it that has written there."""
    found = client.ask_or_open(locate.store_folder(store), ClaimCold())
    if as_json:
        command.print_json(found)
    else:
        print(f"What lies at {found['at']} is this store's from now on.")
    return Exit.OK

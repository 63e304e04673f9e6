"""``stratumfs tier``: give a store that lives a cold tier; say whose it is."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.owner import client, locate
from stratumfs.owner.messages import AddCold, ClaimCold
from stratumfs.owner.places import PASSPHRASE_VARIABLE, SECRET_FILE

app = App(name="tier", help="Add a cold tier to a store; say that what lies there is this store's.")

Store = Annotated[Path, Parameter(name="STORE", help="The store's folder, or any device.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")]


@app.command
def add(
    store: Store,
    /,
    *,
    cold: Annotated[str, Parameter(name="--cold", help="s3://BUCKET/PREFIX of a bucket that is there.")],
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
    """Give a store a cold tier in somebody's S3, as `mkfs.stratumfs --cold` would have."""
    folder = locate.store_folder(store)
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


@app.command
def claim(store: Store, /, *, as_json: Json = False) -> Exit:
    """Say that what lies in the cold tier is this store's, and no copy's of it that has written there."""
    found = client.ask_or_open(locate.store_folder(store), ClaimCold())
    if as_json:
        command.print_json(found)
    else:
        print(f"What lies at {found['at']} is this store's from now on.")
    return Exit.OK

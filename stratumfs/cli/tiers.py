"""``stratumfs tier``: give a store that lives a warm or a cold tier; whose the cold one is, and under which secret."""

import os
import sys
from pathlib import Path

from cyclopts import App

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.parameters import Cold, ColdCredentials, ColdEndpoint, ColdKeyFile, Json, Store, Warm, WarmK, WarmM
from stratumfs.config import EMBEDDED_K, EMBEDDED_M
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import AddCold, AddWarm, ClaimCold, RotateCold
from stratumfs.owner.places import NEW_PASSPHRASE_VARIABLE, PASSPHRASE_VARIABLE, SECRET_FILE

app = App(name="tier", help="Add a warm or a cold tier to a store; say whose the cold one is; change its secret.")


@app.command
def add(
    store: Store,
    /,
    *,
    warm: Warm = None,
    warm_k: WarmK = EMBEDDED_K,
    warm_m: WarmM = EMBEDDED_M,
    cold: Cold = None,
    endpoint: ColdEndpoint = None,
    credentials: ColdCredentials = None,
    key_file: ColdKeyFile = None,
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
        _show_secret(folder, found["key_file"])
    return Exit.OK


def _show_secret(folder: Path, key_file: str | None) -> None:
    """Where the disk of the store folder has it, and no other."""
    if key_file is not None and Path(key_file).parent == Path(os.path.realpath(folder)):
        print(Path(key_file).read_text("ascii").strip())


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


@app.command
def rotate(store: Store, /, *, as_json: Json = False) -> Exit:
    """Wrap the key of the cold tier by a new secret on every device; asked again, it goes on.

    The key itself stays: who has the old secret and an old copy of a device reads what lies there, now and later.
    """
    folder = locate.store_folder(store)
    passphrase = os.environ.get(NEW_PASSPHRASE_VARIABLE) or None
    found = client.ask_or_open(folder, RotateCold(passphrase))
    done = Exit.DEVICE if found["left"] else Exit.OK
    if as_json:
        command.print_json(found)
        return done
    where = f"in {found['key_file']}" if found["key_file"] else f"the passphrase in {NEW_PASSPHRASE_VARIABLE}"
    print(f"The secret of the cold tier is a new one, {where}: keep a copy of it elsewhere.")
    _show_secret(folder, found["key_file"])
    for each in found["left"]:
        print(
            f"warning: {each} has the old one still: keep both, and ask again when it is there, or open the store then",
            file=sys.stderr,
        )
    return done

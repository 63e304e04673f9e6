"""stratum-tier(1): where the bytes of an object are, and why."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.explain_text import render_explanation
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import Explain
from stratumfs.owner.mounts import mount_of

NAME = "stratum-tier"
_SCHEME = "s3://"

app = command.make_app(
    NAME,
    None,
    "Say where the bytes of an object are, and why.",
    """
    stratum-tier explain /mnt/stratum/photos/cat.jpg
    stratum-tier explain s3://photos/cat.jpg
    stratum-tier explain --json --store /srv/store s3://photos/cat.jpg
""",
)


@app.command
def explain(
    target: Annotated[str, Parameter(name="TARGET", help="A path below a mount, or s3://BUCKET/KEY.")],
    /,
    *,
    store: Annotated[
        Path | None, Parameter(name="--store", help="Whose s3://BUCKET/KEY; default: the default store.")
    ] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")] = False,
) -> Exit:
    """Show tier, volumes and devices of an object, since when it is there, and how many losses it survives."""
    if target.startswith(_SCHEME):
        request = _object(target)
        folder = locate.store_folder(store if store is not None else locate.default_folder())
    else:
        folder, request = _path(Path(target))
    found = client.ask_or_open(folder, request)
    if as_json:
        command.print_json(found)
    else:
        render_explanation(target, found)
    return Exit.OK


def _object(target: str) -> Explain:
    bucket, slash, key = target.removeprefix(_SCHEME).partition("/")
    if not bucket or not slash or not key:
        raise ConfigError(f"{target!r} names no object: s3://BUCKET/KEY")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{target!r} names no object: keys are UTF-8") from None
    return Explain(bucket=bucket, key=key)


def _path(path: Path) -> tuple[Path, Explain]:
    """The file's own inode number is what the store calls it; the mount of its filesystem tells whose it is."""
    found = path.lstat()
    there = mount_of(found.st_dev)
    if there is None or not there.ours:
        raise ConfigError(f"{path} does not lie on a mount of stratumfs")
    return there.store, Explain(inode=found.st_ino)


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

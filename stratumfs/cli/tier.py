"""stratum-tier(1): where the bytes of an object are, and why; move them to another tier."""

from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.explain_text import render_explanation
from stratumfs.cli.move_text import outcome_text
from stratumfs.cli.progress import BytesProgress
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import Explain, Move
from stratumfs.owner.mounts import mount_of

NAME = "stratum-tier"
_SCHEME = "s3://"

app = command.make_app(
    NAME,
    None,
    "Say where the bytes of an object are, and why; move them to another tier.",
    """
    stratum-tier explain /mnt/stratum/photos/cat.jpg
    stratum-tier explain s3://photos/cat.jpg
    stratum-tier explain --json --store /srv/store s3://photos/cat.jpg
    stratum-tier move /mnt/stratum/photos/2019 --to warm
    stratum-tier move s3://photos --to hot --reason exhibition
""",
)


Store = Annotated[Path | None, Parameter(name="--store", help="Whose s3://BUCKET/KEY; default: the default store.")]


@app.command
def explain(
    target: Annotated[str, Parameter(name="TARGET", help="A path below a mount, or s3://BUCKET/KEY.")],
    /,
    *,
    store: Store = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="As one JSON object.")] = False,
) -> Exit:
    """Show tier, volumes and devices of an object, since when it is there, and how many losses it survives."""
    if target.startswith(_SCHEME) and not target.removeprefix(_SCHEME).partition("/")[2]:
        raise ConfigError(f"{target!r} names no object: s3://BUCKET/KEY")
    place = _place(target, store)
    found = client.ask_or_open(place.folder, Explain(place.inode, place.bucket, place.key))
    if as_json:
        command.print_json(found)
    else:
        render_explanation(target, found)
    return Exit.OK


@app.command
def move(
    target: Annotated[
        str, Parameter(name="TARGET", help="A file or directory below a mount, s3://BUCKET/KEY, or s3://BUCKET.")
    ],
    /,
    *,
    to: Annotated[str, Parameter(name="--to", help="The tier: hot or warm.")],
    reason: Annotated[str, Parameter(name="--reason", help="Why, for `explain`.")] = "asked for by hand",
    store: Store = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="The outcome as one JSON object.")] = False,
) -> Exit:
    """Move the bytes of a file or object, of all below a directory or KEY/, or of a bucket to another tier."""
    place = _place(target, store)
    request = Move(to, place.inode, place.bucket, place.key, reason)
    with BytesProgress("looks what there is to move") as progress:
        found = client.ask_or_open(place.folder, request, progress.show)
    if as_json:
        command.print_json(found)
    else:
        print(f"{NAME}: {outcome_text(target, found)}")
    if found["outcome"] == "stopped":
        return Exit.INTERRUPTED
    return Exit.DATA if found["bytes_unreadable"] or found["files_damaged"] else Exit.OK


class _Place(NamedTuple):
    """A store, and what is named in it: an inode, or a bucket and a key (empty: all of it)."""

    folder: Path
    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


def _place(target: str, store: Path | None) -> _Place:
    if not target.startswith(_SCHEME):
        return _path(Path(target))
    bucket, _, key = target.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise ConfigError(f"{target!r} names no bucket: s3://BUCKET/KEY")
    try:
        target.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{target!r} names no object: keys are UTF-8") from None
    return _Place(locate.store_folder(store if store is not None else locate.default_folder()), None, bucket, key)


def _path(path: Path) -> _Place:
    """The file's own inode number is what the store calls it; the mount of its filesystem tells whose it is."""
    found = path.lstat()
    there = mount_of(found.st_dev)
    if there is None or not there.ours:
        raise ConfigError(f"{path} does not lie on a mount of stratumfs")
    return _Place(there.store, found.st_ino)


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

"""``stratumfs catalog``: images, dumps and backups of the catalog, and what makes a lost one again."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stratumfs.cli import command
from stratumfs.cli.catalog_text import render_loaded, render_rebuilt, render_restored, series_text
from stratumfs.cli.exit import Exit
from stratumfs.cli.parameters import Json, Store
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import BackUpCatalog, DumpCatalog, Progress, WriteImage

app = App(name="catalog", help="Images, dumps and backups of the catalog, and what makes a lost one again.")

File = Annotated[Path, Parameter(name="FILE", help="The text.")]
To = Annotated[str, Parameter(name="FROM", help="A folder, or s3://BUCKET/PREFIX, that has backups.")]
Endpoint = Annotated[str | None, Parameter(name="--endpoint", help="URL of the S3 service; else AWS's.")]
Keys = Annotated[
    Path | None, Parameter(name="--credentials", help="A file with keys in AWS's form; else where its tools look.")
]
Force = Annotated[bool, Parameter(name="--force", negative="", help="Even if there is a catalog; it is set aside.")]


@app.command
def image(store: Store, /) -> Exit:
    """Write a namespace image now; it is done by itself every hour."""
    found = client.ask_or_open(locate.store_folder(store), WriteImage(), _nothing)
    when = time.strftime("%F %T", time.localtime(found["created"]))
    print(f"{found['volume']}: the catalog up to transaction {found['sequence']}, {when}")
    return Exit.OK


@app.command
def dump(store: Store, file: File, /) -> Exit:
    """Write the catalog as text to a new file: names, attributes, short content, and where all other bytes lie."""
    found = client.ask_or_open(locate.store_folder(store), DumpCatalog(str(Path(file).absolute())), _nothing)
    print(f"{found['file']}: {found['bytes']} bytes, the catalog up to transaction {found['sequence']}")
    return Exit.OK


@app.command
def load(file: File, store: Store, /, *, force: Force = False, as_json: Json = False) -> Exit:
    """Make the catalog that a dump tells of that of its store, whose own is lost; say what it could not bring back."""
    from stratumfs.owner.dump import load as load_dump  # the whole store, which a command that asks does not need

    report = load_dump(file, store, force=force, told=lambda text: command.complain("stratumfs", text))
    if as_json:
        command.print_json(report.plain())
    else:
        render_loaded(report.plain())
    return Exit.DATA if report.lost.any or report.cold_not_looked else Exit.OK


@app.command
def rebuild(store: Store, /, *, force: Force = False, as_json: Json = False) -> Exit:
    """Make a lost catalog again, of the newest namespace image and what younger shards say; print what is lost."""
    from stratumfs.owner.rebuild_catalog import rebuild_catalog  # as above

    report = rebuild_catalog(store, force=force, told=lambda text: command.complain("stratumfs", text))
    if as_json:
        command.print_json(report.plain())
    else:
        render_rebuilt(report.plain())
    return Exit.OK if report.whole else Exit.DATA


@app.command
def backup(
    store: Store,
    to: Annotated[
        str | None, Parameter(name="TO", help="A folder, or s3://BUCKET/PREFIX; left out, where the settings say.")
    ] = None,
    /,
    *,
    endpoint: Endpoint = None,
    credentials: Keys = None,
) -> Exit:
    """Back the catalog up: go on with what the settings keep up to date, or once to another target."""
    request = BackUpCatalog(_target(to) if to is not None else None, endpoint, _path(credentials))
    print(series_text(client.ask_or_open(locate.store_folder(store), request, _nothing)))
    return Exit.OK


@app.command(name="list")
def list_(to: To, /, *, endpoint: Endpoint = None, credentials: Keys = None, as_json: Json = False) -> Exit:
    """Show what a backup has: of each store its series, from when until when they can bring a catalog back."""
    from stratumfs.owner.backup import about, read_series, stores_at  # as above
    from stratumfs.owner.backup_target import open_target

    target = open_target(_target(to), endpoint, _path(credentials))
    found = {store.hex(): [about(each) for each in read_series(target, store)] for store in stores_at(target)}
    if as_json:
        command.print_json({"stores": found})
        return Exit.OK
    for name, all_series in found.items():
        print(f"store {name}")
        for each in all_series:
            print(f"  {series_text(each)}")
    return Exit.OK


@app.command
def restore(
    to: To,
    store: Store,
    /,
    *,
    at: Annotated[
        str | None, Parameter(name="--at", help="As of when: 2026-03-01T12:00:00, local unless it says; else the last.")
    ] = None,
    endpoint: Endpoint = None,
    credentials: Keys = None,
    force: Force = False,
    as_json: Json = False,
) -> Exit:
    """Bring the catalog back from a backup, and say what it could not bring back."""
    from stratumfs.owner.backup_target import open_target  # as above
    from stratumfs.owner.restore import restore as restore_backup

    report = restore_backup(
        open_target(_target(to), endpoint, _path(credentials)),
        store,
        at_ns=_moment(at) if at is not None else None,
        force=force,
        told=lambda text: command.complain("stratumfs", text),
    )
    if as_json:
        command.print_json(report.plain())
    else:
        render_restored(report.plain())
    return Exit.DATA if report.lost.any or report.cold_not_looked else Exit.OK


def _target(to: str) -> str:
    return to if to.startswith("s3://") else str(Path(to).absolute())


def _path(path: Path | None) -> str | None:
    return str(path.absolute()) if path is not None else None


def _moment(text: str) -> int:
    """Raises: ConfigError."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise ConfigError(f"{text!r} is no time, as 2026-03-01T12:00:00 is") from None


def _nothing(progress: Progress) -> None:
    """It takes long, and has nothing to say meanwhile."""

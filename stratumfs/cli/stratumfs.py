"""stratumfs(1): ask a store how it fares, heal it, replace its devices, keep its catalog safe, unmount it, end it."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stratumfs.cli import catalog, command, device, tiers
from stratumfs.cli.durability_text import durability_lines
from stratumfs.cli.exit import Exit
from stratumfs.cli.gc_text import gc_code, gc_lines
from stratumfs.cli.heal_text import heal_code, heal_lines, usage_lines
from stratumfs.cli.parameters import Json, StoreOrDefault
from stratumfs.cli.progress import BytesProgress
from stratumfs.cli.scrub_text import scrub_lines
from stratumfs.cli.status_text import render_status
from stratumfs.cli.target import SCHEME, Target, find_target
from stratumfs.errors import ConfigError, NotFound
from stratumfs.owner import client, locate
from stratumfs.owner.messages import CloseDoor, CollectGarbage, Durability, Heal, Scrub, Shutdown, Status, Usage
from stratumfs.owner.mounts import mount_at

NAME = "stratumfs"

app = command.make_app(
    NAME,
    None,
    "Ask a store how it fares, replace its devices, keep its catalog safe, unmount it, end its owner.",
    """
    stratumfs status
    stratumfs status --json /srv/store
    stratumfs scrub --now /srv/store
    stratumfs durability /mnt/stratum/photos
    stratumfs verify /mnt/stratum/photos/cat.jpg
    stratumfs heal s3://photos/2026/
    stratumfs gc -n /srv/store
    stratumfs usage s3://photos
    stratumfs device list /srv/store
    stratumfs device replace /srv/store hot:3 /mnt/disk7
    stratumfs tier add /srv/store --cold s3://bucket/stratum --cold-endpoint https://s3.example.org
    stratumfs tier rotate /srv/store
    stratumfs catalog rebuild /mnt/disk3
    stratumfs catalog backup /srv/store s3://backups/stratum --endpoint https://s3.example.org
    stratumfs catalog restore s3://backups/stratum /mnt/disk3 --at 2026-03-01T12:00:00
    stratumfs umount /mnt/stratum
    stratumfs stop /srv/store
""",
)

app.command(device.app)
app.command(tiers.app)
app.command(catalog.app)


@app.command
def status(
    store: StoreOrDefault = None,
    /,
    *,
    as_json: Json = False,
) -> Exit:
    """Show devices, volumes, space, open doors, and how many losses all data survives now."""
    folder = _folder(store)
    found = client.ask_or_open(folder, Status())
    if as_json:
        command.print_json(found)
    else:
        render_status(found)
    return Exit.OK


@app.command
def scrub(
    store: StoreOrDefault = None,
    /,
    *,
    now: Annotated[
        bool, Parameter(name="--now", negative="", help="Read all of it now, and wait until it is done and mended.")
    ] = False,
    as_json: Json = False,
) -> Exit:
    """Show how far the scrubber is, which reads everything once in a while, and what it has found."""
    folder = _folder(store)
    if now:
        with BytesProgress("scrubs") as progress:
            found = client.ask_or_open(folder, Scrub(now=True), progress.show)
    else:
        found = client.ask_or_open(folder, Scrub())
    if as_json:
        command.print_json(found)
    else:
        for line in scrub_lines(found):
            print(line)
    return Exit.DATA if found.get("damaged_shards") else Exit.OK


Named = Annotated[
    str | None,
    Parameter(
        name="PATH", help="A store, a path below a mount, or s3://BUCKET/KEY, KEY/, or no key; default: the store."
    ),
]
Whose = Annotated[Path | None, Parameter(name="--store", help="Whose s3://BUCKET/KEY; default: the default store.")]


@app.command
def durability(target: Named = None, /, *, store: Whose = None, as_json: Json = False) -> Exit:
    """Say what is verified, what losses it survives now, and how likely a loss is within a year, and why."""
    found_at = _target(target, store)
    request = Durability(found_at.inode, found_at.bucket, found_at.key)
    found = client.ask_or_open(found_at.folder, request)
    _show(found, as_json, durability_lines)
    return Exit.OK if found["devices_survived"] >= 0 else Exit.DATA


@app.command
def heal(
    target: Named = None,
    /,
    *,
    dry_run: Annotated[
        bool, Parameter(name=["--dry-run", "-n"], negative="", help="Change nothing: only say what is wrong.")
    ] = False,
    store: Whose = None,
    as_json: Json = False,
) -> Exit:
    """Read all of an object, or of all below a prefix, on all its devices, and mend what is damaged."""
    return _heal(target, store, dry_run, as_json)


@app.command
def verify(target: Named = None, /, *, store: Whose = None, as_json: Json = False) -> Exit:
    """Read all of an object, or of all below a prefix, on all its devices, and say what is damaged; change nothing."""
    return _heal(target, store, dry_run=True, as_json=as_json)


@app.command
def gc(
    store: StoreOrDefault = None,
    /,
    *,
    dry_run: Annotated[
        bool, Parameter(name=["--dry-run", "-n"], negative="", help="Change nothing: only say what there is.")
    ] = False,
    as_json: Json = False,
) -> Exit:
    """Free now what nothing needs any more, as the owner does by itself in the course of time."""
    with BytesProgress("tidies") as progress:
        found = client.ask_or_open(_folder(store), CollectGarbage(dry_run), progress.show)
    _show(found, as_json, gc_lines)
    return gc_code(found)


@app.command
def usage(
    target: Named = None,
    /,
    *,
    now: Annotated[bool, Parameter(name="--now", negative="", help="Count all names first.")] = False,
    store: Whose = None,
    as_json: Json = False,
) -> Exit:
    """Show how many objects and bytes lie below each bucket or prefix, as counted in the last hours, without a walk."""
    found_at = _target(target, store)
    request = Usage(found_at.inode, found_at.bucket, found_at.key, now)
    with BytesProgress("counts") as progress:
        found = client.ask_or_open(found_at.folder, request, progress.show)
    _show(found, as_json, usage_lines)
    return Exit.OK


@app.command
def umount(
    mountpoint: Annotated[Path, Parameter(name="MOUNTPOINT", help="Where the store is mounted.")],
    /,
) -> Exit:
    """Unmount a store and wait until all that was written is safe; say meanwhile what is pending."""
    point = Path(os.path.realpath(mountpoint))
    there = mount_at(point)
    if there is None or not there.ours:
        raise ConfigError(f"{point} is no mount point of stratumfs")
    try:
        owner = client.connect(there.store)
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(f"{there.store} is lost ({error.strerror}): `umount {point}` is safe too") from None
    if owner is None:
        raise ConfigError(f"the owner of {there.store} is gone: `umount -l {point}` takes away what it left")
    with owner:
        try:
            result = owner.ask(CloseDoor(str(point)), lambda text: command.complain(NAME, text))
        except NotFound:
            raise NotFound(
                f"{point} is no door of the owner of {there.store}, but a bind mount or what a killed owner left: "
                f"`umount -l {point}` takes it away"
            ) from None
        if result["last"]:
            owner.wait_gone()
    if result["failure"]:
        command.complain(NAME, result["failure"])
        return Exit.SYSTEM
    return Exit.OK


@app.command
def stop(store: StoreOrDefault = None, /) -> Exit:
    """Close all doors of a store, wait until all is safe, and end its owner; no owner is no error."""
    owner = client.connect_to_holder(lambda: _folder(store))
    if owner is None:
        print(f"{NAME}: {_folder(store)} has no open doors")
        return Exit.OK
    with owner:
        result = owner.ask(Shutdown(), lambda text: command.complain(NAME, text))
        owner.wait_gone()
    for door in result["doors"]:
        print(f"{NAME}: closed {door['kind']} {', '.join(door['where'])}")
    return Exit.OK


def _target(target: str | None, store: Path | None) -> Target:
    """What PATH names; a store is all of it."""
    if target is None or (not target.startswith(SCHEME) and locate.is_store(Path(target))):
        return Target(_folder(Path(target) if target is not None else store))
    return find_target(target, store)


def _heal(target: str | None, store: Path | None, dry_run: bool, as_json: bool) -> Exit:
    found_at = _target(target, store)
    request = Heal(found_at.inode, found_at.bucket, found_at.key, dry_run)
    with BytesProgress("verifies" if dry_run else "heals") as progress:
        found = client.ask_or_open(found_at.folder, request, progress.show)
    _show(found, as_json, heal_lines)
    return heal_code(found)


def _show(found: Mapping[str, Any], as_json: bool, lines: Callable[[Mapping[str, Any]], Iterator[str]]) -> None:
    if as_json:
        command.print_json(found)
    else:
        for line in lines(found):
            print(line)


def _folder(store: Path | None) -> Path:
    return locate.store_folder(store if store is not None else locate.default_folder())


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

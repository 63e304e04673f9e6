"""stratum-tier(1): in which tier the bytes of objects are, and why; what moves, when, and what that saves."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.explain_text import render_explanation
from stratumfs.cli.move_text import outcome_text, price_text
from stratumfs.cli.parameters import Json
from stratumfs.cli.progress import BytesProgress
from stratumfs.cli.replay_text import render_replay
from stratumfs.cli.target import Target, find_target
from stratumfs.cli.tier_text import pin_text, render_log, render_plan, render_report, render_status, since_ns
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate
from stratumfs.owner.messages import (
    Explain,
    Move,
    TierInventory,
    TierLog,
    TierPin,
    TierPlan,
    TierPrice,
    TierReport,
    TierStatus,
)

NAME = "stratum-tier"

app = command.make_app(
    NAME,
    None,
    "Say in which tier the bytes of objects are, and why; what moves, when, and what that saves.",
    """
    stratum-tier status
    stratum-tier log --since 7d
    stratum-tier log /mnt/stratum/photos/cat.jpg
    stratum-tier plan --hours 12
    stratum-tier pin /mnt/stratum/photos/2026 --to hot
    stratum-tier unpin s3://photos/2026
    stratum-tier report --since 30d
    stratum-tier explain /mnt/stratum/photos/cat.jpg
    stratum-tier explain s3://photos/cat.jpg --at 2026-05-01T12:00
    stratum-tier explain s3://photos
    stratum-tier explain --json --store /srv/store s3://photos/cat.jpg
    stratum-tier move /mnt/stratum/photos/2019 --to warm
    stratum-tier move s3://photos --to hot --reason exhibition
    stratum-tier warm /mnt/stratum/photos/2019
    stratum-tier replay --policy cheaper.toml --since 30d
""",
)


Of = Annotated[Path | None, Parameter(name="--store", help="Its folder or a device of it; default: the default one.")]
Store = Annotated[Path | None, Parameter(name="--store", help="Whose s3://BUCKET/KEY; default: the default store.")]


@app.command
def explain(
    target: Annotated[
        str, Parameter(name="TARGET", help="A file or directory below a mount, s3://BUCKET/KEY, or s3://BUCKET.")
    ],
    /,
    *,
    at: Annotated[str, Parameter(name="--at", help="Where it was then: 36h, 7d ago, or a date and time.")] = "",
    store: Store = None,
    as_json: Json = False,
) -> Exit:
    """Show where the bytes of an object are, since when, who put them there and why, what would change that, and what
    they cost; of a directory or bucket the sums."""
    place = find_target(target, store)
    at_ns = since_ns(at) if at else None
    found = client.ask_or_open(place.folder, Explain(place.inode, place.bucket, place.key, at_ns))
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
    to: Annotated[str, Parameter(name="--to", help="The tier: hot, warm, or cold.")],
    reason: Annotated[str, Parameter(name="--reason", help="Why, for `explain`.")] = "asked for by hand",
    store: Store = None,
    as_json: Json = False,
) -> Exit:
    """Move the bytes of a file or object, of all below a directory or KEY/, or of a bucket to another tier."""
    place = find_target(target, store)
    return _move(place, target, Move(to, place.inode, place.bucket, place.key, reason), as_json)


@app.command
def status(*, store: Of = None, as_json: Json = False) -> Exit:
    """Show what lies in each tier and costs, how long the warm-up lasts, and what is being moved."""
    found = client.ask_or_open(_folder(store), TierStatus())
    if as_json:
        command.print_json(found)
    else:
        render_status(found)
    return Exit.OK


@app.command
def log(
    target: Annotated[
        str | None, Parameter(name="TARGET", help="What was moved: a path below a mount, or s3://BUCKET/KEY.")
    ] = None,
    /,
    *,
    since: Annotated[str, Parameter(name="--since", help="36h, 7d, or a date and time; default: all.")] = "",
    limit: Annotated[int, Parameter(name="--limit", help="No more than so many, the newest.")] = 100,
    store: Of = None,
    as_json: Json = False,
) -> Exit:
    """Show what was moved between tiers, by whom, and why: all of it, or of one object or file."""
    place = find_target(target, store) if target is not None else Target(_folder(store))
    after = since_ns(since) if since else 0
    found = client.ask_or_open(place.folder, TierLog(after, limit, place.inode, place.bucket, place.key))
    if as_json:
        command.print_json(found)
    else:
        render_log(found["moves"])
    return Exit.OK


@app.command
def plan(
    *,
    hours: Annotated[float, Parameter(name="--hours", help="How far to look ahead.")] = 24.0,
    limit: Annotated[int, Parameter(name="--limit", help="No more than so many moves.")] = 1000,
    store: Of = None,
    as_json: Json = False,
) -> Exit:
    """Show what waits to be moved, and what would move by itself if nobody came, and why. Nothing moves by this."""
    found = client.ask_or_open(_folder(store), TierPlan(hours, limit))
    if as_json:
        command.print_json(found)
    else:
        render_plan(found)
    return Exit.OK


@app.command
def pin(
    target: Annotated[
        str, Parameter(name="TARGET", help="A file or directory below a mount, s3://BUCKET/KEY, or s3://BUCKET.")
    ],
    /,
    *,
    to: Annotated[str, Parameter(name="--to", help="The tier: hot, warm, or cold.")],
    store: Store = None,
    as_json: Json = False,
) -> Exit:
    """Keep a file or object, or all below a directory, in a tier, whatever is read: the nearest pin counts."""
    return _pin(target, to, store, as_json)


@app.command
def unpin(
    target: Annotated[
        str, Parameter(name="TARGET", help="A file or directory below a mount, s3://BUCKET/KEY, or s3://BUCKET.")
    ],
    /,
    *,
    store: Store = None,
    as_json: Json = False,
) -> Exit:
    """Take a pin off what it was set on."""
    return _pin(target, None, store, as_json)


@app.command
def report(
    *,
    since: Annotated[str, Parameter(name="--since", help="36h, 7d, or a date and time; default: all.")] = "",
    store: Of = None,
    as_json: Json = False,
) -> Exit:
    """Show what the tiers cost a month, what that saves, and how many bytes were moved for it."""
    found = client.ask_or_open(_folder(store), TierReport(since_ns(since) if since else 0))
    if as_json:
        command.print_json(found)
    else:
        render_report(found)
    return Exit.OK


@app.command
def warm(
    target: Annotated[
        str, Parameter(name="TARGET", help="A file or directory below a mount, s3://BUCKET/KEY, or s3://BUCKET.")
    ],
    /,
    *,
    yes: Annotated[bool, Parameter(name="--yes", negative="", help="Do not ask, whatever it costs.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> Exit:
    """Bring what lies in slower tiers back to the one of new data now; what that costs is shown before."""
    place = find_target(target, store)
    cost = client.ask_or_open(place.folder, TierPrice(place.inode, place.bucket, place.key))
    print(f"{NAME}: {price_text(target, cost)}", file=sys.stderr if as_json else sys.stdout, flush=True)
    if cost["bytes"] and not yes:
        if not sys.stdin.isatty():
            raise ConfigError("without a terminal to ask at, --yes says that this is wanted")
        if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            return Exit.INTERRUPTED
    return _move(place, target, Move(cost["to"], place.inode, place.bucket, place.key, "recalled by hand"), as_json)


@app.command
def replay(
    *,
    policy: Annotated[Path, Parameter(name="--policy", help="Settings as of stratumfs.toml(5): what differs.")],
    since: Annotated[str, Parameter(name="--since", help="36h, 7d, or a date and time; default: all.")] = "",
    store: Of = None,
    as_json: Json = False,
) -> Exit:
    """Run the accesses that were recorded under other prices, capacities or settings of the tier engine, and compare
    money, waiting and bytes moved. Nothing moves by this."""
    from stratumfs.owner.replay import replayed  # the simulator, which no other command needs

    folder, after = _folder(store), since_ns(since) if since else 0
    found = replayed(folder, policy, after / 1e9, client.ask_or_open(folder, TierInventory(after)))
    if as_json:
        command.print_json(found)
    else:
        render_replay(found)
    return Exit.OK


def _move(place: Target, target: str, request: Move, as_json: bool) -> Exit:
    with BytesProgress("looks what there is to move") as progress:
        found = client.ask_or_open(place.folder, request, progress.show)
    if as_json:
        command.print_json(found)
    else:
        print(f"{NAME}: {outcome_text(target, found)}")
    if found["outcome"] == "stopped":
        return Exit.INTERRUPTED
    return Exit.DATA if found["bytes_unreadable"] or found["files_damaged"] else Exit.OK


def _pin(target: str, to: str | None, store: Path | None, as_json: bool) -> Exit:
    place = find_target(target, store)
    found = client.ask_or_open(place.folder, TierPin(to, place.inode, place.bucket, place.key))
    if as_json:
        command.print_json(found)
    else:
        print(f"{NAME}: {pin_text(found)}")
    return Exit.OK


def _folder(store: Path | None) -> Path:
    return locate.store_folder(store if store is not None else locate.default_folder())


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)

"""``stratumfs status`` for people: the same facts as ``--json``, in lines and one table."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from stratumfs.cli.scrub_text import scrub_lines
from stratumfs.cli.units import size_text, time_text

FILE_WIDTH = 4096 + 80
"""Columns where no terminal sets a bound: a path is never broken."""


def render_status(found: Mapping[str, Any]) -> None:
    """Print it, paths as they are. Width as the terminal has it."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
    for line in (*_head(found), _devices(found), *_tail(found)):
        console.print(line)


def survives_text(devices: int, disks: int) -> str:
    """What the two numbers mean."""
    if devices < 0:
        return "SOME DATA CANNOT BE READ: more devices are missing than its parity makes up for"
    return f"all data survives the loss of {_any(devices, 'device')}, of {_any(disks, 'disk')}"


def again_text(at: float | None) -> str:
    """When something is tried again, in Unix seconds, if that is known."""
    return f"; tried again at {time_text(at)}" if at is not None else ""


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    owner = f"owner: process {found['owner']}" if found["owner"] else "no owner: no door is open"
    yield f"store {found['store']} ({found['k']}+{found['m']}), {owner}"
    if found["read_only"]:
        yield f"READ-ONLY: {found['read_only']}"
    if found["waiting"]:
        yield f"WRITES WAIT: {found['waiting']}"
    if found["refused"]:
        yield f"NO NEW DATA IS TAKEN: {found['refused']}"
    yield survives_text(found["devices_survived"], found["disks_survived"])


def _devices(found: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("tier", "slot", "state", "free", "of", "path"):
        table.add_column(name, justify="right" if name in ("slot", "free", "of") else "left", overflow="fold")
    for each in found["devices"]:
        table.add_row(
            each["tier"],
            str(each["slot"]),
            each["state"],
            size_text(each["free"]),
            size_text(each["total"]),
            each["path"],
        )
    return table


def _tail(found: Mapping[str, Any]) -> Iterator[str]:
    if (backup := found.get("backup")) is not None and backup["failure"]:
        yield f"THE CATALOG IS NOT BACKED UP: {backup['failure']}"
    for each in found["devices"]:
        if each["reason"]:
            yield f"{each['tier']} {each['slot']} is {each['state']}: {each['reason']}{again_text(each['again'])}"
    yield from _catalog(found)
    for tier in found["tiers"]:
        yield (
            f"tier {tier['name']} ({tier['k']}+{tier['m']}): {size_text(tier['used'])} used, "
            f"{size_text(tier['usable_free'])} of {size_text(tier['usable_total'])} usable are free"
            + (f"; READ-ONLY: {tier['read_only']}" if tier["read_only"] else "")
        )
    for tier in found["remote_tiers"]:
        yield (
            f"tier {tier['name']} at {tier['at']}: {size_text(tier['used'])} used, in {tier['volumes']} objects"
            + (f", {tier['deletes_waiting']} more are to be deleted" if tier["deletes_waiting"] else "")
            + (f"; NOTHING MAY BE RECALLED FOR {tier['recall_closed_s']:.0f} s" if tier["recall_closed_s"] else "")
            + (f"; DAMAGED OR MISSING: {tier['damaged_volumes']}" if tier["damaged_volumes"] else "")
            + (f"; {tier['unknown_objects']} objects are known to no row" if tier["unknown_objects"] else "")
            + (f"; READ-ONLY: {tier['read_only']}" if tier["read_only"] else "")
        )
    counts = ", ".join(f"{number} {state}" for state, number in found["volumes"].items())
    yield (
        f"volumes: {counts}; shards missing: {found['missing_shards']}, damaged: {found['damaged_shards']}"
        + (f", not known: {found['unknown_shards']}" if found["unknown_shards"] else "")
    )
    space = found["space"]
    yield (
        f"space: {size_text(space['used'])} used (inline {size_text(space['inline'])}, unfinished uploads "
        f"{size_text(space['unfinished_uploads'])}), {size_text(space['dead'])} dead in volumes, "
        f"{size_text(space['usable_free'])} of "
        f"{size_text(space['usable_total'])} usable are free; raw {size_text(space['raw_total'])}"
    )
    yield from _repairs(found["repairs"])
    if found["put_off"]["volumes"]:
        yield (
            f"volumes whose repair is put off, for devices that do not answer or are away: "
            f"{found['put_off']['volumes']}{again_text(found['put_off']['again'])}"
        )
    yield from _compaction(found["compaction"])
    yield from scrub_lines(found["scrub"])
    for move in found["moves"]:
        waits = f"; WAITS: {move['waits']}" if move["waits"] else ""
        yield f"move of {move['path']} to {move['to']}: {size_text(move['bytes'])} of {size_text(move['total'])}{waits}"
    if not found["doors"]:
        yield "doors: none"
    for door in found["doors"]:
        where = ", ".join(door.get("urls") or door["where"])
        yield f"{door['kind']}: {where} ({door['state']} since {time_text(door['since'])})"


def _catalog(found: Mapping[str, Any]) -> Iterator[str]:
    """Where it lies, and of which places it makes no use any more."""
    places = [("the store folder", found["store_folder"])]
    places += [(f"{each['tier']} {each['slot']}", each) for each in found["devices"]]
    held = [
        f"{name}{' (written to first)' if each['catalog'] == 'primary' else ''}"
        for name, each in places
        if each["catalog"]
    ]
    if held:
        yield f"catalog: on {', '.join(held)}"
    for name, each in places:
        if each["catalog_reason"]:
            yield f"catalog: NOT on {name}: {each['catalog_reason']}"


def _repairs(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    queued = [each for each in found if each["state"] == "queued"]
    for each in found:
        if each["state"] != "queued":
            volume = f" of volume {each['volume']}" if each["volume"] else ""
            done = f", {size_text(each['done'])} of {size_text(each['total'])}" if each["total"] else ""
            yield f"repair under way: {each['state']}{volume} on {each['device']}{done}"
    yield f"volumes that wait for repair: {len(queued)}"


def _compaction(found: Mapping[str, Any]) -> Iterator[str]:
    for each in found["under_way"]:
        done = f"{size_text(each['done'])} of {size_text(each['total'])}"
        yield f"under way: {each['state']} in {each['device']}, {done}"
    counts = ", ".join(f"{number} {why.replace('_', ' ')}" for why, number in found["waiting"].items())
    yield f"volumes that wait for compaction: {counts}"


def _any(number: int, word: str) -> str:
    if number <= 0:
        return f"no {word}"
    return f"any {number} {word}" if number == 1 else f"any {number} {word}s"

"""``stratumfs device`` for people: a table, a bar while it rebuilds, a line at the end."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from stratumfs.cli.status_text import FILE_WIDTH, again_text, survives_text
from stratumfs.cli.units import size_text, time_text

_NUMBERS = ("shards", "missing", "unknown", "damaged")
_RIGHT = ("slot", *_NUMBERS, "free", "of")


def render_devices(devices: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, and below it why some are not online."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("tier", "slot", "state", *_NUMBERS, "free", "of", "catalog", "id", "path"):
        table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
    for each in devices:
        numbers = [str(each[name]) for name in _NUMBERS]
        sizes = [size_text(each["free"]), size_text(each["total"])]
        where = [each["catalog"] or "", each["id"], each["path"]]
        table.add_row(each["tier"], str(each["slot"]), each["state"], *numbers, *sizes, *where)
    console.print(table)
    for each in devices:
        if each["reason"]:
            since = f" since {time_text(each['since'])}" if each["since"] else ""
            again = again_text(each["again"])
            console.print(f"{each['tier']}:{each['slot']} is {each['state']}{since}: {each['reason']}{again}")


def outcome_text(found: Mapping[str, Any]) -> str:
    """What came of a replacement, in one line."""
    device = found["device"]
    text = f"{_is(device)}, {device['shards']} shards"
    if found["bytes_left"]:
        text += f"; {size_text(found['bytes_left'])} are NOT rebuilt yet: `stratumfs status` says how far it is"
    return f"{text}; {_survives(found)}"


def added_text(found: Mapping[str, Any]) -> str:
    """What came of an addition, in one line."""
    device = found["device"]
    return f"{_is(device)}, {size_text(device['free'])} free; {_survives(found)}"


def drained_text(found: Mapping[str, Any], stopped: bool) -> str:
    """What came of a drain, or of its end."""
    device = found["device"]
    if stopped:
        return f"{_is(device)}, {device['state']}, {device['shards']} shards; {_survives(found)}"
    text = f"{_is(device)}, and may be removed"
    if found["shards_left"]:
        left = f"{found['shards_left']} shards ({size_text(found['bytes_left'])})"
        text = f"{_is(device)}; {left} are NOT elsewhere yet: `stratumfs status` says how far it is"
    return f"{text}; {_survives(found)}"


def removed_text(found: Mapping[str, Any]) -> str:
    return f"{found['path']} was device {found['tier']}:{found['slot']}, and is none now; {_survives(found)}"


def _is(device: Mapping[str, Any]) -> str:
    return f"{device['path']} is device {device['tier']}:{device['slot']}"


def _survives(found: Mapping[str, Any]) -> str:
    return survives_text(found["devices_survived"], found["disks_survived"])

"""``stratumfs device`` for people: a table, a bar while it rebuilds, a line at the end."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from stratumfs.cli.status_text import FILE_WIDTH, size_text, survives_text

_RIGHT = ("slot", "shards", "missing", "damaged", "free", "of")


def render_devices(devices: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, and below it why some are not online."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("tier", "slot", "state", "shards", "missing", "damaged", "free", "of", "id", "path"):
        table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
    for each in devices:
        numbers = [str(each[name]) for name in ("shards", "missing", "damaged")]
        sizes = [size_text(each["free"]), size_text(each["total"])]
        table.add_row(each["tier"], str(each["slot"]), each["state"], *numbers, *sizes, each["id"], each["path"])
    console.print(table)
    for each in devices:
        if each["reason"]:
            since = f" since {_time_text(each['since'])}" if each["since"] else ""
            console.print(f"{each['tier']}:{each['slot']} is {each['state']}{since}: {each['reason']}")


def outcome_text(found: Mapping[str, Any]) -> str:
    """What came of a replacement, in one line."""
    device = found["device"]
    text = f"{device['path']} is device {device['tier']}:{device['slot']}, {device['shards']} shards"
    if found["bytes_left"]:
        text += f"; {size_text(found['bytes_left'])} are NOT rebuilt yet: `stratumfs status` says how far it is"
    return f"{text}; {survives_text(found['devices_survived'], found['disks_survived'])}"


def _time_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

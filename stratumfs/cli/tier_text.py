"""Answers of ``stratum-tier`` for people: the same facts as ``--json``."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from stratumfs.cli.units import size_text
from stratumfs.errors import ConfigError

_DAY_S = 86400.0
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY_S, "w": 7 * _DAY_S}
OPERATOR = "operator"


def since_ns(text: str) -> int:
    """``90s``, ``30m``, ``36h``, ``7d``, ``2w`` ago, or a date and time of ISO 8601 (local, unless it says otherwise).

    Raises: ConfigError.
    """
    unit = _UNITS_S.get(text[-1:])
    try:
        if unit is not None:
            return max(0, time.time_ns() - int(float(text[:-1]) * unit * 1e9))
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text!r} is no time: 36h, 7d, or 2026-05-01T12:00") from None


def render_status(found: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or _console()
    table = _table("tier", "objects", "used", "capacity", "full", "moved here", "USD a month")
    for tier in found["tiers"]:
        share = f"{tier['used'] / tier['capacity']:.0%}" if tier["capacity"] else "-"
        capacity = size_text(tier["capacity"]) if tier["capacity"] is not None else "-"
        used, here = size_text(tier["used"]), size_text(tier["bytes_moved_here"])
        table.add_row(tier["name"], _count(tier["objects"]), used, capacity, share, here, f"{tier['usd_month']:.2f}")
    console.print(table)
    for line in _status_lines(found):
        console.print(line, highlight=False)


def _status_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["enabled"]:
        yield "the engine is off ([tiering] enabled = false): nothing moves by itself"
    elif found["warmup_left_s"] > 0:
        left = found["warmup_left_s"] / _DAY_S
        yield f"it observes for {left:.1f} days more before it moves by preference; what pressure demands it moves now"
    for tier in found["tiers"]:
        if tier["read_only"] is not None:
            yield f"{tier['name']} takes no writes: {tier['read_only']}"
        elif tier["refused_until"] is not None:
            yield f"{tier['name']} could not take what was to move there; it is tried again {tier['refused_until']}"
    for what, text in (("under_way", "under way"), ("waiting", "waiting")):
        for each in found[what]:
            yield f"{text}: {each['moves']} moves, {size_text(each['bytes'])}, {each['from']} to {each['to']}"


def render_log(moves: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Newest last, as a log is read."""
    console = console or _console()
    if not moves:
        console.print("no object was moved")
        return
    table = _table("decided", "move", "bytes", "who", "outcome", "object", "why")
    for each in reversed(moves):
        way = f"{each['from'] or '?'} > {each['to']}"
        outcome = each["outcome"] or "waits"
        table.add_row(each["at"], way, size_text(each["bytes"]), each["cause"], outcome, _path(each), each["reason"])
    console.print(table)


def render_plan(found: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or _console()
    hours = f"{found['hours']:g} hours"
    _part(console, found["waiting"], "waiting to be moved")
    _part(console, found["coming"], f"if nobody comes, decided within {hours}")
    if found["if_warmup_were_over"]:
        _part(console, found["if_warmup_were_over"], f"if the warm-up were over, decided within {hours}")
    if not (found["waiting"] or found["coming"] or found["if_warmup_were_over"]):
        console.print(f"nothing waits, and nothing would move within {hours} if nobody came")


def _part(console: Console, moves: Sequence[Mapping[str, Any]], title: str) -> None:
    if not moves:
        return
    total = sum(each["bytes"] for each in moves)
    console.print(f"{title}: {len(moves)} moves, {size_text(total)}", highlight=False)
    table = _table("when", "move", "bytes", "who", "object", "why")
    for each in moves:
        way = f"{each['from']} > {each['to']}"
        table.add_row(each["at"], way, size_text(each["bytes"]), each["cause"], _path(each), each["reason"])
    console.print(table)


def render_report(found: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or _console()
    table = _table("tier", "bytes", "USD a month", "saved a month")
    for tier in found["tiers"]:
        usd, saved = f"{tier['usd_month']:.2f}", f"{tier['usd_month_saved']:.2f}"
        table.add_row(tier["name"], size_text(tier["bytes"]), usd, saved)
    table.add_row("all", "", f"{found['usd_month']:.2f}", f"{found['usd_month_saved']:.2f}")
    console.print(table)
    for each in found["moved"]:
        way = f"{each['from'] or '?'} to {each['to']}"
        text = f"{each['moves']} moves, {size_text(each['bytes'])}, {way}: {each['cause']}"
        console.print(text, highlight=False)
    for each in found["left_site"]:
        key = f"under key {each['key']}" if each["key"] is not None else "the key is not there"
        text = (
            f"left the site: {size_text(each['bytes'])} in {each['objects_count']} objects to {each['to']}, encrypted"
        )
        console.print(f"{text}, {key}", highlight=False)
    if not found["left_site"]:
        console.print("nothing left the site", highlight=False)


def pin_text(found: Mapping[str, Any]) -> str:
    """What came of a pin, or of taking it off."""
    where = found["path"] or f"inode {found['inode']}"
    if found["pin"] is not None:
        return f"{where}: pinned to {found['pin']}"
    if found["before"] is None:
        return f"{where}: it had no pin of its own"
    return f"{where}: no longer pinned to {found['before']}"


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _path(each: Mapping[str, Any]) -> str:
    return str(each["path"]) or f"inode {each['inode']}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        right = name in ("objects", "used", "capacity", "full", "moved here", "bytes", "USD a month", "saved a month")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == "decided")
    return table


def _console() -> Console:
    """As wide as the terminal; a pipe or a file gets lines that are not folded."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=300, no_color=True)

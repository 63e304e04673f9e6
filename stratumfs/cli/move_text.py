"""``stratum-tier move`` and ``warm`` for people: what it will cost, a bar while it moves, a line at the end."""

from collections.abc import Mapping
from typing import Any

from stratumfs.cli.reasons_text import span_text, usd_text
from stratumfs.cli.units import size_text


def outcome_text(target: str, found: Mapping[str, Any]) -> str:
    """What came of a move, in one line."""
    text = f"{target}: {size_text(found['bytes'])} moved to {found['to']}"
    if found["outcome"] == "stopped":
        text = f"{target}: stopped, {size_text(found['bytes'])} of {size_text(found['total'])} are in {found['to']} now"
    if found["outcome"] == "superseded":
        text = f"{target}: another move of it was asked for later, and is made instead"
    if found["bytes_unreadable"]:
        text += f"; {size_text(found['bytes_unreadable'])} could not be read and stay"
    if found["files_damaged"]:
        text += f"; files whose rows are damaged: {found['files_damaged']}"
    return text


def price_text(target: str, cost: Mapping[str, Any]) -> str:
    """What a recall will cost, in one line."""
    if not cost["bytes"]:
        return f"{target}: nothing lies in slower tiers than {cost['to']}"
    shares = ", ".join(f"{size_text(each['bytes'])} from {tier}" for tier, each in cost["from"].items())
    text = f"{target}: {shares} to {cost['to']} costs {usd_text(cost['usd'])} and some {span_text(cost['seconds'])}"
    return text if cost["complete"] else f"{text}, and more: there was no time to look at all of it"

"""``stratum-tier move`` for people: a bar while it moves, a line at the end."""

from collections.abc import Mapping
from typing import Any

from stratumfs.cli.status_text import size_text


def outcome_text(target: str, found: Mapping[str, Any]) -> str:
    """What came of a move, in one line."""
    text = f"{target}: {size_text(found['bytes'])} moved to {found['to']}"
    if found["outcome"] == "stopped":
        text = f"{target}: stopped, {size_text(found['bytes'])} of {size_text(found['total'])} are in {found['to']} now"
    if found["bytes_unreadable"]:
        text += f"; {size_text(found['bytes_unreadable'])} could not be read and stay"
    if found["files_damaged"]:
        text += f"; files whose rows are damaged: {found['files_damaged']}"
    return text

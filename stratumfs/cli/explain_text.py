"""``stratum-tier explain`` for people: the same facts as ``--json``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.reasons_text import placed_lines, reasons_lines, sums_lines
from stratumfs.cli.status_text import survives_text
from stratumfs.cli.units import size_text


def render_explanation(target: str, found: Mapping[str, Any]) -> None:
    for line in explanation_lines(target, found):
        print(line)


def explanation_lines(target: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What is where, since when, why, and what it survives."""
    if "sums" in found:
        yield from sums_lines(target, found["sums"])
        return
    yield f"{target}: {found['kind']}, {size_text(found['size'])}, {_where(found)}, written {found['since']}"
    if found["then"] is not None:
        then = found["then"]
        where = then["tier"] or "a tier that is not known"
        yield from _indented(placed_lines(then, f"at {then['at']} it was in {where}"))
        if then["written_later"]:
            yield "    what it holds now was written later"
    if found["moved"] is not None:
        yield "  " + _moved(found["moved"])
    elif found["placed"] is not None:
        yield from _indented(placed_lines(found["placed"]))
    if found["tiering"] is not None:
        yield from _indented(reasons_lines(found["tiering"]))
    if found["inline_bytes"]:
        yield f"  {size_text(found['inline_bytes'])} in the catalog"
    for volume in found["volumes"]:
        yield (
            f"  {size_text(volume['bytes'])} in {volume['tier']} volume {volume['id']} "
            f"({volume['k']}+{volume['m']}, {volume['state']}, {volume['extents']} extents, since {volume['since']})"
        )
        for shard in volume["shards"]:
            yield f"    shard {shard['cell']}: {shard['state']} on {shard['device']}"
    if found["volumes_left_off"]:
        yield f"  and {found['volumes_left_off']} volumes more"
    # Of a cold one there is a reason behind the word.
    states = Counter(shard["state"].partition(": ")[0] for volume in found["volumes"] for shard in volume["shards"])
    if set(states) - {"present"}:
        yield "  shards: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
    yield "  " + survives_text(found["devices_survived"], found["disks_survived"]).replace("all data", "it")


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _where(found: Mapping[str, Any]) -> str:
    if not found["tiers"]:
        return "in the catalog"
    if len(found["tiers"]) == 1:
        return f"tier {found['tier']}"
    return "tiers " + ", ".join(f"{tier} ({size_text(count)})" for tier, count in found["tiers"].items())


def _moved(moved: Mapping[str, Any]) -> str:
    who = f"{moved['user']} (uid {moved['uid']})" if moved["user"] else f"uid {moved['uid']}"
    return (
        f"moved from {moved['from']} to {moved['to']} {moved['at']} for {who}, with {moved['named']}: {moved['reason']}"
    )

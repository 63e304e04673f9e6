"""``stratum-tier explain`` for people: the same facts as ``--json``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.status_text import size_text, survives_text


def render_explanation(target: str, found: Mapping[str, Any]) -> None:
    for line in explanation_lines(target, found):
        print(line)


def explanation_lines(target: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What is where, since when, and what it survives."""
    yield f"{target}: {found['kind']}, {size_text(found['size'])}, {_where(found)}, written {found['since']}"
    if found["moved"] is not None:
        yield "  " + _moved(found["moved"])
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
    states = Counter(shard["state"] for volume in found["volumes"] for shard in volume["shards"])
    if set(states) - {"present"}:
        yield "  shards: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
    yield "  " + survives_text(found["devices_survived"], found["disks_survived"]).replace("all data", "it")


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

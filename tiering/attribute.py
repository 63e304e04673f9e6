"""An explanation as an attribute of a file in the mount: for whoever may read that file, and in the room that there is.

Who is neither root nor the owner's user is told of the file itself alone: not which objects of others it made room for
or lies beside, not where devices are mounted, and not who moved it and with which words.
"""

import json
from collections.abc import Mapping
from typing import Any

from stratumfs.limits import XATTR_VALUE_MAX
from tiering.reasons import OPERATOR

_COUNT_BYTES = 64
"""Spare, for the count of what is left off."""


def discreet(found: Mapping[str, Any]) -> dict[str, Any]:
    """The explanation of a file without what is not of that file. Volumes tell what they survive, and no shards."""
    told = dict(found)
    told["placed"], told["then"] = _placed(found["placed"]), _placed(found["then"])
    if found["moved"] is not None:
        told["moved"] = found["moved"] | dict.fromkeys(("uid", "user", "named", "reason"))
    if found["tiering"] is not None and found["tiering"]["known"]:
        told["tiering"] = _tiering(found["tiering"])
    told["volumes"] = [each | {"shards": []} for each in found["volumes"]]
    return told


def _placed(placed: dict[str, Any] | None) -> dict[str, Any] | None:
    if placed is None:
        return None
    if placed["decision"] is None:
        return placed | ({"reason": None} if placed["by"] == OPERATOR else {})
    return placed | {"decision": {name: value for name, value in placed["decision"].items() if name != "for"}}


def _tiering(found: dict[str, Any]) -> dict[str, Any]:
    closed = [{"tier": each["tier"], "reason": None} for each in found["outlook"]["closed"]]
    compared = [_compared(each) for each in found["compared"]]
    return found | {"compared": compared, "outlook": found["outlook"] | {"closed": closed}}


def _compared(each: dict[str, Any]) -> dict[str, Any]:
    marginal = each["marginal"]
    return each if marginal is None else each | {"marginal": marginal | {"path": None, "inode": None}}


def fitted(found: Mapping[str, Any]) -> bytes:
    """JSON that an attribute can hold: the last volumes are left off, and counted, where all are too many."""
    whole = _json(found)
    if len(whole) <= XATTR_VALUE_MAX:
        return whole
    volumes = found["volumes"]
    room = XATTR_VALUE_MAX - _COUNT_BYTES - len(_json({**found, "volumes": []}))
    kept = 0
    for each in volumes:
        room -= len(_json(each)) + len(", ")
        if room < 0:
            break
        kept += 1
    left_off = found["volumes_left_off"] + len(volumes) - kept
    return _json({**found, "volumes": volumes[:kept], "volumes_left_off": left_off})


def _json(found: object) -> bytes:
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")

"""What rows say of devices, as identity files repeat it: a catalog that is made again of something older would count
upon devices that were struck since. Pure: commands that only ask read identity files, too."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stratumfs.ids import DeviceId


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """state: one of ``stratumfs.devices.health``; a device without a row is online."""

    id: DeviceId
    state: str
    since_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Standings:
    """sequence  of the last transaction before they were read; below all others where nobody has written any
    rows      devices that are not simply online
    draining  devices whose shards are to be made on others, and since when (ns)
    """

    sequence: int = -1
    rows: tuple[DeviceRow, ...] = ()
    draining: tuple[tuple[DeviceId, int], ...] = ()

    def same(self, other: "Standings") -> bool:
        """Whether they say the same, whenever that was."""
        return (self.rows, self.draining) == (other.rows, other.draining)


NO_STANDINGS = Standings()


def pack_standings(said: Standings) -> dict[str, Any]:
    """As plain values, for JSON."""
    rows = [
        {"id": each.id.hex(), "state": each.state, "since_ns": each.since_ns, "reason": each.reason}
        for each in said.rows
    ]
    draining = [{"id": ident.hex(), "since_ns": since_ns} for ident, since_ns in said.draining]
    return {"sequence": said.sequence, "devices": rows, "draining": draining}


def unpack_standings(plain: Mapping[str, Any] | None) -> Standings:
    """None where it cannot be read: other places say the same."""
    with suppress(KeyError, TypeError, ValueError):
        if plain is not None:
            rows = tuple(
                DeviceRow(_ident(each), str(each["state"]), int(each["since_ns"]), str(each["reason"]))
                for each in plain["devices"]
            )
            draining = tuple((_ident(each), int(each["since_ns"])) for each in plain["draining"])
            return Standings(int(plain["sequence"]), rows, draining)
    return NO_STANDINGS


def _ident(plain: Mapping[str, Any]) -> DeviceId:
    return DeviceId(bytes.fromhex(plain["id"]))

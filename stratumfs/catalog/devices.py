"""States of devices that outlast an owner: what was struck stays struck over restarts."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import seal_volume
from stratumfs.ids import DeviceId, VolumeId


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """state: one of ``stratumfs.devices.health``; a device without a row is online."""

    id: DeviceId
    state: str
    since_ns: int
    reason: str


def device_rows(tx: Transaction) -> list[DeviceRow]:
    """All devices that are not simply online."""
    return [DeviceRow(*row) for row in tx.all("select id, state, since_ns, reason from device order by id")]


def set_device(tx: Transaction, ident: DeviceId, state: str, reason: str, now_ns: int) -> None:
    tx.run("delete from device where id = ?", (ident,))
    tx.run("insert into device values (?, ?, ?, ?)", (ident, state, now_ns, reason))


def strike_device(
    tx: Transaction,
    ident: DeviceId,
    state: str,
    reason: str,
    ends: Sequence[tuple[VolumeId, int, int]],
    now_ns: int,
) -> None:
    """Its state, and the ends (length, stripes) of the open volumes that have a shard on it: they take no more."""
    set_device(tx, ident, state, reason, now_ns)
    for volume, length, stripes in ends:
        seal_volume(tx, volume, length, stripes, now_ns)


def forget_device(tx: Transaction, ident: DeviceId) -> None:
    """It is online again."""
    tx.run("delete from device where id = ?", (ident,))

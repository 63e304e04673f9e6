"""States of devices that outlast an owner: what was struck stays struck, what is drained goes on being drained."""

from collections.abc import Sequence

from stratumfs.catalog.standings import DeviceRow, Standings
from stratumfs.catalog.state import GET_STATE
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.untold import note_untold
from stratumfs.catalog.volumes import seal_volume
from stratumfs.ids import DeviceId, VolumeId


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
    """Its state, and the ends (length, stripes) of the open volumes that have a shard on it: they take no more, and get
    no tables of contents, so that what was moved to them waits for an image, in the next owner too."""
    set_device(tx, ident, state, reason, now_ns)
    if ends:
        note_untold(tx)
    for volume, length, stripes in ends:
        seal_volume(tx, volume, length, stripes, now_ns)


def forget_device(tx: Transaction, ident: DeviceId) -> None:
    """It is up again."""
    tx.run("delete from device where id = ?", (ident,))


def drains(tx: Transaction) -> list[tuple[DeviceId, int]]:
    """Devices whose shards are to be made on others, and since when (ns)."""
    return [(DeviceId(ident), since_ns) for ident, since_ns in tx.all("select * from drain order by device")]


def begin_drain(tx: Transaction, ident: DeviceId, now_ns: int) -> None:
    """Of one that is drained already nothing changes."""
    tx.run(
        "insert into drain select ?, ? where not exists (select 1 from drain where device = ?)", (ident, now_ns, ident)
    )


def end_drain(tx: Transaction, ident: DeviceId) -> None:
    tx.run("delete from drain where device = ?", (ident,))


def has_state(tx: Transaction, ident: DeviceId) -> bool:
    """Whether a row says that it is not simply online. Of one that left the store it does as long as any shard is
    placed there."""
    return tx.one("select 1 from device where id = ?", (ident,)) is not None


def forget_removed(tx: Transaction, listed: Sequence[DeviceId]) -> None:
    """What rows say of devices that are not *listed*, the store's, and of which no shard is wanted."""
    known = {ident for (ident,) in tx.all("select id from device union select device from drain")}
    for ident in known.difference(listed):
        if tx.one("select 1 from shard where device = ? limit 1", (ident,)) is None:
            forget_device(tx, DeviceId(ident))
        end_drain(tx, DeviceId(ident))


def standings(tx: Transaction) -> Standings:
    """As they are."""
    found = tx.one(GET_STATE, ("sequence",))
    assert found is not None
    return Standings(int(found[0]), tuple(device_rows(tx)), tuple(drains(tx)))


def put_standings(tx: Transaction, said: Standings) -> None:
    """Rows say this, and nothing else."""
    for row in device_rows(tx):
        forget_device(tx, row.id)
    for ident, _ in drains(tx):
        end_drain(tx, ident)
    for row in said.rows:
        set_device(tx, row.id, row.state, row.reason, row.since_ns)
    for ident, since_ns in said.draining:
        begin_drain(tx, ident, since_ns)

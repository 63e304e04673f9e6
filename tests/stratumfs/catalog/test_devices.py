"""States of devices in the catalog."""

from stratumfs.catalog.devices import device_rows, forget_device, set_device, strike_device
from stratumfs.catalog.standings import DeviceRow
from stratumfs.catalog.untold import untold
from stratumfs.catalog.volumes import SEALED, insert_volume, seal_volume, volume
from stratumfs.ids import DeviceId, VolumeId
from tests.stratumfs.catalog.tables import Tables

ONE, OTHER = DeviceId(b"1" * 16), DeviceId(b"2" * 16)


def test_a_device_has_one_state_the_last_that_was_set() -> None:
    tx = Tables().tx
    set_device(tx, ONE, "suspect", "slow", 5)
    set_device(tx, OTHER, "gone", "replaced", 6)
    set_device(tx, ONE, "failed", "EIO", 7)
    assert device_rows(tx) == [DeviceRow(ONE, "failed", 7, "EIO"), DeviceRow(OTHER, "gone", 6, "replaced")]


def test_a_device_that_is_online_has_no_row() -> None:
    tx = Tables().tx
    set_device(tx, ONE, "failed", "EIO", 7)
    forget_device(tx, ONE)
    forget_device(tx, OTHER)
    assert device_rows(tx) == []


def test_a_strike_seals_the_open_volumes_of_the_device_in_the_same_transaction() -> None:
    tx = Tables().tx
    volumes = [VolumeId(bytes([number]) * 16) for number in range(2)]
    for ident in volumes:
        insert_volume(tx, ident, "hot", 1, 1, (ONE, OTHER), 1)
    seal_volume(tx, volumes[1], 900, 9, 2)  # before: that stands
    strike_device(tx, ONE, "failed", "EIO", [(volumes[0], 500, 5), (volumes[1], 100, 1)], 7)
    assert untold(tx) > 0, "what was moved to them waits for an image, in the next owner too"
    assert device_rows(tx) == [DeviceRow(ONE, "failed", 7, "EIO")]
    rows = [volume(tx, ident) for ident in volumes]
    assert [(row.state, row.length, row.stripes) for row in rows if row] == [(SEALED, 500, 5), (SEALED, 900, 9)]

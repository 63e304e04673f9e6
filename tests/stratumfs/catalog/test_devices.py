"""States of devices in the catalog."""

from stratumfs.catalog.devices import DeviceRow, device_rows, forget_device, set_device
from stratumfs.ids import DeviceId
from tests.stratumfs.catalog.tables import Tables

ONE, OTHER = DeviceId(b"1" * 16), DeviceId(b"2" * 16)


def test_a_device_has_one_state_the_last_that_was_set() -> None:
    tx = Tables().tx
    set_device(tx, ONE, "suspect", "slow", 5)
    set_device(tx, OTHER, "draining", "asked for", 6)
    set_device(tx, ONE, "failed", "EIO", 7)
    assert device_rows(tx) == [DeviceRow(ONE, "failed", 7, "EIO"), DeviceRow(OTHER, "draining", 6, "asked for")]


def test_a_device_that_is_online_has_no_row() -> None:
    tx = Tables().tx
    set_device(tx, ONE, "failed", "EIO", 7)
    forget_device(tx, ONE)
    forget_device(tx, OTHER)
    assert device_rows(tx) == []

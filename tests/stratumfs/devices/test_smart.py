"""What disks say of themselves."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stratumfs.devices import smart
from stratumfs.devices.smart import Smart, disk_of, parse_smart, read_smart

ATA: dict[str, Any] = {
    "json_format_version": [1, 0],
    "device": {"name": "/dev/sda", "type": "sat", "protocol": "ATA"},
    "smart_status": {"passed": True},
    "ata_smart_attributes": {
        "revision": 16,
        "table": [
            {"id": 5, "name": "Reallocated_Sector_Ct", "value": 100, "raw": {"value": 8, "string": "8"}},
            {"id": 197, "name": "Current_Pending_Sector", "value": 100, "raw": {"value": 0, "string": "0"}},
            {"id": 198, "name": "Offline_Uncorrectable", "value": 100, "raw": {"value": 3, "string": "3"}},
        ],
    },
    "temperature": {"current": 34},
}
NVME: dict[str, Any] = {
    "smart_status": {"passed": True, "nvme": {"value": 0}},
    "nvme_smart_health_information_log": {"critical_warning": 0, "percentage_used": 7, "media_errors": 0},
    "temperature": {"current": 41},
}


def parsed(report: dict[str, Any], **changes: Any) -> Smart | None:
    return parse_smart("sda", json.dumps(report | changes).encode())


def test_what_ata_and_nvme_disks_say() -> None:
    assert parsed(ATA) == Smart("sda", True, 0, 3, None, None, 34)
    assert parsed(NVME) == Smart("sda", True, None, 0, 0, 7, 41)


def test_a_disk_that_says_that_it_fails_or_cannot_read_sectors_is_failing() -> None:
    for report in (
        ATA | {"smart_status": {"passed": False}},
        NVME | {"nvme_smart_health_information_log": {"critical_warning": 4}},
        ATA | {"ata_smart_attributes": {"table": [{"id": 197, "raw": {"value": 2}}]}},
    ):
        found = parsed(report)
        assert found is not None
        assert found.failing is not None
        assert "sda" in found.failing
    for report in (ATA, NVME):
        found = parsed(report)
        assert found is not None
        assert found.failing is None


@pytest.mark.parametrize(
    "report", [b"", b"smartctl: command line error", b"[]", b"\xff", b'{"smartctl": {"exit_status": 2}}']
)
def test_a_report_without_health_is_none(report: bytes) -> None:
    assert parse_smart("sda", report) is None


def test_the_disk_of_a_partition_is_the_whole_one_and_what_has_no_disk_has_none(tmp_path: Path) -> None:
    disk, part = tmp_path / "devices/sda", tmp_path / "devices/sda/sda1"
    part.mkdir(parents=True)
    (part / "partition").touch()
    (disk / "device").mkdir()
    (tmp_path / "8:1").symlink_to(part)
    (tmp_path / "8:0").symlink_to(disk)
    (tmp_path / "devices/dm-0").mkdir()
    (tmp_path / "253:0").symlink_to(tmp_path / "devices/dm-0")
    assert disk_of(os.makedev(8, 1), tmp_path) == "sda"
    assert disk_of(os.makedev(8, 0), tmp_path) == "sda"
    assert disk_of(os.makedev(253, 0), tmp_path) is None  # on several disks, perhaps
    assert disk_of(os.makedev(0, 40), tmp_path) is None  # tmpfs


def test_smartctl_is_asked_if_there_is_one_and_no_error_if_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart, "disk_of", lambda st_dev: "sda")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_smart(1) is None
    program = tmp_path / "smartctl"
    said = json.dumps(ATA)
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat <<END\n{said}\nEND\nexit 64\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_smart(1) == Smart("sda", True, 0, 3, None, None, 34)
    assert (tmp_path / "asked").read_text() == "--json --health --attributes --nocheck=standby,0 /dev/sda\n"


def test_a_smartctl_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "smartctl"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    monkeypatch.setattr(smart, "disk_of", lambda st_dev: "sda")
    monkeypatch.setattr(smart, "SMART_WAIT_S", 0.01)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_smart(1) is None

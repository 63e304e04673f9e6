"""What a disk says of itself: SMART, by smartctl(8) where the system has it. Blocking."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratumfs.limits import SMART_WAIT_S

_BLOCK = Path("/sys/dev/block")
_PENDING, _UNCORRECTABLE = 197, 198
_ASK = ("--json", "--health", "--attributes", "--nocheck=standby,0")


@dataclass(frozen=True, slots=True)
class Smart:
    """passed       what the disk says of its health as a whole
    pending       sectors that could not be read and are not written anew yet (ATA)
    media_errors  sectors that are lost (ATA: uncorrectable; NVMe: media errors)
    warning       NVMe's bits of critical warnings
    worn_percent  of what an NVMe is made for
    Whatever the disk does not tell is None.
    """

    disk: str
    passed: bool | None = None
    pending: int | None = None
    media_errors: int | None = None
    warning: int | None = None
    worn_percent: int | None = None
    celsius: int | None = None

    @property
    def failing(self) -> str | None:
        """Why it is read last, if it is."""
        if self.passed is False or self.warning:
            return f"SMART: disk {self.disk} says that it is failing"
        if self.pending:
            return f"SMART: {self.pending} sectors of disk {self.disk} cannot be read"
        return None


class _Raw(msgspec.Struct):
    value: int = 0


class _Attribute(msgspec.Struct):
    id: int
    raw: _Raw


class _Ata(msgspec.Struct):
    table: list[_Attribute] = []


class _Nvme(msgspec.Struct):
    critical_warning: int | None = None
    media_errors: int | None = None
    percentage_used: int | None = None


class _Status(msgspec.Struct):
    passed: bool | None = None


class _Temperature(msgspec.Struct):
    current: int | None = None


class _Report(msgspec.Struct):
    """The part of smartctl's JSON that is used here; its format 1.0."""

    smart_status: _Status | None = None
    ata_smart_attributes: _Ata | None = None
    nvme_smart_health_information_log: _Nvme | None = None
    temperature: _Temperature | None = None


def read_smart(st_dev: int) -> Smart | None:
    """Of the disk that the file system *st_dev* is on. A disk that sleeps is not woken.

    None where that is no single disk, there is no smartctl, it may not ask, or the disk tells nothing: no error.
    """
    disk, program = disk_of(st_dev), shutil.which("smartctl")
    if disk is None or program is None:
        return None
    try:
        # Its exit code has a bit for each thing that is wrong; what it could find out it says in any case.
        found = subprocess.run(  # noqa: S603 - a fixed program, and a name from the kernel
            [program, *_ASK, f"/dev/{disk}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SMART_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_smart(disk, found.stdout)


def parse_smart(disk: str, report: bytes) -> Smart | None:
    """What smartctl has printed; None if that is nothing about health."""
    try:
        found = msgspec.json.decode(report, type=_Report)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if (found.smart_status, found.ata_smart_attributes, found.nvme_smart_health_information_log) == (None, None, None):
        return None
    attributes = {each.id: each.raw.value for each in (found.ata_smart_attributes or _Ata()).table}
    nvme = found.nvme_smart_health_information_log or _Nvme()
    return Smart(
        disk,
        found.smart_status.passed if found.smart_status is not None else None,
        attributes.get(_PENDING),
        attributes.get(_UNCORRECTABLE, nvme.media_errors),
        nvme.critical_warning,
        nvme.percentage_used,
        found.temperature.current if found.temperature is not None else None,
    )


def disk_of(st_dev: int, block: Path = _BLOCK) -> str | None:
    """The kernel's name of the whole disk; None for what has none, as tmpfs, or lies on several, as RAID and LVM do."""
    try:
        found = (block / f"{os.major(st_dev)}:{os.minor(st_dev)}").resolve(strict=True)
        if (found / "partition").exists():
            found = found.parent
        return found.name if (found / "device").exists() else None
    except OSError:
        return None

"""Volumes whose repair is put off: some device did not say what it has, or some of it is lost until a device is back.

Pure: told the time, in seconds.
"""

from dataclasses import dataclass

from stratumfs.ids import VolumeId
from stratumfs.limits import REPAIR_AGAIN_S, REPAIR_SURVEY_S


@dataclass(frozen=True, slots=True)
class _Wait:
    """next_s: how long it waits if the try at *until* fails too."""

    until: float
    next_s: float


class PutOff:
    """Each waits twice as long as the time before, up to REPAIR_SURVEY_S."""

    def __init__(self) -> None:
        self._waiting: dict[VolumeId, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put_off(self, volume: VolumeId, now: float) -> float:
        """It could not be repaired. Returns for how long it waits."""
        wait_s = self._waiting[volume].next_s if volume in self._waiting else REPAIR_AGAIN_S
        self._waiting[volume] = _Wait(now + wait_s, min(2 * wait_s, REPAIR_SURVEY_S))
        return wait_s

    def drop(self, volume: VolumeId) -> None:
        """It was repaired, or is no more; harmless if it is not there."""
        self._waiting.pop(volume, None)

    def waits(self, volume: VolumeId, now: float) -> bool:
        return volume in self._waiting and self._waiting[volume].until > now

    def due(self, now: float) -> list[VolumeId]:
        """Those whose time has come; they stay until they are dropped or put off again."""
        return [volume for volume, wait in self._waiting.items() if wait.until <= now]

    def next(self) -> float | None:
        """When the first of them is due; None if there is none."""
        return min((wait.until for wait in self._waiting.values()), default=None)

    def hurry(self, now: float) -> None:
        """A device is back, new, or struck, so that more can be done, or less time is left: all are due."""
        self._waiting = {volume: _Wait(now, wait.next_s) for volume, wait in self._waiting.items()}

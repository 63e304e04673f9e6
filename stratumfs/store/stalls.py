"""Which devices are to be struck for not answering, and when it is the machine and nobody is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog
import trio

from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, StratumError
from stratumfs.ids import DeviceId
from stratumfs.limits import DEVICE_LOOK_S, DEVICE_STANDSTILL_S
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)


class Devices(Protocol):
    """Those that are judged. returning: a struck one that catches up, by the object that it was opened anew by."""

    returning: AttachedDevice | None

    @property
    def codes(self) -> Mapping[str, Code]: ...
    @property
    def devices(self) -> Mapping[DeviceId, AttachedDevice]: ...
    def of(self, tier: str) -> list[AttachedDevice]: ...
    def up(self, tier: str) -> list[AttachedDevice]: ...
    def gone(self, device: DeviceId) -> bool: ...


class Stalls:
    """Used by the fleet's look, on the loop.

    probing  devices that are asked whether they answer
    """

    def __init__(self, devices: Devices, deadline_s: float) -> None:
        self.probing: set[DeviceId] = set()
        self._devices, self._deadline_s = devices, deadline_s
        self._looked: float | None = None
        # On the devices' clock: nobody is to blame for what came before.
        self._awake_since = float("-inf")
        self._stalled_at: dict[str, float] = {}  # when too many of a tier did not answer

    def judge(self, tier: str, nursery: trio.Nursery) -> tuple[list[AttachedDevice], str | None]:
        """Whoever misses the deadline, if few enough do while all others answer; and why writes wait for others.

        More than m, or fewer than 1 + m left: that is the machine, nobody is to blame. Those that are up and have not
        answered anything since the first late call of such began are asked by a probe, in *nursery*, and count as not
        answering until then. A struck device whose call hangs still is one of the m. What stalled together does not
        come back in the same moment: the time of all begins anew at the last look that found too many silent. So it
        does if this process itself stood still: nobody could say that a call had come back.

        A device that catches up is given up here.
        """
        late = [each for each in self._devices.of(tier) if self._is_late(each) and not self._devices.gone(each.id)]
        blamed, waiting = self._judge_late(tier, late, nursery)
        self._judge_returning(tier, late, nursery)
        return blamed, waiting

    def notice_standstill(self) -> None:
        looked, self._looked = self._looked, trio.current_time()
        if looked is not None and self._looked - looked > DEVICE_STANDSTILL_S:
            self._awake_since = max((device.clock() for device in self._devices.devices.values()), default=0.0)

    def error(self, device: AttachedDevice) -> DeviceFailed:
        message = f"device {device.label} has not answered for {self._deadline_s:.0f} s"
        return DeviceFailed(message, device.label)

    def _judge_late(
        self, tier: str, late: Sequence[AttachedDevice], nursery: trio.Nursery
    ) -> tuple[list[AttachedDevice], str | None]:
        up, m = self._devices.up(tier), self._devices.codes[tier].m
        suspects = [each for each in late if each in up]
        if not suspects:
            return [], None
        silent = self._silent(tier, suspects, late)
        few = len(late) + len(silent) <= m and len(up) - len(suspects) > m
        blamed = [each for each in suspects if few and self._is_late(each, self._stalled_since(tier))]
        if not few:
            self._probe_soon(silent, nursery)
        if len(blamed) == len(suspects):
            return blamed, None
        return blamed, f"{len(suspects) + len(silent)} of {len(up)} devices of tier {tier} do not answer"

    def _judge_returning(self, tier: str, late: Sequence[AttachedDevice], nursery: trio.Nursery) -> None:
        """It is struck as it is, so those that are struck and hang are no excuse."""
        back = self._devices.returning
        if back is None or back.tier != tier or not self._is_late(back):
            return
        late = [back, *(each for each in late if each.struck is None)]
        silent = self._silent(tier, [back], late)
        if len(late) + len(silent) > self._devices.codes[tier].m:
            self._probe_soon(silent, nursery)
        elif self._is_late(back, self._stalled_since(tier)):
            back.strike(self.error(back))

    def _silent(
        self, tier: str, suspects: Sequence[AttachedDevice], late: Sequence[AttachedDevice]
    ) -> list[AttachedDevice]:
        """Those that are up, not *late*, and have not answered anything since the first call of *suspects* began.

        Where too many do not answer for a while already, that is remembered.
        """
        now = suspects[0].clock()
        began = max(min(map(_since, suspects)), self._awake_since, self._stalled_since(tier))
        silent = [each for each in self._devices.up(tier) if each not in late and each.answered <= began]
        asked = [each for each in silent if now - _since(each) >= DEVICE_LOOK_S]
        if len(late) + len(asked) > self._devices.codes[tier].m:
            self._stalled_at[tier] = now
        return silent

    def _stalled_since(self, tier: str) -> float:
        return self._stalled_at.get(tier, float("-inf"))

    def _is_late(self, device: AttachedDevice, not_before: float = float("-inf")) -> bool:
        """Whether a call that writes to it has missed the deadline, which begins no earlier than *not_before*."""
        since = device.writing_since()
        return since is not None and device.clock() - max(since, self._awake_since, not_before) >= self._deadline_s

    def _probe_soon(self, devices: Iterable[AttachedDevice], nursery: trio.Nursery) -> None:
        for device in devices:
            if device.id not in self.probing:
                self.probing.add(device.id)
                nursery.start_soon(self._probe, device)

    async def _probe(self, device: AttachedDevice) -> None:
        try:
            await in_thread(device.timed, device.shards.probe, limiter=device.writers, abandon_on_cancel=True)
        except StratumError as error:
            _log.warning("probe_failed", device=device.label, error=str(error))  # an answer all the same
        finally:
            self.probing.discard(device.id)


def _since(device: AttachedDevice) -> float:
    """When the call began that it has not answered; now, if it just did."""
    since = device.writing_since()
    return device.clock() if since is None else since

"""The devices of a store and their states; strikes those that fail or stall."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from stratumfs.catalog.standings import DeviceRow
from stratumfs.descriptor import close_soon
from stratumfs.devices.health import STRUCK, TAKES_VOLUMES, UP, DeviceState, moved
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceError, DeviceFailed, DeviceUnasked, StratumError
from stratumfs.ids import DeviceId
from stratumfs.limits import DEVICE_DEADLINE_S, DEVICE_FULL_S, DEVICE_LOOK_S, DEVICE_SUSPECT_S
from stratumfs.store.stalls import Stalls
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fleet import GivesUp, SealMark

_log = structlog.get_logger(__name__)

Epoch = Callable[[DeviceId, str], Awaitable[None]]
"""Returns when an epoch of the catalog is in force that does not name the device, which failed for that reason."""
Welcome = Callable[[DeviceId], None]
"""Told of each device that was struck and is up again."""
Listener = Callable[[DeviceId], None]


async def no_epoch(device: DeviceId, reason: str) -> None:
    """Of a catalog that has no copies."""


def no_welcome(device: DeviceId) -> None:
    """Of the same."""


class DeviceLedger(Protocol):
    """Keeps what outlasts an owner."""

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None:
        """Return when the state, and that those volumes are sealed, is durable: in one transaction."""
        ...

    async def restored(self, device: DeviceId) -> None:
        """Return when it is durable that the device is up."""
        ...

    async def drained(self, device: DeviceId, wanted: bool) -> None:
        """Return when it is durable that the device shall be drained, or not any more."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """A device of the store that is not there, and why."""

    id: DeviceId
    tier: str
    label: str
    reason: str


@dataclass(slots=True)
class _Standing:
    """reason    for `status`
    errors    reads that failed or hung, in this owner
    draining  what it holds shall be made on others, as soon as it is up if it is not
    recorded  the ledger knows the state
    owed      it was struck, and the ledger is to know that still
    until     when an observed state ends, on the device's clock
    logged    what was said of it last: a full device is found full again and again
    marks     of volumes that were given up with it, until they are recorded
    """

    tier: str
    label: str
    state: DeviceState = DeviceState.ONLINE
    reason: str | None = None
    errors: int = 0
    draining: bool = False
    recorded: bool = False
    owed: bool = False
    until: float = float("inf")
    logged: str | None = None
    marks: list[SealMark] = field(default_factory=list)


class Fleet:
    """Knows each device of a store, whether it is there or not. On the loop; one a store.

    What was struck is in the ledger and stays struck over restarts, and what is drained goes on being drained. What is
    only observed (absent, full, suspect, a file system that the kernel made read-only) ends with what is observed.
    States change between awaits; `_turn` is held by a strike until the ledger has it.

    codes       of each tier that there is
    devices     those that are there, struck ones too: they serve verified reads if they can
    joining     devices that are about to become the store's, and in whose place, if in any
    waiting     why writes wait for devices and nobody is struck, while it is so
    returning   a struck device that catches up, by the object that it was opened anew by: given up if it stalls
    listeners   told of each device that is struck or gives bad reads; the same one may be told of often
    """

    def __init__(
        self,
        devices: dict[DeviceId, AttachedDevice],
        codes: Mapping[str, Code],
        ledger: DeviceLedger,
        *,
        rows: Sequence[DeviceRow] = (),
        absent: Iterable[Absent] = (),
        draining: Iterable[DeviceId] = (),
        epoch: Epoch = no_epoch,
        welcome: Welcome = no_welcome,
        deadline_s: float = DEVICE_DEADLINE_S,
    ) -> None:
        self.devices = devices
        self.joining: dict[DeviceId, tuple[DeviceId | None, AttachedDevice]] = {}
        self.waiting: str | None = None
        self.returning: AttachedDevice | None = None
        self.listeners: list[Listener] = []
        self.writers: list[GivesUp] = []
        self.codes, self._ledger, self._deadline_s = dict(codes), ledger, deadline_s
        self._epoch, self._welcome = epoch, welcome
        self._turn = trio.Lock()
        self.stalls = Stalls(self, deadline_s)
        self._standings = {each.id: _Standing(each.tier, each.label) for each in devices.values()}
        for row in rows:
            if row.id in devices:
                self._standings[row.id].state = DeviceState(row.state)  # whatever it was: no transition
                self._set(row.id, DeviceState(row.state), row.reason)
        for gone in absent:
            self._standings[gone.id] = _Standing(gone.tier, gone.label, DeviceState.FAILED, gone.reason)
        for row in rows:
            if row.id not in devices and row.id in self._standings and row.state == DeviceState.GONE:
                self._standings[row.id].state = DeviceState.GONE  # it was there when it was removed
        for ident in draining:
            if ident in self._standings:
                self._standings[ident].draining = True
                if self._standings[ident].state in UP:
                    self._rest(ident)
        for row in rows:
            if row.id in self._standings:
                self._standings[row.id].recorded = True

    def state(self, device: DeviceId) -> tuple[DeviceState, str | None]:
        """Its state, and the reason where it is not simply online. Raises: KeyError if it is none of the store's."""
        found = self._standings[device]
        return found.state, found.reason

    def errors(self, device: DeviceId) -> int:
        """Reads of it that failed or hung, since this owner began. Raises: as `state`."""
        return self._standings[device].errors

    def label(self, device: DeviceId) -> str:
        """How messages name it. Raises: as `state`."""
        return self._standings[device].label

    def gone(self, device: DeviceId) -> bool:
        """It is no device of the store any more, and never will be again."""
        standing = self._standings.get(device)
        return standing is None or standing.state is DeviceState.GONE

    def of(self, tier: str) -> list[AttachedDevice]:
        """All that are there."""
        return [each for each in self.devices.values() if each.tier == tier]

    def up(self, tier: str) -> list[AttachedDevice]:
        """Those that take writes, full ones too."""
        return self._in_state(tier, UP)

    def counted(self) -> dict[DeviceId, AttachedDevice]:
        """Those that data may be counted upon to be on: all that are there and not struck."""
        return {ident: device for ident, device in self.devices.items() if device.struck is None}

    def taking(self, tier: str) -> list[AttachedDevice]:
        """Those that take new volumes."""
        return self._in_state(tier, TAKES_VOLUMES)

    def refusal(self, tier: str) -> str | None:
        """Why the tier takes no writes at all: fewer than 1 + m devices are up. Names those to replace."""
        needed = 1 + self.codes[tier].m
        up = sum(each.tier == tier and each.state in UP for each in self._standings.values())
        if up >= needed:
            return None
        none = (DeviceState.GONE, DeviceState.JOINING)
        all_of = [each for each in self._standings.values() if each.tier == tier and each.state not in none]
        bad = "; ".join(f"{each.label} ({each.reason})" for each in all_of if each.state in STRUCK)
        return f"{up} of {len(all_of)} devices of tier {tier} are up, and writes need {needed}: replace {bad}"

    def shortage(self, tier: str) -> str | None:
        """Why no new volume fits however much is free: fewer than 1 + m devices take one. Names those that do not."""
        needed, taking = 1 + self.codes[tier].m, self.taking(tier)
        if len(taking) >= needed:
            return None
        others = [each for each in self.of(tier) if each not in taking]
        why = "; ".join(f"{each.label} is {self._standings[each.id].state}" for each in others)
        return f"{len(taking)} devices of tier {tier} take new data, and it needs {needed}: {why}"

    async def strike(self, device: DeviceId, error: DeviceError, state: DeviceState = DeviceState.FAILED) -> None:
        """Return when the device is struck for good: no epoch of the catalog names it, its state is recorded, and its
        volumes are sealed behind the last stripe that was handed out. Harmless for one that is, or that left.

        One at a time; it takes no writes from the first moment on, and those who listen are told at once, for it must
        not come back meanwhile, and again at the end. state: READ_ONLY if a sync of it failed. Runs to its end if
        cancelled. Raises: what the ledger raises; `look` tries again then. *error*, if it is DeviceUnasked: that says
        nothing of the device.
        """
        if isinstance(error, DeviceUnasked):
            raise error
        if device not in self._standings:
            return
        self._give_up(device, error, state)
        with trio.CancelScope(shield=True):
            async with self._turn:
                if device in self._standings:
                    await self._record(device)

    async def settle(self) -> None:
        """Return when no strike is under way."""
        async with self._turn:
            pass

    @property
    def struck(self) -> list[DeviceId]:
        """Those that are not up, and may come back."""
        back = STRUCK - {DeviceState.GONE, DeviceState.JOINING}
        return [ident for ident, standing in self._standings.items() if standing.state in back]

    async def restore(self, device: AttachedDevice) -> None:
        """It was opened anew, verified and caught up: it takes writes again, durably, by this object.

        What hangs in the old one may hang on.

        Raises: DeviceFailed if it was replaced meanwhile; what the ledger raises.
        """
        async with self._turn:
            standing = self._standings[device.id]
            if standing.state is DeviceState.GONE:
                raise DeviceFailed(str(standing.reason), device.label)
            if standing.owed:
                await self._record(device.id)  # where its volumes end
            await self._ledger.restored(device.id)
            old, self.devices[device.id] = self.devices.get(device.id), device
            if old is not None:
                close_soon([old.shards])
            standing.recorded = False
            self._rest(device.id)
        self._welcome(device.id)

    @property
    def draining(self) -> list[DeviceId]:
        """Those whose shards are to be made on others, and that are up."""
        return [ident for ident, standing in self._standings.items() if standing.state is DeviceState.DRAINING]

    async def drain(self, device: DeviceId, wanted: bool = True) -> None:
        """What it holds shall be made on others, durably, or not any more. One that is struck is drained when it is up
        again. Raises: KeyError; DeviceFailed if it is gone; what the ledger raises."""
        async with self._turn:
            standing = self._standings[device]
            if standing.state in (DeviceState.GONE, DeviceState.JOINING):
                raise DeviceFailed(f"{standing.label} is {standing.state}", standing.label)
            await self._ledger.drained(device, wanted)
            standing.draining = wanted
            if standing.state in UP:
                self._rest(device)
        self._tell(device)

    async def remove(self, device: DeviceId) -> None:
        """The device is gone for good, and nothing comes in its place. Durable on return.

        Only one that is drained or struck. Runs to its end if cancelled. Raises: KeyError; InvalidArgument; what the
        ledger raises: called again, it is recorded again.
        """
        with trio.CancelScope(shield=True):
            async with self._turn:  # from here on it cannot come back
                standing = self._standings[device]
                self._set(device, DeviceState.GONE, "it was removed")
                standing.marks += [mark for writer in self.writers for mark in writer.give_up(device)]
                await self._ledger.struck(device, standing.state, str(standing.reason), tuple(standing.marks))
                standing.recorded, standing.owed = True, False
                standing.marks.clear()
        self._tell(device)

    def forget(self, device: DeviceId) -> None:
        """It is none of the store's any more: no identity file names it. What hangs in it may hang on."""
        self._standings.pop(device, None)
        if (old := self.devices.pop(device, None)) is not None:
            close_soon([old.shards])

    def add_tier(self, tier: str, code: Code) -> None:
        """A tier that has no devices yet."""
        self.codes[tier] = code

    def join(self, by: AttachedDevice, device: DeviceId | None = None) -> None:
        """From now on *by* is one of the store's, that has a state: it is to `replace` *device*, or `admit`ted."""
        self.joining[by.id] = device, by
        reason = f"it is taking the place of {self._standings[device].label}" if device else "it is being added"
        self._standings[by.id] = _Standing(by.tier, by.label, DeviceState.JOINING, reason)

    def admit(self, device: AttachedDevice) -> None:
        """It joins no more: it is up."""
        del self.joining[device.id]
        self.devices[device.id] = device
        self._set(device.id, DeviceState.ONLINE, None)
        self._tell(device.id)

    def leave(self, device: DeviceId) -> None:
        """It joins no more: none of the store's."""
        del self.joining[device], self._standings[device]

    async def replace(self, device: DeviceId, by: AttachedDevice) -> None:
        """The device is gone for good, and another one is in its slot and up. Durable on return.

        As long as its folder is there it serves verified reads. Runs to its end if cancelled. Raises: what the ledger
        raises; called again, it is recorded again.
        """
        error = DeviceFailed(f"it was replaced by {by.label}", by.label)
        with trio.CancelScope(shield=True):
            async with self._turn:  # from here on it cannot come back
                self._give_up(device, error, DeviceState.FAILED)
                await self._record(device)
                self._set(device, DeviceState.GONE, str(error))
                await self._ledger.struck(device, DeviceState.GONE, str(error), ())
                self.joining.pop(by.id, None)
                self.devices[by.id] = by
                self._standings.setdefault(by.id, _Standing(by.tier, by.label))
                self._set(by.id, DeviceState.ONLINE, None)
        self._tell(by.id)

    def read_only(self, device: DeviceId, reason: str) -> None:
        """Its file system takes no writes, as the kernel sees to when a disk errs: observed, not recorded."""
        if self._standings[device].state not in STRUCK:
            self._set(device, DeviceState.READ_ONLY, reason)

    def refuse(self, device: DeviceId, error: DeviceError) -> None:
        """It is there again, and may not come back: it stays struck, and `status` says why."""
        standing = self._standings[device]
        if standing.state in STRUCK and standing.reason != str(error):
            standing.reason = str(error)
            _log.error("device_refused", device=standing.label, error=str(error))

    def full(self, device: DeviceId, error: DeviceError) -> None:
        """It had no room: it takes no new volumes for a while. It has not failed. Harmless for one that left
        meanwhile."""
        self._observe(device, DeviceState.FULL, str(error), DEVICE_FULL_S)

    def suspect(self, device: DeviceId, reason: str) -> None:
        """A read of it failed or hangs: it is read last for a while, and whoever repairs hears of it. Harmless for one
        that left meanwhile."""
        standing = self._standings.get(device)
        if standing is None:
            return
        standing.errors += 1
        if standing.state is not DeviceState.FULL:
            self._observe(device, DeviceState.SUSPECT, reason, DEVICE_SUSPECT_S)
        if device in self.devices:
            self.devices[device].doubtful = True
        self._tell(device)

    def doubt(self, device: DeviceId, reason: str, for_s: float) -> None:
        """It is slow beside others, or its disk says that it is failing: it is read last for so long. Harmless for one
        that is not there, or struck."""
        if device in self.devices and self._standings[device].state not in STRUCK | {DeviceState.FULL}:
            self._observe(device, DeviceState.SUSPECT, reason, for_s)
            self.devices[device].doubtful = True

    async def watch(self) -> None:
        """Strike devices that stall, and forget what was observed long ago, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(DEVICE_LOOK_S)
                self.look(nursery)

    def look(self, nursery: trio.Nursery) -> None:
        """Strike whoever misses the deadline, if it is to blame; else say that writes wait: see `Stalls`.

        Strikes run in *nursery*, for one may take long, and others stall meanwhile. So do those again that could not be
        recorded.
        """
        self.stalls.notice_standstill()
        self._forget_observed()
        self._suspect_slow_readers()
        self._record_owed(nursery)
        waited, self.waiting = self.waiting, None
        for tier in self.codes:
            blamed, waiting = self.stalls.judge(tier, nursery)
            for each in blamed:
                nursery.start_soon(self._strike_logged, each.id, self.stalls.error(each))
            self.waiting = waiting or self.waiting
        if self.waiting is not None and waited is None:
            _log.warning("writes_wait", reason=self.waiting)
        elif self.waiting is None and waited is not None:
            _log.warning("writes_go_on")

    def _in_state(self, tier: str, states: frozenset[DeviceState]) -> list[AttachedDevice]:
        return [each for each in self.of(tier) if self._standings[each.id].state in states]

    def _set(self, device: DeviceId, state: DeviceState, reason: str | None) -> None:
        standing = self._standings[device]
        standing.state, standing.reason, standing.until = moved(standing.state, state), reason, float("inf")
        if state in STRUCK and device in self.devices:
            self.devices[device].strike(DeviceFailed(str(reason), standing.label))

    def _observe(self, device: DeviceId, state: DeviceState, reason: str, for_s: float) -> None:
        standing = self._standings.get(device)
        if standing is not None and standing.state not in STRUCK:
            if standing.logged != reason:
                _log.warning("device_state", device=standing.label, state=str(state), reason=reason)
            standing.logged = reason
            until = self.devices[device].clock() + for_s
            if standing.state is state:
                until = max(until, standing.until)
            if not standing.draining:
                self._set(device, state, reason)
            standing.until = until

    def _rest(self, device: DeviceId) -> None:
        """It is up, and nothing is observed of it."""
        if self._standings[device].draining:
            self._set(device, DeviceState.DRAINING, "what it holds is made on others")
        else:
            self._set(device, DeviceState.ONLINE, None)

    def _forget_observed(self) -> None:
        for device in self.devices.values():
            if self._standings[device.id].until <= device.clock():
                self._rest(device.id)
                device.doubtful = False

    def _suspect_slow_readers(self) -> None:
        """Reads go around a device that hangs; nobody is struck for it."""
        for device in self.devices.values():
            if device.stalled(self._deadline_s) and not device.in_doubt:
                self.suspect(device.id, f"a read has not come back for {self._deadline_s:.0f} s")

    def _give_up(self, device: DeviceId, error: DeviceError, state: DeviceState) -> None:
        standing = self._standings[device]
        standing.owed = not standing.recorded
        if standing.state not in STRUCK:
            _log.error("device_struck", device=standing.label, state=str(state), error=str(error))
            self._set(device, state, str(error))
            standing.marks += [mark for writer in self.writers for mark in writer.give_up(device)]
            self._tell(device)

    async def _record(self, device: DeviceId) -> None:
        """Under the turn."""
        standing = self._standings[device]
        if not standing.recorded:
            await self._epoch(device, str(standing.reason))
            await self._ledger.struck(device, standing.state, str(standing.reason), tuple(standing.marks))
            standing.recorded, standing.owed = True, False
            standing.marks.clear()
            self._tell(device)

    def _record_owed(self, nursery: trio.Nursery) -> None:
        """What the ledger did not take: too much waited for it, or it had no room."""
        if not self._turn.locked():
            for ident, standing in self._standings.items():
                if standing.owed:
                    nursery.start_soon(self._strike_logged, ident, DeviceFailed(str(standing.reason), standing.label))

    async def _strike_logged(self, device: DeviceId, error: DeviceFailed) -> None:
        standing = self._standings[device]
        try:
            await self.strike(device, error)
        except StratumError as failure:
            if standing.logged != str(failure):
                _log.error("a strike could not be recorded yet", device=standing.label, error=str(failure))
            standing.logged = str(failure)

    def _tell(self, device: DeviceId) -> None:
        for listener in self.listeners:
            listener(device)

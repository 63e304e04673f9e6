"""Gets the cells of one stripe that a reader wants, from whichever shards can give them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from stratumfs.errors import (
    ColdUnavailable,
    DeviceError,
    DeviceUnasked,
    ShardCorrupt,
    ShardMissing,
    StoreBusy,
    StratumError,
    TooFewShards,
)
from stratumfs.ids import CellIndex, StoreId
from stratumfs.volumes.cells import read_cell
from stratumfs.volumes.format import StripeAt, VolumeInfo
from stratumfs.volumes.source import Source, Sources

OnDamage = Callable[[VolumeInfo, CellIndex, StratumError], None]
"""Told of each bad or missing cell, and by which error; may be called often for one shard."""


@dataclass(frozen=True, slots=True)
class StripeSource:
    """What is needed to read one stripe. devices: those that are up."""

    store: StoreId
    volume: VolumeInfo
    at: StripeAt
    devices: Sources

    def device(self, index: CellIndex) -> Source | None:
        """The device of cell *index*, if it is up."""
        return self.devices.get(self.volume.devices[index])


class Gather:
    """One attempt to get enough of a stripe's cells: the wanted ones, or any k.

    A task for each cell asked for reports to `_changed`; the parent decides whom to ask next. First the wanted cells;
    when one of them is bad or missing, or lies on a device that stalls, others are asked until k cells are good. A cell
    that takes longer than the hedge delay counts as not coming, but is welcome if it comes first. Readers past the end
    abandon their threads, which keep their slots on that device alone.
    """

    def __init__(self, source: StripeSource, wanted: Sequence[CellIndex], hedge_s: float, on_damage: OnDamage) -> None:
        self.good: dict[CellIndex, memoryview] = {}
        self._source = source
        self._wanted = frozenset(wanted)
        self._hedge_s = hedge_s
        self._on_damage = on_damage
        self._bad: dict[CellIndex, str] = {}
        self._unasked: StratumError | None = None  # says nothing of any shard
        self._late: set[CellIndex] = set()
        self._pending: set[CellIndex] = set()
        self._untried = self._in_order()
        self._changed = trio.Event()

    async def run(self, good: Mapping[CellIndex, memoryview]) -> None:
        """Fill ``self.good`` with all wanted cells, or with k cells of any kind; *good* are those at hand.

        Raises: TooFewShards if there are not enough; DeviceUnasked if that is for want of descriptors; ColdUnavailable,
        StoreBusy of what keeps cold volumes.
        """
        self.good.update(good)
        self._untried = [index for index in self._untried if index not in good]
        async with trio.open_nursery() as nursery:
            while not self._enough():
                self._ask(nursery)
                if not self._pending:
                    break
                with trio.move_on_after(self._hedge_s) as hedge:
                    await self._changed.wait()
                if hedge.cancelled_caught:
                    self._late |= self._pending
                self._changed = trio.Event()
            nursery.cancel_scope.cancel()
        if not self._enough():
            raise self._unasked or self._too_few()

    def _enough(self) -> bool:
        return self._wanted <= self.good.keys() or len(self.good) >= self._source.volume.code.k

    def _in_order(self) -> list[CellIndex]:
        """Wanted cells before others, data before parity, cells on a device in doubt last."""
        indexes = [CellIndex(number) for number in range(self._source.volume.code.n)]
        return sorted(indexes, key=lambda index: (self._in_doubt(index), index not in self._wanted, index))

    def _in_doubt(self, index: CellIndex) -> bool:
        device = self._source.device(index)
        return device is not None and (device.in_doubt or device.stalled(self._hedge_s))

    def _ask(self, nursery: trio.Nursery) -> None:
        """Start reads until the cells that are here or expected would do."""
        while self._untried and not self._would_do():
            index = self._untried.pop(0)
            device = self._source.device(index)
            if device is None:
                self._bad[index] = "its device is not up"
            else:
                self._pending.add(index)
                nursery.start_soon(self._read, index, device)

    def _would_do(self) -> bool:
        expected = self.good.keys() | (self._pending - self._late)
        return self._wanted <= expected or len(expected) >= self._source.volume.code.k

    async def _read(self, index: CellIndex, device: Source) -> None:
        source = self._source
        try:
            self.good[index] = await device.read(
                read_cell, device.shards, source.store, source.volume, index, source.at
            )
        except (DeviceUnasked, ColdUnavailable, StoreBusy) as error:
            self._unasked, self._bad[index] = error, str(error)
        except (ShardCorrupt, ShardMissing, DeviceError) as error:
            self._bad[index] = str(error)
            self._on_damage(source.volume, index, error)
        self._pending.discard(index)
        self._changed.set()

    def _too_few(self) -> TooFewShards:
        volume, at = self._source.volume, self._source.at
        reasons = "; ".join(f"{index}: {reason}" for index, reason in sorted(self._bad.items()))
        return TooFewShards(
            f"volume {volume.id.hex()}, stripe {at.stripe}: {len(self.good)} good cells where {volume.code.k} "
            f"are needed ({reasons})"
        )

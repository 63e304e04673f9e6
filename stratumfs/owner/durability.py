"""The ledger of durability: of an object, of all below a name, or of the store, what is verified, what losses it
survives now, and how likely a loss is within a year."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from stratumfs.catalog.below import bytes_of, children, is_directory
from stratumfs.catalog.damage import rebuilt
from stratumfs.catalog.described import described
from stratumfs.catalog.reap import usage
from stratumfs.catalog.scrubs import verified_at
from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, volume, volumes
from stratumfs.ids import MIB, ROOT_INODE, DeviceId, InodeNo, VolumeId
from stratumfs.limits import ANSWER_WAIT_S, LEDGER_S, TRANSACTION_ROWS_MAX
from stratumfs.owner.wire import Running
from stratumfs.store.survives import Good, good_shards, survives
from stratumfs.volumes.loss import any_of, yearly_loss

AFR = 0.02
"""Of devices: what large operators publish of their disks lies between 0.01 and 0.02."""
RATE_ASSUMED = 50 * MIB
"""Bytes a second that a rebuild writes, until one was measured."""
REPLACED_S = 24 * 3600.0
"""Until somebody has put a device in the place of one that failed, where no other one can take its shards."""
VOLUMES_SHOWN_MAX = 1000


@dataclass(slots=True)
class _Ledger:
    inodes: int = 0
    bytes: int = 0
    inline_bytes: int = 0
    shards: int = 0
    good: int = 0
    verified: int = 0
    oldest_ns: int | None = None
    volumes: int = 0
    elsewhere: int = 0
    open: int = 0
    alike: Counter[tuple[Good, int, int]] = field(default_factory=Counter)
    short: bool = False
    shown: list[dict[str, Any]] = field(default_factory=list)


async def durability(
    running: Running,
    *,
    inode: int | None = None,
    bucket: str | None = None,
    key: str | None = None,
    look: bool = True,
) -> dict[str, Any]:
    """As plain values for JSON; without a name of the whole store. *look* at the devices first, if that is quick; else
    it is as the last look has found them. Raises: NotFound, NoSuchBucket, NoSuchObject."""
    store, ledger = running.store, _Ledger()
    if look:
        with trio.move_on_after(ANSWER_WAIT_S):
            await store.repairer.wait_looked()
    whole = inode in (None, ROOT_INODE) and bucket is None
    if whole:
        used = await store.catalog.read(usage)
        ledger.bytes, ledger.inline_bytes = used.live_bytes + used.inline_bytes, used.inline_bytes
        ledger.inodes = await store.files.count()
        async for row in _all(running, elsewhere=True):
            await _add(running, ledger, row)
        path = b""
    else:
        ino = await running.mover.find(inode, bucket, key)
        path = (await store.catalog.read(described, ino)).path
        for ident in await _named(running, ledger, ino):
            found = await store.catalog.read(volume, ident)
            if found is not None:
                await _add(running, ledger, found)
    return {"path": path.decode("utf-8", "replace"), **await _told(running, ledger, whole)}


class Standing:
    """The ledger of the whole store for who asks often: it is at most `LEDGER_S` old. One caller at a time."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._found: dict[str, Any] | None = None
        self._at = float("-inf")

    async def __call__(self) -> dict[str, Any]:
        if self._found is None or trio.current_time() - self._at >= LEDGER_S:
            self._found, self._at = await durability(self._running, look=False), trio.current_time()
        return self._found


async def _told(running: Running, ledger: _Ledger, whole: bool) -> dict[str, Any]:
    store = running.store
    survival = survives(store, [good for good, _, _ in ledger.alike])
    if ledger.volumes == 0 and not whole:  # all of it is in the catalog
        disks = store.catalog.disks or (None,)
        devices_survived, disks_survived = len(disks) - 1, len(set(disks)) - 1
    else:
        devices_survived, disks_survived = survival.devices, survival.disks
    rebuild = await _rebuild(running)
    chances = [yearly_loss(n, m, n - len(good[1]), AFR, rebuild["rebuild_s"]) for good, n, m in ledger.alike]
    if ledger.inline_bytes or whole:
        places = max(1, len(store.catalog.disks))
        chances.append(yearly_loss(places, places - 1, 0, AFR, rebuild["rebuild_s"]))
    verified_all = ledger.verified == ledger.shards - ledger.open
    return {
        "inodes": ledger.inodes,
        "bytes": ledger.bytes,
        "inline_bytes": ledger.inline_bytes,
        "volumes": ledger.volumes,
        "volumes_elsewhere": ledger.elsewhere,
        "shards": ledger.shards,
        "shards_good": ledger.good,
        "shards_verified": ledger.verified,
        "shards_not_sealed": ledger.open,
        "oldest_verified": ledger.oldest_ns / 1e9 if ledger.oldest_ns is not None else None,
        "devices_survived": devices_survived,
        "disks_survived": disks_survived,
        "green": not ledger.short and verified_all,
        "yearly_loss": any_of(chances),
        "assumptions": {"afr": AFR, **rebuild},
        "shown": ledger.shown,
    }


async def _add(running: Running, ledger: _Ledger, row: VolumeRow) -> None:
    store = running.store
    if row.remote:
        ledger.elsewhere += 1
        return
    good = good_shards(store, row, store.repairer.seen.missing.get(row.id, ()))
    looked = await store.catalog.read(verified_at, row.id)
    n = row.k + row.m
    ledger.volumes += 1
    ledger.shards += n
    ledger.good += len(good[1])
    ledger.verified += len(looked)
    ledger.open += n if row.state == OPEN else 0
    ledger.short |= len(good[1]) < n
    ledger.alike[good, n, row.m] += 1
    if looked:
        ledger.oldest_ns = min(ledger.oldest_ns or min(looked.values()), *looked.values())
    if len(ledger.shown) < VOLUMES_SHOWN_MAX:
        survived = survives(store, [good])
        ledger.shown.append(
            {
                "id": row.id.hex(),
                "tier": row.tier,
                "k": row.k,
                "m": row.m,
                "devices_survived": survived.devices,
                "disks_survived": survived.disks,
                "shards": list(_shards(running, row, good[1], looked)),
            }
        )


def _shards(
    running: Running, row: VolumeRow, good: Collection[DeviceId], looked: Mapping[Any, int]
) -> Iterator[dict[str, Any]]:
    for cell, device in enumerate(row.devices):
        entry = running.folders.entry(device)
        yield {
            "cell": cell,
            "device": str(entry.path) if entry is not None else device.hex(),
            "good": device in good,
            "verified": looked[cell] / 1e9 if cell in looked else None,
        }


async def _rebuild(running: Running) -> dict[str, Any]:
    """How long a device's shards are exposed when it fails: of the fullest one, at the rate of the rebuilds so far."""
    store = running.store
    count, took_ns = await store.catalog.read(rebuilt)
    rate = count / (took_ns / 1e9) if count and took_ns else float(RATE_ASSUMED)
    held: Counter[DeviceId] = Counter()
    async for row in _all(running):
        held.update(dict.fromkeys(row.devices, row.length))
    fullest = max(held.values(), default=0)
    spare = len(store.fleet.taking(store.tier)) > store.code.n
    return {
        "rebuild_s": max(1.0, fullest / rate) + (0.0 if spare else REPLACED_S),
        "rebuild_bytes": fullest,
        "rebuild_rate": rate,
        "rebuild_measured": bool(count and took_ns),
        "replaced_s": 0.0 if spare else REPLACED_S,
    }


async def _all(running: Running, *, elsewhere: bool = False) -> AsyncIterator[VolumeRow]:
    """With data; those that lie on no device of ours only where they are asked for."""
    catalog = running.store.catalog
    for state in (OPEN, SEALED):
        after = b""
        while rows := await catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
            after = rows[-1].id
            for row in rows:
                if row.live and (elsewhere or not row.remote):
                    yield row
            await trio.lowlevel.checkpoint()


async def _named(running: Running, ledger: _Ledger, top: InodeNo) -> dict[VolumeId, None]:
    """The volumes of all files below *top*; the ledger counts these."""
    catalog, found = running.store.catalog, dict[VolumeId, None]()
    waiting = [(top, await catalog.read(is_directory, top))]
    while waiting:
        ino, directory = waiting.pop()
        ledger.inodes += 1
        if directory:
            name: bytes | None = b""
            while name is not None:
                below, name = await catalog.read(children, ino, name)
                waiting += below
                await trio.lowlevel.checkpoint()
            continue
        offset: int | None = -1
        while offset is not None:
            counted, offset = await catalog.read(bytes_of, ino, offset)
            for ident, count in counted.items():
                ledger.bytes += count
                if ident is None:
                    ledger.inline_bytes += count
                else:
                    found[ident] = None
            await trio.lowlevel.checkpoint()
    return found

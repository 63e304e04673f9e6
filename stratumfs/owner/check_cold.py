"""What fsck.stratumfs(8) says of the cold tier: nothing there is changed by it."""

from stratumfs.catalog.volumes import SEALED, volume_summary
from stratumfs.config import COLD, Settings
from stratumfs.errors import ConfigError, DeviceError
from stratumfs.owner import wire
from stratumfs.owner.cold import open_cold
from stratumfs.repair.check_rows import Told
from stratumfs.repair.findings import Outcome, Report
from stratumfs.store.remote_look import RemoteLook
from stratumfs.threads import in_thread
from tiering.costs import price_list

_BAD = "objects of the cold tier that are damaged or missing"
_WITHHELD = "objects of the cold tier that the service does not give"
_UNKNOWN = "objects of the cold tier that no row knows"
_NOT_LOOKED = "a cold tier that cannot be looked at"


async def check_cold(parts: wire.Parts, settings: Settings, report: Report, told: Told, *, full: bool) -> None:
    """If the store has one."""
    if settings.cold is None:
        return
    places = [parts.folders.folder, *(each.path for each in parts.folders.attached.facts.values())]
    store = parts.folders.identity.store
    offsite = await in_thread(open_cold, store, settings.cold, places, settings)
    if offsite.master is None:
        report.add(_NOT_LOOKED, offsite.locked, Outcome.LEFT)
        return
    summary = await parts.catalog.read(volume_summary)
    total = sum(count for tier, state, _, _, count, _ in summary if (tier, state) == (COLD, SEALED))

    async def step(_: float, done: int) -> None:
        told("objects of the cold tier", done, total)

    look = RemoteLook(store, COLD, parts.catalog, offsite.remote, offsite.master)
    try:
        found = await look.look(full=full, step=step)
    except (DeviceError, ConfigError) as error:
        report.add(_NOT_LOOKED, error, Outcome.LEFT)
        return
    finally:
        offsite.remote.close()
    report.objects += found.volumes
    report.object_bytes += found.bytes
    (price,) = price_list({COLD: settings.cold}, 0.0).tiers
    report.object_usd += price.usd_get * found.requests + price.read_usd(found.bytes) - price.read_usd(0)
    for ident, reason in found.bad.items():
        report.add(_BAD, f"{ident.hex()}: {reason}", Outcome.LEFT)
    for ident, why in found.withheld.items():
        report.add(_WITHHELD, f"{ident.hex()}: {why}", Outcome.LEFT)
    for each in found.unknown:
        whose = f"of volume {each.volume.hex()}" if each.volume is not None else "none of ours, or damaged"
        done = "the next owner removes it" if each.stale else "kept"
        report.add(_UNKNOWN, f"{each.name}: {whose}, {each.size} bytes", Outcome.NOTED, done)

"""Identity files repeat what the catalog says of devices: see `stratumfs.catalog.standings`.

Who fails in it is judged by the catalog's rounds; what a stop, or a place that is slow, leaves out the next opening
writes.
"""

from collections.abc import Sequence

import structlog
import trio

from stratumfs.catalog.devices import standings
from stratumfs.catalog.engine import Catalog
from stratumfs.devices.health import DeviceState
from stratumfs.errors import StratumError
from stratumfs.ids import DeviceId
from stratumfs.limits import STANDINGS_S
from stratumfs.store.ledger import CatalogLedger
from stratumfs.volumes.fleet import SealMark

_log = structlog.get_logger(__name__)


class StandingsLedger(CatalogLedger):
    """Tells them of each change that the catalog has by then."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._told = catalog

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None:
        await super().struck(device, state, reason, marks)
        await self.tell()

    async def restored(self, device: DeviceId) -> None:
        await super().restored(device)
        await self.tell()

    async def drained(self, device: DeviceId, wanted: bool) -> None:
        await super().drained(device, wanted)
        await self.tell()

    async def tell(self) -> None:
        """Return when they say what rows say, or after a while: writes may wait for a strike."""
        with trio.move_on_after(STANDINGS_S):
            try:
                await self._told.aside.name_standings(await self._told.read(standings))
            except StratumError as error:
                _log.warning("identity files do not say yet how devices stand", error=str(error))

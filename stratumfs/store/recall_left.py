"""Keeps what is left of the budget of recall over restarts, or whoever restarts an owner would have it full again."""

import time

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.recalls import RecallLeft, recall_left, save_recall_left
from stratumfs.cold_limits import RECALL_LEFT_S
from stratumfs.errors import StratumError
from stratumfs.shards.budget import RecallBudget

_log = structlog.get_logger(__name__)


class KeptBudget:
    """Of one tier; on the loop. A crash forgets what was recalled in the last ``RECALL_LEFT_S``."""

    def __init__(self, tier: str, catalog: Catalog, budget: RecallBudget) -> None:
        self._tier, self._catalog, self._budget = tier, catalog, budget
        self._spent = 0.0

    async def serve(self) -> None:
        """Until cancelled."""
        if self._budget.left() is None:
            return
        while True:
            await trio.sleep(RECALL_LEFT_S)
            await self.save()

    async def resume(self) -> None:
        """Go on with what the last owner left. Raises: StratumError."""
        found = await self._catalog.read(recall_left, self._tier)
        if found is not None:
            self._budget.resume((found.bytes, found.micro_usd), time.time() - found.at_s)

    async def save(self) -> None:
        """Write it down if anything was recalled since."""
        left, spent = self._budget.left(), self._budget.bytes.spent
        if left is None or spent == self._spent or self._catalog.read_only:
            return
        try:
            await self._catalog.write(save_recall_left, self._tier, RecallLeft(*left, int(time.time())))
            self._spent = spent
        except StratumError as error:
            _log.warning("recall_budget_not_written", tier=self._tier, error=str(error))

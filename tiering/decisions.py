"""Writes down what was decided, before a byte of it moves, and what became of it."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import structlog
import trio

from stratumfs.catalog.decisions import (
    SUPERSEDED,
    Decision,
    NewDecision,
    begin_decisions,
    decide,
    end_decisions,
    open_decisions,
    trim_decisions,
)
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo
from stratumfs.limits import DECISIONS_KEPT, DECISIONS_KEPT_S, RESIDENCES
from tiering.record import from_text, to_text
from tiering.verdict import Verdict

_log = structlog.get_logger(__name__)


class DecisionLog:
    """Of one engine, on its loop. What is noted here is in memory until `write`."""

    def __init__(self, catalog: Catalog, tiers: Sequence[str]) -> None:
        self._catalog, self._tiers = catalog, tiers
        self._new: dict[int, Verdict] = {}
        self._rows: dict[int, int] = {}
        self._ended: list[tuple[int, str]] = []
        self._turn = trio.Lock()

    def add(self, verdict: Verdict) -> None:
        """It waits to be carried out; an earlier one of the same object that waits is superseded by it."""
        self._new[verdict.key] = verdict

    def drop(self, key: int, outcome: str = SUPERSEDED) -> None:
        """It waits no more."""
        self._new.pop(key, None)
        ident = self._rows.pop(key, None)
        if ident is not None:
            self._ended.append((ident, outcome))

    def end(self, ident: int, outcome: str) -> None:
        self._ended.append((ident, outcome))

    async def write(self) -> None:
        """Raises: StratumError of the catalog; what was not written is, next time."""
        async with self._turn:  # both tasks of the engine write
            await self._write()

    async def _write(self) -> None:
        while self._new:
            keys = list(self._new)[:RESIDENCES]
            verdicts = [self._new[key] for key in keys]
            idents = await self._catalog.write(decide, tuple(map(self._row, verdicts)))
            for key, verdict, ident in zip(keys, verdicts, idents, strict=True):
                if self._new.get(key) is verdict:
                    del self._new[key]
                    self._rows[key] = ident
                else:  # dropped, or decided anew, meanwhile
                    self._ended.append((ident, SUPERSEDED))
            await trio.lowlevel.checkpoint()
        while self._ended:
            chunk = tuple(self._ended[:RESIDENCES])
            await self._catalog.write(end_decisions, chunk, time.time_ns())
            del self._ended[: len(chunk)]
            await trio.lowlevel.checkpoint()

    async def begin(self, keys: Collection[int], batch: bytes) -> dict[int, int]:
        """They are carried out now, as one batch. Returns the row of each. Raises: as `write`; their rows are ended."""
        # What a look decided since the last `write` has no row yet, or that of the decision before it. Taken before the
        # first await, so that what is decided next about the same object is told apart.
        new = {key: self._new.pop(key) for key in keys if key in self._new}
        rows = {key: self._rows.pop(key) for key in keys if key in self._rows}
        try:
            async with self._turn:
                verdicts = tuple(new.items())
                for start in range(0, len(verdicts), RESIDENCES):
                    chunk = verdicts[start : start + RESIDENCES]
                    idents = await self._catalog.write(decide, tuple(self._row(verdict) for _, verdict in chunk))
                    rows |= zip((key for key, _ in chunk), idents, strict=True)
                await self._catalog.write(begin_decisions, tuple(rows.values()), batch)
        except StratumError as error:
            self._ended += ((ident, f"failed: {error}") for ident in rows.values())
            raise
        return rows

    async def unfinished(self) -> list[tuple[Decision, Verdict]]:
        """What the last owner left, oldest first; what cannot be read of it is ended."""
        found: list[tuple[Decision, Verdict]] = []
        after = 0
        while rows := await self._catalog.read(open_decisions, after):
            after = rows[-1].id
            for row in rows:
                try:
                    found.append((row, self._numbered(row)))
                except ValueError as error:
                    _log.warning("a decision cannot be read", decision=row.id, error=str(error))
                    self.end(row.id, f"failed: {error}")
            await trio.lowlevel.checkpoint()
        return found

    def _numbered(self, row: Decision) -> Verdict:
        """A tier that was added since has given others another number. Raises: ValueError."""
        source, target = self._tiers.index(row.source), self._tiers.index(row.target)
        return replace(from_text(row.inputs), source=source, target=target)

    def adopt(self, key: int, ident: int) -> None:
        """A decision of the last owner waits again, under its row."""
        self.drop(key)
        self._rows[key] = ident

    async def trim(self, now_ns: int) -> None:
        before_ns = now_ns - int(DECISIONS_KEPT_S * 1e9)
        while await self._catalog.write(trim_decisions, DECISIONS_KEPT, before_ns):
            await trio.lowlevel.checkpoint()

    def _row(self, verdict: Verdict) -> NewDecision:
        assert verdict.source is not None
        return NewDecision(
            InodeNo(verdict.key),
            int(verdict.now * 1e9),
            self._tiers[verdict.source],
            self._tiers[verdict.target],
            str(verdict.cause),
            int(verdict.inputs.use.size),
            to_text(verdict),
        )


def latest(found: Iterable[tuple[Decision, Verdict]]) -> dict[int, tuple[Decision, Verdict]]:
    """By object, the last one of each."""
    return {verdict.key: (row, verdict) for row, verdict in found}

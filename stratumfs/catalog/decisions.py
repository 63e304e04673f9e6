"""What the tier engine decided to move, and why: a bounded log, and what the next owner goes on with.

A decision has a row from before its first byte moves. Those that are carried out together share a batch. What a batch
takes along is in no row of ``moved`` any more: of such an inode the last decision that was carried out says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import path_of_inode
from stratumfs.ids import InodeNo

DONE, SUPERSEDED, GONE = "done", "superseded", "gone"
"""Outcomes that are no failure: a later decision came first; the object was removed, or its bytes are others."""

_COLUMNS = "id, ino, path, at_ns, source, target, cause, size, inputs, batch, ended_ns, outcome"


@dataclass(frozen=True, slots=True)
class NewDecision:
    """inputs: JSON"""

    ino: InodeNo
    at_ns: int
    source: str
    target: str
    cause: str
    size: int
    inputs: str


@dataclass(frozen=True, slots=True)
class Decision:
    """path: ``bucket/key`` at that time; batch: None until it begins; outcome: empty until it ends."""

    id: int
    ino: InodeNo
    path: bytes
    at_ns: int
    source: str
    target: str
    cause: str
    size: int
    inputs: str
    batch: bytes | None
    ended_ns: int | None
    outcome: str


def decide(tx: Transaction, decisions: Sequence[NewDecision]) -> list[int]:
    """Record some 50 decisions. Returns their ids. One of the same inode that has not begun is superseded."""
    idents = []
    for each in decisions:
        tx.run(
            "update decision set ended_ns = ?, outcome = ? where ino = ? and ended_ns is null and batch is null",
            (each.at_ns, SUPERSEDED, each.ino),
        )
        row = tx.one("select coalesce(max(id), 0) + 1 from decision")
        assert row is not None
        tx.run(
            "insert into decision values (?, ?, ?, ?, ?, ?, ?, ?, ?, null, null, '')",
            (
                row[0],
                each.ino,
                path_of_inode(tx, each.ino),
                each.at_ns,
                each.source,
                each.target,
                each.cause,
                each.size,
                each.inputs,
            ),
        )
        idents.append(row[0])
    return idents


def begin_decisions(tx: Transaction, idents: Sequence[int], batch: bytes) -> None:
    for ident in idents:
        tx.run("update decision set batch = ? where id = ?", (batch, ident))


def end_decisions(tx: Transaction, outcomes: Sequence[tuple[int, str]], now_ns: int) -> None:
    """(id, outcome) each."""
    for ident, outcome in outcomes:
        tx.run(
            "update decision set ended_ns = ?, outcome = ? where id = ? and ended_ns is null", (now_ns, outcome, ident)
        )


def open_decisions(tx: Transaction, after: int, limit: int = 200) -> list[Decision]:
    """Those that have not ended, oldest first."""
    return _found(tx, "ended_ns is null and id > ? order by id limit ?", (after, limit))


def decisions_since(
    tx: Transaction, since_ns: int, before: int | None, ino: InodeNo | None = None, limit: int = 200
) -> list[Decision]:
    """A page of the log, newest first: behind *before* (an id), of one inode if that is given."""
    upto = before if before is not None else (1 << 62)
    if ino is None:
        return _found(tx, "at_ns >= ? and id < ? order by id desc limit ?", (since_ns, upto, limit))
    return _found(tx, "ino = ? and at_ns >= ? and id < ? order by id desc limit ?", (ino, since_ns, upto, limit))


def last_decision(tx: Transaction, ino: InodeNo, until_ns: int | None = None) -> Decision | None:
    """Of those that were carried out, by *until_ns* if that is given."""
    until = until_ns if until_ns is not None else (1 << 62)
    found = _found(tx, "ino = ? and outcome = ? and ended_ns <= ? order by id desc limit 1", (ino, DONE, until))
    return found[0] if found else None


def decision_after(tx: Transaction, ino: InodeNo, after_ns: int) -> Decision | None:
    """The first that was carried out later: it says where the object was before."""
    found = _found(tx, "ino = ? and outcome = ? and ended_ns > ? order by id limit 1", (ino, DONE, after_ns))
    return found[0] if found else None


def trim_decisions(tx: Transaction, keep: int, before_ns: int, limit: int = 50) -> bool:
    """Forget a chunk of those that have ended: all but the newest *keep*, and those from before *before_ns*.

    What has not ended is passed over: it may wait for as long as a tier cannot be reached. True if there is more to do.
    """
    row = tx.one("select max(id) from decision")
    newest = row[0] if row is not None and row[0] is not None else 0
    rows = tx.all("select id, at_ns from decision where ended_ns is not null order by id limit ?", (limit,))
    gone = 0
    for ident, at_ns in rows:
        if (ident > newest - keep and at_ns >= before_ns) or ident == newest:
            return False
        tx.run("delete from decision where id = ?", (ident,))
        gone += 1
    return gone == limit


def _found(tx: Transaction, where: str, args: Sequence[int | str | bytes]) -> list[Decision]:
    rows = tx.all(f"select {_COLUMNS} from decision where {where}", args)  # noqa: S608 - our own words
    return [Decision(*row) for row in rows]

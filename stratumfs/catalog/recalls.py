"""What was left of the budget of recall, and when: the next owner goes on with it."""

from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction

_BYTES, _MICRO_USD, _AT = "recall_left", "recall_left_usd", "recall_left_at"


@dataclass(frozen=True, slots=True)
class RecallLeft:
    """micro_usd: in millionths of a dollar; at_s: since the epoch."""

    bytes: int
    micro_usd: int
    at_s: int


def recall_left(tx: Transaction, tier: str) -> RecallLeft | None:
    """None: nobody has written it down."""
    names = [f"{tier}_{name}" for name in (_BYTES, _MICRO_USD, _AT)]
    found = dict(tx.all("select name, value from counter where name in (?, ?, ?)", tuple(names)))
    return RecallLeft(*(found[name] for name in names)) if len(found) == len(names) else None


def save_recall_left(tx: Transaction, tier: str, left: RecallLeft) -> None:
    for name, value in ((_BYTES, left.bytes), (_MICRO_USD, left.micro_usd), (_AT, left.at_s)):
        if not tx.run("update counter set value = ? where name = ?", (value, f"{tier}_{name}")):
            tx.run("insert into counter values (?, ?)", (f"{tier}_{name}", value))

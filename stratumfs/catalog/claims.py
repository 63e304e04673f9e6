"""By which random number a store says at a remote that it is the one whose objects lie there.

A catalog that was copied or brought back has the number of then, and another one's marker tells it that it is not the
only one. Two are kept: a marker is written between the rows that announce it and confirm it.
"""

from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction

_KEPT, _NEXT = "claim", "claim_next"


@dataclass(frozen=True, slots=True)
class Claims:
    """Numbers that a marker of ours may have. kept: None: none was ever known to lie there; next: was to come there."""

    kept: int | None
    next: int | None


def claims(tx: Transaction, tier: str) -> Claims:
    names = (f"{tier}_{_KEPT}", f"{tier}_{_NEXT}")
    found = dict(tx.all("select name, value from counter where name in (?, ?)", names))
    return Claims(*(found.get(name) for name in names))


def announce_claim(tx: Transaction, tier: str, number: int) -> None:
    """A marker with this number is about to be written."""
    _set(tx, f"{tier}_{_NEXT}", number)


def confirm_claim(tx: Transaction, tier: str, number: int) -> None:
    """It was."""
    _set(tx, f"{tier}_{_KEPT}", number)


def forget_claims(tx: Transaction, tier: str) -> None:
    """Of a catalog that was made again: whose the objects are by now it cannot say."""
    tx.run("delete from counter where name in (?, ?)", (f"{tier}_{_KEPT}", f"{tier}_{_NEXT}"))


def _set(tx: Transaction, name: str, number: int) -> None:
    if not tx.run("update counter set value = ? where name = ?", (number, name)):
        tx.run("insert into counter values (?, ?)", (name, number))

"""By which random number a store says at a remote that it is the one whose objects lie there.

A catalog that was copied or brought back has the number of then, and another one's marker tells it that it is not the
only one. Two are kept: a marker is written between the rows that announce it and confirm it.
"""

from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction

_KEPT, _NEXT, _SINCE = "claim", "claim_next", "claim_since"


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


def confirm_claim(tx: Transaction, tier: str, number: int, put_s: int | None = None) -> None:
    """It was, then by the clock of the service; None: nobody has asked it."""
    _set(tx, f"{tier}_{_KEPT}", number)
    if put_s is not None and claimed_since(tx, tier) is None:
        _set(tx, f"{tier}_{_SINCE}", put_s)


def claimed_since(tx: Transaction, tier: str) -> int | None:
    """Since when this very catalog knows of all that is put there, in seconds by the clock of the service, for ours may
    have been wrong then; None: it does not claim the tier."""
    row = tx.one("select value from counter where name = ?", (f"{tier}_{_SINCE}",))
    return int(row[0]) if row is not None else None


def forget_claims(tx: Transaction, tier: str) -> None:
    """Of a catalog that was made again: whose the objects are by now it cannot say."""
    for name in (_KEPT, _NEXT, _SINCE):
        tx.run("delete from counter where name = ?", (f"{tier}_{name}",))


def renew_claim(tx: Transaction, tier: str) -> None:
    """It is claimed from whoever else has it: what he put there is not known here."""
    tx.run("delete from counter where name = ?", (f"{tier}_{_SINCE}",))


def _set(tx: Transaction, name: str, number: int) -> None:
    if not tx.run("update counter set value = ? where name = ?", (number, name)):
        tx.run("insert into counter values (?, ?)", (name, number))

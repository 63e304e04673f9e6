"""The last transaction behind which some bytes lie where no table of contents says, until an image is younger.

A later owner asks: what the one before waited for with the place that they came from, he did not write down elsewhere.
"""

from stratumfs.catalog.state import GET_STATE
from stratumfs.catalog.transaction import Transaction

_NAME = "untold"


def note_untold(tx: Transaction) -> None:
    """It is this one."""
    row = tx.one(GET_STATE, ("sequence",))
    assert row is not None
    if not tx.run("update counter set value = ? where name = ?", (row[0] + 1, _NAME)):
        tx.run("insert into counter values (?, ?)", (_NAME, row[0] + 1))


def untold(tx: Transaction) -> int:
    """0: there was none."""
    row = tx.one("select value from counter where name = ?", (_NAME,))
    return int(row[0]) if row is not None else 0

"""What lies in the cold tier too, of what was brought back."""

from collections.abc import Sequence
from typing import Any

from stratumfs.catalog.clean import clean_runs, forget_clean, has_stale, keep_clean
from stratumfs.catalog.transaction import Transaction, Value
from stratumfs.catalog.volumes import empty_volumes, free_volumes, insert_volume
from stratumfs.ids import KIB, DeviceId, Nonce, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.values import MovedRun
from tests.stratumfs.catalog.tables import Tables

MIB = STRIPE_PAYLOAD_MAX
HOT, COLD, OTHER = (VolumeId(bytes([number]) * 16) for number in (1, 2, 3))
DEVICE = DeviceId(bytes(16))
UNTIL = 1000


def hot(at: int = 0) -> Location:
    return Location(HOT, StripeNo(0), 0, MIB // 4, 0, Nonce((1 << 64) - 1)).advanced(at)


def cold(at: int = 0) -> Location:
    return Location(COLD, StripeNo(5), 5 * (MIB + 128), MIB, 0, Nonce(77)).advanced(at)


def tables() -> Tables:
    made = Tables()
    for ident, tier, k in ((HOT, "hot", 4), (COLD, "cold", 1), (OTHER, "cold", 1)):
        insert_volume(made.tx, ident, tier, k, 0, [DEVICE] * k, 1)
        made.tx.run("update volume set state = 'sealed', stripes = 100, length = 1000 where id = ?", (ident,))
    return made


def found_of(tx: Transaction, runs: Sequence[tuple[Location, int]], now_ns: int) -> list[MovedRun]:
    found, rest = clean_runs(tx, runs, now_ns)
    assert rest == []
    return found


def test_parts_of_what_was_brought_back_are_found_where_they_lie() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), 3 * MIB, hot()), UNTIL)
    [found] = found_of(tx, [(hot(MIB + 5), MIB)], 0)
    assert (found.source, found.length, found.target) == (hot(MIB + 5), MIB, cold(MIB + 5))
    [found] = found_of(tx, [(hot(2 * MIB + 9), 10 * MIB)], 0)
    assert (found.source, found.length, found.target) == (hot(2 * MIB + 9), MIB - 9, cold(2 * MIB + 9))
    assert found_of(tx, [(hot(3 * MIB), MIB)], 0) == []
    assert found_of(tx, [(hot(), MIB)], UNTIL) == []


def test_another_write_of_the_same_stripes_is_not_taken_for_them() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    other = Location(HOT, StripeNo(0), 0, MIB // 4, 0, Nonce(5))
    assert found_of(tx, [(other, MIB)], 0) == []


def test_a_row_with_a_flipped_bit_is_as_if_it_were_not_there() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    for column in ("cold_stripe", "cold_position", "length", "cold_nonce", "position"):
        tx.run(f"update clean set {column} = {column} + 1")
        assert found_of(tx, [(hot(), MIB)], 0) == []
        tx.run(f"update clean set {column} = {column} - 1")
    assert found_of(tx, [(hot(), MIB)], 0)


def test_its_cold_volume_is_kept_as_long_as_it_says_and_not_longer() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    assert COLD not in empty_volumes(tx, UNTIL - 1)
    assert {COLD, OTHER} <= set(empty_volumes(tx, UNTIL))
    assert not has_stale(tx, UNTIL - 1)
    assert has_stale(tx, UNTIL)
    assert forget_clean(tx, UNTIL) == 1
    free_volumes(tx, [COLD], UNTIL)
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    assert found_of(tx, [(hot(), MIB)], 0) == []  # it goes


def test_short_runs_are_not_remembered() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), 1000, hot()), UNTIL)
    assert not has_stale(tx, UNTIL)


class Counting:
    """seen: rows that statements gave."""

    def __init__(self, tx: Transaction) -> None:
        self._tx, self.seen, self.asked = tx, 0, 0

    def all(self, sql: str, args: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        found = self._tx.all(sql, args)
        self.seen += len(found)
        self.asked += 1
        return found


PIECE = 64 * KIB
PIECES = 4096


def in_pieces() -> Transaction:
    """As many rows of one volume as it can have."""
    tx = tables().tx
    for number in range(PIECES):
        keep_clean(tx, MovedRun(cold(number * PIECE), PIECE, hot(number * PIECE)), UNTIL)
    return tx


def test_a_transaction_looks_at_few_rows_and_all_are_found_in_the_end() -> None:
    tx = in_pieces()
    for size in (PIECE, 3 * PIECE - 5, 32 * MIB, PIECES * PIECE):
        runs = [(hot(at), min(size, PIECES * PIECE - at)) for at in range(0, PIECES * PIECE, size)]
        rest, found = list(runs), list[MovedRun]()
        rows = steps = 0
        while rest:
            counting = Counting(tx)
            more, left = clean_runs(counting, rest[:100], 0)  # type: ignore[arg-type]  # it is all that is asked of it
            found += more
            rest[:100] = left
            assert counting.seen + counting.asked <= 402
            rows += counting.seen
            steps += 1
        assert rows <= PIECES + 2 * len(runs) + steps
        place = 0
        for each in found:
            assert (each.source, each.target) == (hot(place), cold(place))
            place += each.length
        assert place == PIECES * PIECE


def test_what_lies_before_a_run_in_its_volume_is_not_taken_for_it() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    keep_clean(tx, MovedRun(cold(4 * MIB), MIB, hot(4 * MIB)), UNTIL)
    assert found_of(tx, [(hot(2 * MIB), 2 * MIB)], 0) == []
    found = found_of(tx, [(hot(MIB // 2), 4 * MIB)], 0)
    assert [(each.source, each.length) for each in found] == [(hot(MIB // 2), MIB // 2), (hot(4 * MIB), MIB // 2)]


def test_rows_whose_time_is_over_are_counted_too() -> None:
    tx = in_pieces()
    counting = Counting(tx)
    found, rest = clean_runs(counting, [(hot(), PIECES * PIECE)], UNTIL)  # type: ignore[arg-type]  # as above
    assert found == []
    assert counting.seen <= 202
    [(at, length)] = rest
    assert hot(PIECES * PIECE) == at.advanced(length)
    assert 0 < length < PIECES * PIECE

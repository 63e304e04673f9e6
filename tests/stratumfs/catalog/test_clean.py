"""What lies in the cold tier too, of what was brought back."""

from stratumfs.catalog.clean import clean_runs, forget_clean, has_stale, keep_clean
from stratumfs.catalog.volumes import empty_volumes, free_volumes, insert_volume
from stratumfs.ids import DeviceId, Nonce, StripeNo, VolumeId
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


def test_parts_of_what_was_brought_back_are_found_where_they_lie() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), 3 * MIB, hot()), UNTIL)
    [found] = clean_runs(tx, [(hot(MIB + 5), MIB)], 0)
    assert (found.source, found.length, found.target) == (hot(MIB + 5), MIB, cold(MIB + 5))
    [found] = clean_runs(tx, [(hot(2 * MIB + 9), 10 * MIB)], 0)
    assert (found.source, found.length, found.target) == (hot(2 * MIB + 9), MIB - 9, cold(2 * MIB + 9))
    assert clean_runs(tx, [(hot(3 * MIB), MIB)], 0) == []
    assert clean_runs(tx, [(hot(), MIB)], UNTIL) == []


def test_another_write_of_the_same_stripes_is_not_taken_for_them() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    other = Location(HOT, StripeNo(0), 0, MIB // 4, 0, Nonce(5))
    assert clean_runs(tx, [(other, MIB)], 0) == []


def test_a_row_with_a_flipped_bit_is_as_if_it_were_not_there() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), MIB, hot()), UNTIL)
    for column in ("cold_stripe", "cold_position", "length", "cold_nonce", "position"):
        tx.run(f"update clean set {column} = {column} + 1")
        assert clean_runs(tx, [(hot(), MIB)], 0) == []
        tx.run(f"update clean set {column} = {column} - 1")
    assert clean_runs(tx, [(hot(), MIB)], 0)


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
    assert clean_runs(tx, [(hot(), MIB)], 0) == []  # it goes


def test_short_runs_are_not_remembered() -> None:
    tx = tables().tx
    keep_clean(tx, MovedRun(cold(), 1000, hot()), UNTIL)
    assert not has_stale(tx, UNTIL)

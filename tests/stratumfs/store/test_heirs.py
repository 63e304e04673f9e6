"""What must be told of before the place that it was moved from is removed."""

from stratumfs.ids import VolumeId
from stratumfs.store.heirs import Heirs

A, B, C, D = (VolumeId(bytes([number]) * 16) for number in range(4))


def test_a_source_waits_until_all_of_its_heirs_have_their_tables() -> None:
    heirs = Heirs()
    heirs.moved([A], [B], {B}, 1)
    heirs.moved([A], [C], {C}, 2)
    assert heirs.wait_for(A) == {B, C}
    heirs.ended(B, True)
    assert heirs.wait_for(A) == {C}
    heirs.ended(C, True)
    assert heirs.wait_for(A) is None


def test_what_will_never_be_in_a_table_waits_for_an_image() -> None:
    heirs = Heirs()
    heirs.moved([A], [B], {B}, 5)
    heirs.moved([D], [C], (), 6)  # it was sealed already
    heirs.ended(B, False)
    assert heirs.wait_for(A) == heirs.wait_for(D) == frozenset()
    heirs.imaged(5)
    assert heirs.wait_for(A) is None
    assert heirs.wait_for(D) is not None
    heirs.imaged(6)
    assert heirs.wait_for(D) is None


def test_what_goes_back_to_where_it_was_has_it_for_an_heir_no_more() -> None:
    heirs = Heirs()
    heirs.moved([A], [B], {B}, 1)
    heirs.moved([B], [A], (), 2)
    heirs.ended(B, True)
    assert heirs.wait_for(A) is None
    assert heirs.wait_for(B) == frozenset()


def test_what_is_sealed_while_its_rows_are_swapped_tells_for_nobody() -> None:
    heirs, sequence = Heirs(), 5
    heirs.moved([A], [B], {B}, 1)
    with heirs.moving([B], [C], lambda: {C}, lambda: sequence):
        heirs.ended(B, True)
        assert heirs.wait_for(A)
        heirs.imaged(1)
    assert heirs.wait_for(A) == heirs.wait_for(B) == {C}
    sequence = 6
    with heirs.moving([C], [D], tuple, lambda: sequence):
        heirs.ended(C, True)
    assert heirs.wait_for(A) == heirs.wait_for(B) == heirs.wait_for(C) == frozenset()
    heirs.imaged(6)
    assert heirs.wait_for(A) is heirs.wait_for(C) is None


def test_an_image_that_is_made_while_rows_are_swapped_is_older_than_that() -> None:
    heirs, sequence = Heirs(), 1
    with heirs.moving([A], [B], lambda: {B}, lambda: sequence):
        heirs.imaged(1)
        sequence = 2
    assert heirs.wait_for(A) == {B}


def test_what_an_earlier_owner_has_left_waits_for_an_image_whatever_it_is() -> None:
    heirs = Heirs()
    heirs.begun(5)
    heirs.moved([A], [B], {B}, 6)
    assert heirs.wait_for(A) == {B}
    heirs.ended(B, True)
    heirs.imaged(4)
    assert heirs.wait_for(A) == heirs.wait_for(D) == frozenset()
    heirs.imaged(5)
    assert heirs.wait_for(A) is heirs.wait_for(D) is None
    assert heirs.untold == 0


def test_what_is_moved_on_before_its_table_is_made_has_the_last_heirs() -> None:
    heirs = Heirs()
    heirs.moved([A], [B], {B}, 1)
    heirs.moved([B], [C], {C}, 2)
    heirs.ended(B, True)
    assert heirs.wait_for(A) == heirs.wait_for(B) == {C}
    heirs.ended(C, True)
    assert heirs.wait_for(A) is heirs.wait_for(B) is None


def test_what_stays_in_its_own_volume_waits_for_nothing() -> None:
    heirs = Heirs()
    heirs.moved([A], [A], {A}, 1)
    heirs.moved([A], [], (), 2)
    assert heirs.wait_for(A) is None


def test_a_volume_that_is_gone_is_forgotten() -> None:
    heirs = Heirs()
    heirs.moved([A], [B], {B}, 1)
    heirs.forget(A)
    assert heirs.wait_for(A) is None

"""What was fetched ahead is found, waited for, and bounded."""

import threading

from stratumfs.ids import VolumeId
from stratumfs.shards.recalled import Recalled

A, B = VolumeId(b"a" * 16), VolumeId(b"b" * 16)
PATIENCE_S = 60.0


def test_what_is_there_is_found_over_the_borders_of_pieces() -> None:
    recalled = Recalled(100)
    recalled.keep(A, 0, b"01234")
    recalled.keep(A, 5, b"56789")
    assert recalled.find(A, 3, 5, 0.0) == b"34567"
    assert recalled.find(A, 3, 8, 0.0) is None
    assert recalled.find(B, 3, 5, 0.0) is None
    assert recalled.hits == 1


def test_what_lies_in_one_piece_is_seen_without_a_copy() -> None:
    recalled, data = Recalled(100), b"01234"
    recalled.keep(A, 0, memoryview(data))
    recalled.keep(A, 5, memoryview(b"56789"))
    found = recalled.view(A, 1, 3, 0.0)
    assert isinstance(found, memoryview)
    assert found.obj is data
    assert found == b"123"
    assert recalled.view(A, 3, 5, 0.0) == b"34567"
    assert recalled.view(A, 3, 8, 0.0) is None


def test_what_is_on_its_way_is_waited_for() -> None:
    recalled = Recalled(100)
    piece = recalled.begin(A, 0, 10)
    assert piece is not None
    assert recalled.begin(A, 2, 8) is None
    found: list[bytes | None] = []
    reader = threading.Thread(target=lambda: found.append(recalled.find(A, 2, 3, PATIENCE_S)))
    reader.start()
    recalled.end(piece, b"0123456789")
    reader.join(PATIENCE_S)
    assert found == [b"234"]


def test_what_is_there_is_not_fetched_again() -> None:
    recalled = Recalled(100)
    recalled.keep(A, 5, b"56789")
    recalled.keep(A, 0, b"01234")
    piece = recalled.begin(A, 3, 20)
    assert piece is not None
    assert (piece.start, piece.stop) == (10, 20)
    recalled.keep(A, 8, b"8901")
    assert recalled.find(A, 0, 10, 0.0) == b"0123456789"


def test_what_did_not_come_is_fetched_by_whoever_wants_it() -> None:
    recalled = Recalled(100)
    piece = recalled.begin(A, 0, 10)
    assert piece is not None
    recalled.end(piece, None)
    assert recalled.find(A, 0, 1, 0.0) is None
    assert recalled.bytes == 0
    assert recalled.begin(A, 0, 10) is not None


def test_what_nobody_asked_for_for_longest_makes_room_and_what_is_on_its_way_does_not() -> None:
    recalled = Recalled(30)
    coming = recalled.begin(A, 0, 10)
    recalled.keep(A, 10, b"1" * 10)
    recalled.keep(A, 20, b"2" * 10)
    assert recalled.find(A, 10, 1, 0.0) == b"1"
    recalled.keep(A, 30, b"3" * 10)
    assert recalled.find(A, 20, 1, 0.0) is None
    assert recalled.find(A, 10, 1, 0.0) == b"1"
    assert recalled.bytes == 30
    assert recalled.begin(B, 0, 21) is None  # no room beside what is coming
    assert coming is not None
    recalled.end(coming, b"0" * 10)
    assert recalled.find(A, 0, 1, 0.0) == b"0"


def test_a_volume_that_goes_is_forgotten() -> None:
    recalled = Recalled(30)
    recalled.keep(A, 0, b"1" * 10)
    coming = recalled.begin(A, 10, 20)
    assert coming is not None
    recalled.forget(A)
    recalled.end(coming, b"0" * 10)
    assert recalled.find(A, 10, 1, 0.0) is None
    assert recalled.bytes == 0


def test_an_end_before_the_end_of_a_piece_is_the_end_of_its_bytes() -> None:
    recalled = Recalled(100)
    piece = recalled.begin(A, 0, 10)
    assert piece is not None
    recalled.end(piece, b"0123")
    assert recalled.find(A, 2, 2, 0.0) == b"23"
    assert recalled.find(A, 2, 3, 0.0) is None

"""Recorded accesses come back as they were, also after a crash, and never take more room than they may."""

import random
from pathlib import Path

import pytest

from tiering import recording
from tiering.recording import Access, Kind, Recording, recorded, segments


def some(count: int, start: float = 1000.0, seed: int = 1) -> list[Access]:
    rng = random.Random(seed)
    return [
        Access(start + at, rng.getrandbits(40), rng.getrandbits(34), rng.getrandbits(45), rng.choice(list(Kind)))
        for at in range(count)
    ]


def test_what_was_written_is_read_again_from_a_time_on(tmp_path: Path) -> None:
    folder, accesses = tmp_path / "accesses", some(1000)
    assert list(recorded(folder, 0)) == []
    made = Recording(folder)
    for start in range(0, 1000, 100):
        made.append(accesses[start : start + 100])
    made.append([])
    assert list(recorded(folder, 0)) == accesses
    assert list(recorded(folder, 1500.0)) == accesses[500:]
    assert len(segments(folder)) == 1


def test_a_crash_loses_the_block_that_was_cut_off_and_the_next_owner_goes_on(tmp_path: Path) -> None:
    accesses = some(300)
    Recording(tmp_path).append(accesses[:100])
    first = Recording(tmp_path)
    first.append(accesses[100:200])
    [_, cut] = segments(tmp_path)
    with open(cut, "r+b") as file:
        file.truncate(cut.stat().st_size - 1)
    Recording(tmp_path).append(accesses[200:])
    assert list(recorded(tmp_path, 0)) == accesses[:100] + accesses[200:]


def test_a_block_that_is_damaged_and_a_file_of_something_else_are_passed_over(tmp_path: Path) -> None:
    accesses = some(200)
    made = Recording(tmp_path)
    made.append(accesses[:100])
    made.append(accesses[100:])
    [segment] = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[-20] ^= 1
    segment.write_bytes(data)
    (tmp_path / "000000000500.accesses").write_bytes(b"something else")
    (tmp_path / "notes").write_text("not a segment")
    assert list(recorded(tmp_path, 0)) == accesses[:100]


def test_the_oldest_segments_go_when_all_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RECORDING_SEGMENT_BYTES", 3000)
    monkeypatch.setattr(recording, "RECORDING_BYTES_MAX", 20_000)
    made, accesses = Recording(tmp_path), some(3000)
    for start in range(0, 3000, 50):
        made.append(accesses[start : start + 50])
        assert sum(each.stat().st_size for each in segments(tmp_path)) <= 20_000 + 2 * 3000
    kept = list(recorded(tmp_path, 0))
    assert 100 < len(kept) < 2000
    assert kept == accesses[-len(kept) :]
    from_there = [access for access in kept if access.at >= 3900.0]
    assert list(recorded(tmp_path, 3900.0)) == from_there

"""Runs of bytes that are moved: which are one, and where their copies lie. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from stratumfs.erasure.checksum import digest
from stratumfs.ids import VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.values import Extent, MovedRun, NewExtent, PackedExtent

Run = tuple[Location, int]
"""Bytes of one volume: where they begin, how many."""


def joined(batch: Iterable[Run]) -> list[Run]:
    """Runs in the order in which they lie, none twice: neighbours and what overlaps become one."""
    found: list[Run] = []
    for at, length in sorted(batch, key=lambda run: _order(run[0])):
        if found:
            last, size = found[-1]
            gap = _distance(last, at)
            if last.volume == at.volume and 0 <= gap <= size and last.advanced(gap) == at:
                found[-1] = last, max(size, gap + length)
                continue
        found.append((at, length))
    return found


def lies_in(batch: Sequence[Run], at: Location, length: int) -> bool:
    """Whether these bytes are all in one run of *batch*, which is `joined`."""
    index = bisect_right(batch, _order(at), key=lambda run: _order(run[0])) - 1
    if index < 0:
        return False
    first, size = batch[index]
    gap = _distance(first, at)
    return first.volume == at.volume and 0 <= gap <= size - length and first.advanced(gap) == at


def without(runs: Iterable[Run], moved: Iterable[MovedRun]) -> list[Run]:
    """What of *runs* is not among the sources of *moved*, parts of these runs in the same order."""
    left: list[Run] = []
    parts = iter(moved)
    part = next(parts, None)
    for at, length in runs:
        done = 0
        while part is not None and part.source.volume == at.volume:
            start = _distance(at, part.source)
            if not 0 <= start < length or at.advanced(start) != part.source:
                break
            if start > done:
                left.append((at.advanced(done), start - done))
            done = start + part.length
            part = next(parts, None)
        if done < length:
            left.append((at.advanced(done), length - done))
    assert part is None, "what lies there already is a part of what is to go there"
    return left


def moved_runs(copied: Iterable[tuple[int, Run]], written: Iterable[NewExtent]) -> tuple[MovedRun, ...]:
    """Which bytes lie where now: pieces of the stream beside the runs that it was written in."""
    found: list[MovedRun] = []
    targets = iter(written)
    target = next(targets, None)
    for start, (source, length) in copied:
        offset, end = start, start + length
        while offset < end:
            assert target is not None, "the stream has all that was given to it"
            if offset >= target.offset + target.length:
                target = next(targets, None)
                continue
            assert target.location is not None
            count = min(end, target.offset + target.length) - offset
            run = MovedRun(source.advanced(offset - start), count, target.location.advanced(offset - target.offset))
            if found and _continues(found[-1], run):
                found[-1] = MovedRun(found[-1].source, found[-1].length + count, found[-1].target)
            else:
                found.append(run)
            offset += count
    return tuple(found)


def packed_extents(packed: Iterable[tuple[int, Extent]], written: Sequence[NewExtent]) -> list[PackedExtent]:
    """Where inline extents lie now: offsets in the stream beside the runs that it was written in."""
    found = []
    for at, extent in packed:
        [(_, _, place)] = located(at, extent.length, written)
        assert extent.data is not None
        found.append(PackedExtent(extent.id, extent.ino, extent.offset, extent.length, digest(extent.data), place))
    return found


def located(at: int, length: int, written: Sequence[NewExtent]) -> list[tuple[int, int, Location]]:
    """Where [at, at + length) of a stream lies: (offset in the stream, length, place) of each run that it was written
    in."""
    found = []
    index, end = bisect_right(written, at, key=lambda each: each.offset) - 1, at + length
    while at < end:
        target = written[index]
        assert target.location is not None
        count = min(end, target.offset + target.length) - at
        assert count > 0, "the stream has all that was given to it"
        found.append((at, count, target.location.advanced(at - target.offset)))
        at, index = at + count, index + 1
    return found


def _continues(last: MovedRun, run: MovedRun) -> bool:
    return last.source.advanced(last.length) == run.source and last.target.advanced(last.length) == run.target


def _order(at: Location) -> tuple[VolumeId, int, int]:
    return at.volume, at.stripe, at.skip


def _distance(first: Location, second: Location) -> int:
    """Bytes from one place to another, if both are of one run."""
    return (second.stripe - first.stripe) * STRIPE_PAYLOAD_MAX + second.skip - first.skip


def groups(runs: Iterable[Run], bytes_max: int) -> Iterator[list[Run]]:
    """Those that follow one another in one volume, up to so many bytes, or one."""
    group: list[Run] = []
    size = 0
    for at, length in runs:
        if group and (at.volume != group[0][0].volume or size + length > bytes_max):
            yield group
            group, size = [], 0
        group.append((at, length))
        size += length
    if group:
        yield group


def pieces(runs: Iterable[Run]) -> Iterator[Run]:
    """Runs, cut where stripes end."""
    for at, length in runs:
        while length:
            count = min(length, STRIPE_PAYLOAD_MAX - at.skip)
            yield at, count
            at, length = at.advanced(count), length - count

"""``stratumfs scrub`` for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.units import size_text, time_text


def scrub_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """How far the scrubber is, in a few lines."""
    days = found["period_s"] / 86400
    passes = found["passes"]
    if not passes:
        yield f"scrub: all is to be read once in {days:g} days; no pass has begun yet"
        return
    for each in passes[:2]:
        yield _pass_text(each, found)
    never, oldest = found["shards_never_verified"], found["oldest_verified"]
    if oldest is not None:
        yield f"scrub: the shard that was not read for longest was verified at {time_text(oldest)}"
    if never:
        yield f"scrub: {never} shards were never read as a whole yet"


def _pass_text(each: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    counts = (
        f"{each['shards']} shards ({each['bad_shards']} bad), {each['rows']} extents ({each['bad_rows']} bad), "
        f"{each['copies']} copies of the catalog ({each['bad_copies']} bad)"
    )
    if each["ended"] is not None:
        return f"scrub: {each['outcome']} at {time_text(each['ended'])}: {counts}"
    late = f", {found['late_s'] / 3600:.1f} h late" if found["late_s"] > 3600 else ""
    done = f"{size_text(found['done'])} of {size_text(found['total'])}{late}"
    return f"scrub: under way since {time_text(each['began'])}, {each['stage']}, {done}: {counts}"

"""``stratumfs heal`` and ``stratumfs usage`` for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.exit import Exit
from stratumfs.cli.units import size_text, time_text

_SHOWN = 20


def heal_code(found: Mapping[str, Any]) -> Exit:
    """DATA if something bad is left, as a dry run leaves all; DEVICE if not all could be looked at."""
    if found["bad_shards_left"] or found["bad_rows_left"] or found["unreadable"]:
        return Exit.DATA
    return Exit.DEVICE if found["shards_away"] else Exit.OK


def heal_lines(found: Mapping[str, Any]) -> Iterator[str]:
    verb = "would be mended" if found["dry_run"] else "mended"
    yield (
        f"{found['path'] or 'the store'}: {found['inodes']} files and directories, {size_text(found['bytes'])}: "
        f"{found['rows']} extents and {found['cells_verified']} cells are what was written"
    )
    if found["bad_rows"]:
        yield f"{found['bad_rows']} extents of the catalog were damaged, {found['bad_rows_left']} are"
    for each in found["shards"][:_SHOWN]:
        done = verb if each["mended"] or found["dry_run"] else "NOT MENDED"
        yield f"{done}: {each['device']}: {each['volume']}.{each['cell']}: {each['reason']}"
    if found["bad_shards"] > _SHOWN:
        yield f"{found['bad_shards']} shards in all, of which {found['bad_shards_left']} are bad still"
    if found["shards_away"]:
        yield f"{found['shards_away']} shards could not be looked at: their devices are not up, or do not answer"
    for path in found["unreadable"]:
        yield f"CANNOT BE READ NOW: {path}"


def usage_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if found["counted"] is None:
        yield "usage: nothing was counted yet; --now counts"
        return
    rows = [*sorted(found["below"], key=lambda each: -each["bytes"]), {**found, "path": found["path"] or "all"}]
    width = max(len(each["path"]) for each in rows)
    for each in rows:
        yield f"{each['path']:<{width}}  {size_text(each['bytes']):>10}  {each['objects']:>12,} objects"
    yield f"as counted at {time_text(found['counted'])}"

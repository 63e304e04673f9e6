"""``stratumfs gc`` for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.exit import Exit
from stratumfs.cli.units import size_text


def gc_code(found: Mapping[str, Any]) -> Exit:
    """STORE where a tier has to wait."""
    return Exit.STORE if found["waits"] else Exit.OK


def gc_lines(found: Mapping[str, Any]) -> Iterator[str]:
    before, after = found["before"], found["after"]
    if found["dry_run"]:
        yield f"{size_text(before['dead_bytes'])} are stored that nothing points at"
        yield f"would be freed: {_volumes(before, 'empty')} that are empty"
        yield f"would be written elsewhere, and freed: {_volumes(before, 'half_dead')} of which most is dead"
    else:
        yield (
            f"{size_text(after['dead_bytes'])} are stored that nothing points at; "
            f"before it were {size_text(before['dead_bytes'])}"
        )
    if after["nameless"]:
        yield f"{after['nameless']} files have no name: they are open still, or go soon"
    if after["freed_volumes"]:
        kept = (
            f", and {found['kept_s'] / 86400:g} days later what backups of the catalog need" if found["kept_s"] else ""
        )
        yield f"{_volumes(after, 'freed')} go from the devices {found['grace_s']:g} s after they were freed{kept}"
    for tier, why in found["waits"].items():
        yield f"WAITS: {tier}: {why}"


def _volumes(counts: Mapping[str, Any], which: str) -> str:
    return f"{counts[f'{which}_volumes']} volumes ({size_text(counts[f'{which}_room'])} on devices)"

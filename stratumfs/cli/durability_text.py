"""``stratumfs durability`` for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from stratumfs.cli.status_text import survives_text
from stratumfs.cli.units import size_text, time_text


def durability_lines(found: Mapping[str, Any]) -> Iterator[str]:
    where = found["path"] or "the store"
    verdict = "green: all shards are there and verified" if found["green"] else "NOT GREEN"
    yield f"{where}: {verdict}"
    yield (
        f"{found['inodes']} files and directories, {size_text(found['bytes'])} "
        f"({size_text(found['inline_bytes'])} in the catalog) in {found['volumes']} volumes"
    )
    if found["volumes_elsewhere"]:
        yield f"and in {found['volumes_elsewhere']} volumes of the cold tier: what is said here is not of those"
    yield survives_text(found["devices_survived"], found["disks_survived"])
    oldest = f", the first of them at {time_text(found['oldest_verified'])}" if found["oldest_verified"] else ""
    unsealed = f", {found['shards_not_sealed']} are written to still" if found["shards_not_sealed"] else ""
    yield (
        f"shards: {found['shards_good']} of {found['shards']} are there and not known to be damaged; "
        f"{found['shards_verified']} were verified{oldest}{unsealed}"
    )
    yield f"probability of a loss within a year: {found['yearly_loss']:.2g}"
    yield from _assumptions(found["assumptions"])


def _assumptions(found: Mapping[str, Any]) -> Iterator[str]:
    rate = f"{size_text(int(found['rebuild_rate']))}/s{'' if found['rebuild_measured'] else ', not measured yet'}"
    yield f"  if {found['afr']:.0%} of devices fail in a year, each by itself, and nothing else destroys data;"
    replaced = f", {found['replaced_s'] / 3600:g} h until it is replaced included" if found["replaced_s"] else ""
    yield (
        f"  if a failed device is rebuilt in {found['rebuild_s'] / 3600:.2f} h ({size_text(found['rebuild_bytes'])} at "
        f"{rate}{replaced}), one after the other;"
    )
    yield "  if what rots is found by the scrub before another shard of the same stripe is lost."

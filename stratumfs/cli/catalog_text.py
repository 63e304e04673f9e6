"""What ``stratumfs catalog`` prints."""

import time
from collections.abc import Mapping
from typing import Any

_SHOWN_MAX = 100
"""Runs of lost bytes; ``--json`` has all that are listed."""


def render_rebuilt(found: Mapping[str, Any]) -> None:
    """What came of a rebuild, and what may be stale."""
    image = found["image"]
    if image is None:
        print("There was no namespace image: names come from tables of contents alone.")
        print("What was deleted may be there again; empty files, directories, links and attributes are not.")
    else:
        print(f"Namespace image: transaction {image['sequence']}, {_time(image['created'])}.")
    files = found["files"]
    print(f"From younger shards: {files['created']} files made, {files['updated']} brought up to date.")
    if image is not None and found["known_sequence"] > image["sequence"]:
        print(
            f"Up to {found['known_sequence'] - image['sequence']} transactions or more after the image are known only "
            "as far as these shards say: what was deleted, renamed or changed since may be as it was then."
        )
    for path in found["mixed"][:_SHOWN_MAX]:
        print(f"Written after the image, and not all of it is found: {path} may have older bytes in between.")
    if found["found_count"]:
        print(
            f"{found['found_count']} files whose names mean others by now, for they were deleted or renamed, are in "
            "the bucket lost-found:"
        )
    for path in found["found"][:_SHOWN_MAX]:
        print(f"  {path}")
    for each in found["unclaimed"]:
        kept = "they are kept, in quarantine or at the cold tier's service."
        print(f"Volume {each['volume']}: {each['bytes']} bytes that no name leads to; {kept}")
    _lost("that lay in the catalog alone", found["lost_inline_bytes"], found["lost_inline"])
    _lost("in volumes with too few shards", found["lost_shards_bytes"], found["lost_shards"])
    if found["cold_not_looked"]:
        print(f"The cold tier could not be looked into; younger volumes there are missing: {found['cold_not_looked']}")
    if found["new_credentials"]:
        print("The keys of the gateway were lost too: new ones are in the file credentials of the store folder.")


def series_text(found: Mapping[str, Any]) -> str:
    """One series of a backup."""
    return (
        f"{found['series']}: {_time(found['from'])} to {_time(found['to'])}, up to transaction {found['sequence']}, "
        f"{found['bytes']} bytes{'; THEN PIECES ARE MISSING' if found['gap'] else ''}"
    )


def render_restored(found: Mapping[str, Any]) -> None:
    """What came of a restore, and what it could not bring back."""
    print(f"The catalog is that of {_time(found['at'])}, transaction {found['sequence']}, of series {found['series']}.")
    if found["gap"]:
        print("PIECES OF THE BACKUP ARE MISSING behind it: what came later was taken, and cannot be brought back.")
    _render_older(found)
    if found["new_credentials"]:
        print("The keys of the gateway were lost too: new ones are in the file credentials of the store folder.")


def render_loaded(found: Mapping[str, Any]) -> None:
    """What came of a load, and what it could not bring back."""
    print(f"The catalog is that of the dump of {_time(found['at'])}, transaction {found['sequence']}.")
    _render_older(found)


def _render_older(found: Mapping[str, Any]) -> None:
    """Of a catalog that is older than what lies on the devices."""
    if found["known_sequence"] > found["sequence"]:
        print(f"Gone: {found['known_sequence'] - found['sequence']} transactions that came later.")
    if found["volumes_younger"]:
        print(
            f"{len(found['volumes_younger'])} volumes are younger, and nothing names what lies in them: they are kept "
            "in quarantine."
        )
    if found["cold_volumes_younger"]:
        print(
            f"{len(found['cold_volumes_younger'])} objects of the cold tier are younger, and nothing names what lies "
            "in them: they stay there."
        )
    _lost("that lay in the catalog alone", found["lost_inline_bytes"], found["lost_inline"])
    _lost("in volumes that were freed since, or lack shards", found["lost_shards_bytes"], found["lost_shards"])
    if found["cold_not_looked"]:
        print(
            "The cold tier could not be looked into: what the catalog names there may be gone: "
            f"{found['cold_not_looked']}"
        )


def _lost(where: str, count: int, runs: list[Mapping[str, Any]]) -> None:
    if not count:
        return
    print(f"Lost: {count} bytes {where}; reading them is an error (EIO, 503):")
    for run in runs[:_SHOWN_MAX]:
        name = run["path"] or f"inode {run['inode']}, without a name"
        print(f"  {name}: {run['length']} bytes at {run['offset']}")
    if len(runs) > _SHOWN_MAX:
        print(f"  and {len(runs) - _SHOWN_MAX} more, which --json lists")


def _time(seconds: float) -> str:
    return time.strftime("%F %T", time.localtime(seconds))

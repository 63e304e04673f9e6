"""fsck.stratumfs(8): check a store that nobody uses, and mend it."""

from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.catalog_text import render_rebuilt
from stratumfs.cli.parameters import Json, Store
from stratumfs.cli.progress import CountProgress
from stratumfs.cli.reasons_text import usd_text
from stratumfs.cli.units import size_text
from stratumfs.errors import ConfigError
from stratumfs.owner import client, locate

NAME = "fsck.stratumfs"


class _Contradiction(ConfigError):
    """Two options that exclude each other."""


class Code(IntFlag):
    """Exit codes of fsck(8), to be added."""

    CLEAN = 0
    MENDED = 1
    LEFT = 4
    FAILED = 8
    USAGE = 16
    INTERRUPTED = 32


app = command.make_app(
    NAME,
    f"Usage: {NAME} [-n | -y] [--full] [--json] STORE\n       {NAME} --rebuild-catalog [--json] STORE",
    "Check a store that no door is open on, and mend what can be mended.",
    """
    fsck.stratumfs -n /srv/store
    fsck.stratumfs -y --full /srv/store
    fsck.stratumfs -n --json /srv/store
    fsck.stratumfs --rebuild-catalog /mnt/disk3
""",
)


@app.default
def fsck(
    store: Store,
    /,
    *,
    nothing: Annotated[bool, Parameter(name="-n", negative="", help="Change nothing: only say what is wrong.")] = False,
    mend: Annotated[
        bool,
        Parameter(
            name=["-y", "-a", "-p"], negative="", help="Mend what can be, without asking: what is done without it, too."
        ),
    ] = False,
    full: Annotated[
        bool,
        Parameter(name=["--full", "-f"], negative="", help="Read every cell; else headers and lengths are looked at."),
    ] = False,
    rebuild: Annotated[
        bool,
        Parameter(name="--rebuild-catalog", negative="", help="Make a catalog again that is lost with all copies."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Called by cyclopts with what was typed."""
    if rebuild:
        if nothing:
            raise _Contradiction("-n changes nothing, and --rebuild-catalog does: give one of them")
        return int(_rebuild(store, as_json))
    if nothing and mend:
        raise _Contradiction("-n changes nothing, and -y, -a and -p mend: give one of them")
    folder = locate.store_folder(store)
    client.demand_no_owner(folder)
    from stratumfs.owner.fsck import Wanted
    from stratumfs.owner.fsck import fsck as examine  # the whole store, which asking for help does not need

    with CountProgress("opens the store") as progress:
        facts = examine(folder, Wanted(mend=not nothing, full=full), progress.show)
    if as_json:
        command.print_json(facts)
    else:
        _tell(facts)
    return int((Code.MENDED if facts["mended"] else 0) | (Code.LEFT if facts["left"] else 0))


def _rebuild(store: Path, as_json: bool) -> Code:
    from stratumfs.owner.rebuild_catalog import rebuild_catalog  # as above

    facts = rebuild_catalog(store, told=lambda text: command.complain(NAME, text)).plain()
    if as_json:
        command.print_json(facts)
    else:
        render_rebuilt(facts)
    return rebuilt_code(facts)


def rebuilt_code(facts: Mapping[str, Any]) -> Code:
    """Lost bytes are left, and so are those that nobody can name, or of which nobody knows how old they are."""
    left = ("lost_inline_bytes", "lost_shards_bytes", "unclaimed", "mixed", "cold_not_looked")
    return Code.MENDED | (Code.LEFT if any(facts[each] for each in left) else Code.CLEAN)


def _tell(facts: Mapping[str, Any]) -> None:
    for each in facts["findings"]:
        done = f" ({each['done']})" if each["done"] else ""
        print(f"{each['outcome']}: {each['text']}: {each['where']}{done}")
    verdict = "clean" if facts["clean"] else f"{facts['mended']} mended, {facts['left']} left"
    print(
        f"{facts['store']}: {verdict}; {facts['rows']} extents, {facts['copies']} copies of the catalog, "
        f"{facts['volumes']} volumes, {facts['shards']} shards, {facts['cells']} cells"
        + (f", {facts['objects']} objects of the cold tier" if facts["objects"] else "")
        + (
            f" ({size_text(facts['object_bytes'])} read, some {usd_text(facts['object_usd'])})"
            if facts["object_bytes"]
            else ""
        )
    )


def _code_of(error: BaseException) -> int:
    """What was asked for wrongly is said by `fsck`; all else kept the check from being done."""
    return Code.USAGE if isinstance(error, _Contradiction) else Code.FAILED


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments, _code_of, usage=Code.USAGE, interrupted=Code.INTERRUPTED)

"""Who imports whom: the graph is drawn from the source and held against the table of the architecture."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("stratumfs", "gateway", "tiering")

BASE = {
    "errors",
    "ids",
    "limits",
    "config",
    "latency",
    "location",
    "values",
    "descriptor",
    "turn",
    "room",
    "threads",
    "share",
    "cold_limits",
}
"""Modules directly below stratumfs/ that everybody may import."""

MAY_IMPORT: dict[str, set[str]] = {
    "base": {"base"},
    "erasure": {"base"},
    "catalog": {"base"},
    "shards": {"base"},
    "devices": {"base"},
    "volumes": {"base", "erasure", "shards", "devices"},
    "repair": {"base", "erasure", "catalog", "shards", "devices", "volumes"},
    "store": {"base", "erasure", "catalog", "shards", "devices", "volumes", "repair"},
    "fuse": {"base", "store"},
    "gateway": {"base", "store"},
    "tiering": {"base", "store", "catalog", "volumes", "shards", "devices"},
    "cli": {"base", "owner"},
    "owner": {"base", "erasure", "catalog", "shards", "devices", "volumes", "repair", "store", "fuse", "gateway",
              "tiering"},
}  # fmt: skip

MAY_USE: dict[str, set[str]] = {
    "apsw": {"catalog"},
    "pyfuse3": {"fuse"},
    "reedsolo": {"erasure"},
    "hypercorn": {"gateway"},
    "h2": {"gateway"},
    "httptools": {"gateway"},
    "quart": {"gateway"},
    "quart_trio": {"gateway"},
    "lxml": {"gateway"},
    "awscrt": {"gateway"},
    "prometheus_client": {"owner"},
    "cryptography": {"owner", "shards"},
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "boto3": {"shards"},
    "botocore": {"shards"},
}
"""Libraries that are one part's business alone."""

ASKING = ("fsck", "gateway", "mount", "stratumfs", "tier")
"""Commands that ask the owner."""
OWNERS = {"apsw", "asyncio", "structlog", "trio"}
"""What takes longer to import than such a command takes for all else; structlog brings asyncio, and pygments."""


def sources() -> list[Path]:
    return sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))


def part_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    names = module.split(".")
    if names[0] != "stratumfs":
        return names[0]
    if len(names) == 1 or names[1] in BASE:
        return "base"
    return names[1]


def module_of(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file names, also in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            # `from stratumfs.store import reader` names a module, as `from stratumfs.store.reader import Reader` does.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(module_of(path))
    assert part in MAY_IMPORT, f"{path}: the table has no row {part!r}"
    for line, name in imports(path):
        top = name.split(".")[0]
        if top in OURS:
            wanted = part_of(name)
            assert wanted == part or wanted in MAY_IMPORT[part], f"{path}:{line}: {part} may not import {name}"
        elif part == "base":
            own = {
                "config.py": {"msgspec"},
                "descriptor.py": {"trio"},
                "latency.py": {"prometheus_client"},
                "threads.py": {"outcome", "trio"},
                "turn.py": {"trio"},
            }
            allowed = top in sys.stdlib_module_names or top in own.get(path.name, ())
            assert allowed, f"{path}:{line}: the base imports the standard library alone"
        elif top in MAY_USE:
            assert part in MAY_USE[top], f"{path}:{line}: {top} is the business of {MAY_USE[top]}"


def test_commands_that_ask_the_owner_import_nothing_that_only_an_owner_needs() -> None:
    program = f"import sys\nfrom stratumfs.cli import {', '.join(ASKING)}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert OWNERS & set(done.stdout.split()) == set()


def test_an_owner_loads_the_gateway_when_it_is_wanted() -> None:
    program = "import sys, stratumfs.owner.run\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"quart", "hypercorn", "lxml", "awscrt"} & set(done.stdout.split())


def test_only_the_session_touches_the_state_that_pyfuse3_keeps_in_its_module() -> None:
    """``pyfuse3.init``, ``main``, ``close`` and ``terminate`` work on one session a process."""
    for path in (ROOT / "stratumfs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "pyfuse3"
                and node.attr in ("init", "main", "close", "terminate")
            ):
                assert path.name == "session.py", f"{path}:{node.lineno}: pyfuse3.{node.attr}"


def test_there_is_no_cycle_between_parts() -> None:
    order = ["base", "erasure", "catalog", "shards", "devices", "volumes", "repair", "store", "fuse", "gateway",
             "tiering", "owner", "cli"]  # fmt: skip
    assert set(order) == set(MAY_IMPORT)
    for part, allowed in MAY_IMPORT.items():
        assert all(order.index(other) <= order.index(part) for other in allowed)

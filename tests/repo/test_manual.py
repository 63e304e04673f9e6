"""The manual and the programs say the same: options, settings, exit codes, examples."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from cyclopts import App

from stratumfs.cli import fsck, gateway, mkfs, mount, stratumfs, tier
from stratumfs.cli.exit import Exit
from stratumfs.cli.mount_options import OPTIONS
from stratumfs.config import Settings, parse

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "man"
PAGES = {
    "fsck.stratumfs.8": fsck.app,
    "mkfs.stratumfs.8": mkfs.app,
    "mount.stratumfs.8": mount.app,
    "stratumfs.1": stratumfs.app,
    "stratum-gateway.8": gateway.app,
    "stratum-tier.1": tier.app,
}
ALL = sorted(path.name for path in MANUAL.iterdir())
WANTED = {
    *PAGES,
    "stratumfs.toml.5",
    "stratumfs-format.5",
    "stratumfs-architecture.7",
    "stratumfs-durability.7",
    "stratumfs-metrics.7",
    "stratumfs-performance.7",
    "stratumfs-tiering.7",
}


def plain(page: str) -> str:
    """A page's source without the marks of roff, so that words can be looked for."""
    text = (MANUAL / page).read_text("utf-8")
    text = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-").replace("\\(bu", "*").replace("\\&", "")
    return re.sub(r'^\.(BR|RB|BI|IB|IR|RI|B|I|TP|SH|SS) ?"?', "", text, flags=re.MULTILINE).replace('"', "")


def apps(app: App) -> list[App]:
    """A command and its subcommands, and theirs."""
    found = [app]
    for name in app:
        if not name.startswith("-"):
            found += apps(app[name])
    return found


def options(app: App) -> set[str]:
    """Every ``-x`` and ``--xyz`` that a command takes."""
    found = {"--help", "-h", "--version"}
    for one in apps(app):
        if one.default_command is None:
            continue
        for argument in one.assemble_argument_collection(parse_docstring=False):
            found.update(name for name in argument.names if name.startswith("-"))
    return found


def test_every_page_is_there() -> None:
    assert set(ALL) >= WANTED


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_every_option_of_its_command_and_no_other(page: str) -> None:
    text = plain(page)
    taken = options(PAGES[page])
    for option in taken:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{page} does not name {option}"
    section = text.partition("\nOPTIONS\n")[2].partition("\nMOUNT OPTIONS\n")[0].partition("\nENVIRONMENT\n")[0]
    section = section.partition("\nKEYS\n")[0].partition("\nEXIT STATUS\n")[0]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section))
    assert named <= taken, f"{page} names options that are not there: {named - taken}"


@pytest.mark.parametrize("page", PAGES)
def test_help_and_page_show_the_same_examples(page: str) -> None:
    epilogue = PAGES[page].help_epilogue
    assert epilogue is not None
    text = plain(page)
    for line in epilogue.splitlines()[1:]:
        if line.strip():
            assert line.strip() in text, f"{page} does not show: {line.strip()}"


def test_every_subcommand_is_in_its_page() -> None:
    for page, app in PAGES.items():
        for name in app:
            if not name.startswith("-"):
                assert re.search(rf"(?m)^{name}$|{app.name[0]} {name}", plain(page)), f"{page}: {name}"


def test_every_mount_option_is_in_its_page() -> None:
    text = plain("mount.stratumfs.8").partition("\nMOUNT OPTIONS\n")[2].partition("\nFSTAB\n")[0]
    for option in OPTIONS:
        assert re.search(rf"(?<![\w_]){option}(?![\w_])", text), f"mount.stratumfs(8) does not name {option}"


def test_every_setting_is_in_its_page_and_the_examples_are_valid() -> None:
    text = plain("stratumfs.toml.5")
    for table in msgspec.structs.fields(Settings):
        assert f"[{table.encode_name}]" in text
        settings = next(iter(get_args(table.type)), table.type)  # the table itself, where it may be missing
        for key in msgspec.structs.fields(settings):
            assert re.search(rf"(?m)^{key.encode_name}\b|, {key.encode_name}\b", text), key.encode_name
    source = (MANUAL / "stratumfs.toml.5").read_text("utf-8")
    example = source.partition("\n.SH EXAMPLE\n.nf\n")[2].partition("\n.fi")[0]
    assert parse(example, "the page's example").gateway.domains == ("s3.example.org",)


def test_the_exit_codes_are_in_the_page() -> None:
    rows = dict(re.findall(r"(?m)^(\d+)\|(.+)$", (MANUAL / "stratumfs.1").read_text()))
    assert {int(code) for code in rows} == {int(code) for code in Exit}


@pytest.mark.parametrize("page", ALL)
def test_a_page_is_well_formed(page: str) -> None:
    """groff finds nothing to warn of. Tables are made by tbl, which the first line asks for."""
    command = ["groff", "-t", "-man", "-Tutf8", "-ww", "-z", "-rLL=120n", MANUAL / page]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_pages_refer_to_pages_that_are_there() -> None:
    ours = {tuple(name.rsplit(".", 1)) for name in ALL}
    for page in ALL:
        for name, section in re.findall(r"\b((?:fsck\.|mkfs\.|mount\.)?stratum[\w.-]*?) ?\((\d)\)", plain(page)):
            assert (name, section) in ours, f"{page} refers to {name}({section})"

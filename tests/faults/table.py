"""The crash table of stratumfs-durability(7): a row for each step of each write path."""

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "man" / "stratumfs-durability.7"


@cache
def rows() -> dict[str, list[str]]:
    """The steps of each table, by the path that its heading names as its test."""
    text = PAGE.read_text("utf-8")
    section = text[text.index(".SH CRASH TABLE") : text.index(".SH FAILING DEVICES")]
    found = {}
    for heading, table in re.findall(r"^Test: ([a-z0-9-]+)\.$.*?^\.TS$(.*?)^\.TE$", section, re.MULTILINE | re.DOTALL):
        assert heading not in found, f"{heading} has two tables"
        found[heading] = re.findall(r"^([a-z]+(?: [A-Za-z]+)+)@", table, re.MULTILINE)
    assert section.count(".TS\n") == len(found), "a table names no test"
    return found

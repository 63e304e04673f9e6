"""The crash table of stratumfs-durability(7), a row for each step of each path; and the matrix of states tried."""

import re
from collections.abc import Mapping
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


_HOW = {
    "a kill": "kill",
    "a power cut": "cut",
    "a torn power cut": "torn",
    "devices lost besides": "lost",
    "a failed call": "failed",
    "a killed process": "killed",
}
"""The columns of the matrix, by what the rehearsal counts."""
_MATRIX = re.compile(r"(?<=^\.\\\" begin of the matrix\n).*?(?=^\.\\\" end of the matrix$)", re.MULTILINE | re.DOTALL)


def write_matrix(counts: Mapping[str, Mapping[str, int]], command: str) -> None:
    """Put the states that *command* has tried into the page, by path and by what led to them."""
    columns = [how for how in _HOW if any(found.get(how) for found in counts.values())]
    lines = []
    for path, found in sorted(counts.items()):
        steps = str(len(rows()[path])) if path in rows() else ""
        lines.append("@".join((path, steps, *(str(found.get(how, 0) or "") for how in columns))))
    total = sum(sum(found.values()) for found in counts.values())
    widths = " ".join("r" * (1 + len(columns)))
    table = f'{total:,} states of\n.BR "{command}" :\n.PP\n.TS\ntab(@) nokeep;\nl {widths}.\n'
    heading = "@".join(("path", "steps", *(_HOW[how] for how in columns))) + "\n_\n"
    text, found_it = _MATRIX.subn(lambda _: table + heading + "\n".join(lines) + "\n.TE\n", PAGE.read_text("utf-8"))
    assert found_it == 1, "the page has no place for the matrix"
    PAGE.write_text(text, "utf-8")


def matrix() -> dict[str, list[int]]:
    """The matrix as the page has it: by path, numbers of states."""
    found = _MATRIX.search(PAGE.read_text("utf-8"))
    assert found is not None
    tried = {}
    for line in found[0].partition("\n_\n")[2].partition(".TE")[0].splitlines():
        path, _, *numbers = line.split("@")
        tried[path] = [int(number or 0) for number in numbers]
    return tried

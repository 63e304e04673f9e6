"""The table and the JSON of a run."""

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.measure.row import OURS, Row, Target

_BUSY = 0.8
"""Of one core: above it the load itself may be what was measured."""


def table(rows: Sequence[Row]) -> Table:
    """A line for each who was measured; ours first, with what it is held against behind the others' lines."""
    made = Table(title="medians of all rounds; ratios are medians of the rounds' ratios")
    for column, justify in (
        ("", "left"),
        ("who", "left"),
        ("rate", "right"),
        ("CPU each", "right"),
        ("ours is", "left"),
    ):
        made.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        for number, name in enumerate(sorted(row.samples, key=lambda name: name != OURS)):
            mark = " *" if row.busy(name) > _BUSY else ""
            rate = f"{_number(row.rate(name))} {row.unit}/s{mark}"
            verdicts = ", ".join(_verdict(row, target) for target in row.targets if target.beside == name)
            title = f"[b]{row.title}[/b]" if number == 0 else ""
            made.add_row(title, name, rate, f"{_number(row.cpu_ms(name))} ms", verdicts)
        made.add_section()
    made.caption = (
        f"CPU: of the server, for each of what is counted. *: making the load took over {_BUSY:.0%} of a core"
    )
    return made


def as_json(rows: Sequence[Row], seed: int) -> str:
    """Every sample: [count, seconds, server's CPU seconds, load's CPU seconds]."""
    found = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "seed": seed,
        "rows": [_row(row) for row in rows],
    }
    return json.dumps(found, indent=1)


def write_json(path: Path, rows: Sequence[Row], seed: int) -> None:
    path.write_text(as_json(rows, seed) + "\n")


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "systems": {
            name: {
                "rate": row.rate(name),
                "cpu_ms": row.cpu_ms(name),
                "load_busy": row.busy(name),
                "rounds": [[each.count, each.seconds, each.cpu_s, each.busy_s] for each in samples],
            }
            for name, samples in row.samples.items()
        },
        "targets": [_target(row, target) for target in row.targets],
    }


def _target(row: Row, target: Target) -> dict[str, Any]:
    ratio = row.ratio(target)
    met = None if ratio is None else target.holds(ratio)
    return {"beside": target.beside, "of": target.of, "bound": target.bound, "ratio": ratio, "met": met}


def _verdict(row: Row, target: Target) -> str:
    ratio = row.ratio(target)
    assert ratio is not None
    colour, word = ("green", "met") if target.holds(ratio) else ("red", "missed")
    what = "of its rate, at least" if target.of == "rate" else "of its CPU, at most"
    return f"{ratio:.2f} {what} {target.bound:.3g}: [{colour}]{word}[/{colour}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""``stratum-tier replay`` for people: a table with a column for each policy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from stratumfs.cli.reasons_text import span_text, usd_text
from stratumfs.cli.units import size_text

Outcome = Mapping[str, Any]


def render_replay(found: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("this store", found["policy"]):
        table.add_column(name, justify="right", overflow="fold")
    now, other = found["now"], found["other"]
    for label, text in _rows(tuple(dict.fromkeys((*now["reads"], *other["reads"])))):
        table.add_row(label, text(now), text(other))
    console.print(f"{found['accesses']} accesses in {span_text(now['seconds'])}, {found['objects']} objects before")
    if found["objects_left_off"]:
        console.print("there are more objects, which are left off")
    console.print(table)
    saved = found["saved_usd_month"]
    console.print(f"{usd_text(abs(saved))} a month {'saved' if saved >= 0 else 'more'} with {found['policy']}")


def _rows(tiers: tuple[str, ...]) -> Iterator[tuple[str, Callable[[Outcome], str]]]:
    yield "all, a month", lambda each: usd_text(each["usd_month"])
    for tier in tiers:
        yield f"storage in {tier}", lambda each, tier=tier: usd_text(each["usd_storage"].get(tier, 0.0))  # type: ignore[misc]
    yield "requests and retrieval", lambda each: usd_text(each["usd_requests"])
    yield "stays that ended early", lambda each: usd_text(each["usd_early"])
    for tier in tiers:
        yield f"reads from {tier}", lambda each, tier=tier: str(each["reads"].get(tier, 0))  # type: ignore[misc]
    yield "a read waits", lambda each: f"{each['wait_mean_s'] * 1000:.3g} ms"
    yield "all waiting is worth", lambda each: usd_text(each["usd_waiting"])
    yield "moves", lambda each: str(each["moves"])
    yield "bytes moved", lambda each: size_text(int(each["moved_bytes"]))

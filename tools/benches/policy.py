"""The tier policy in a simulator, beside known policies: what it costs over patterns, seeds and sizes of the hot tier.

tools/bench policy SIMULATOR [--trace TRACE] prints for each case J (dollars per TB and month, waiting at one dollar an
hour) of the policy, that of the best simple one that does not know the future, and their ratio; then what the policy
did: hits of the hot tier, bytes moved per byte stored, bounces, forced moves, processor time of the replay for each
access, and memory an object. SIMULATOR is the path of tiersim.py.
"""

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tiering.simulation import Simulated, factory

KINDS = ("zipf", "shift", "flip", "scan", "monthly")
KNOWN = ("lru", "lfu", "arc", "gdsf", "s3fifo", "w-tinylfu", "lru-2hit", "ewma-byte", "cost-ewma")
"""Baselines that were the best of some pattern, or that others compare themselves with."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    events: list[Any]
    hot: float
    preload: str = "none"
    tick_s: float = 3600.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench policy", description=__doc__)
    parser.add_argument("simulator", type=Path, help="tiersim.py")
    parser.add_argument("--trace", type=Path, action="append", default=[], help="real traces, before the patterns")
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument(
        "--hot", type=float, nargs="+", default=[0.1], help="sizes of the hot tier, of all bytes stored"
    )
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--known", nargs="*", default=KNOWN, help="policies to stand beside it; all: every online one")
    parser.add_argument("--json", type=Path, help="all figures go there")
    given = parser.parse_args(argv)
    simulator = _load(given.simulator)
    rows = []
    for case in _cases(simulator, given):
        rows.append(_row(simulator, case, given.warm, given.known))
        print(_line(rows[-1]), file=sys.stderr, flush=True)
    Console(width=160).print(_table(rows))
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"J by the best online policy of each: {mean:.3f} in the geometric mean, {max(ratios):.3f} at most")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    return 0


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look there for their module
    spec.loader.exec_module(module)
    return module


def _cases(simulator: Any, given: argparse.Namespace) -> Iterator[Case]:
    for trace in given.trace:
        beside = Path(str(trace).removesuffix(".gz").removesuffix(".csv") + ".json")
        about = json.loads(beside.read_text()) if beside.exists() else {}
        events = simulator.load_trace(str(trace), about.get("size_scale", 1))
        for hot in given.hot:
            yield Case(trace.name, events, hot, about.get("preload", "none"), about.get("tick", 3600.0))
    for kind in given.kinds:
        for seed in given.seeds:
            events = simulator.synth(kind, seed=seed)
            for hot in given.hot:
                yield Case(f"{kind} {seed}", events, hot)


def _row(simulator: Any, case: Case, warm: float, known: list[str]) -> dict[str, Any]:
    tiers, bounded = simulator.build_tiers("appliance", case.events, case.hot, warm)
    run = simulator.Simulator(tiers, case.events, tick=case.tick_s, preload=case.preload)
    made: list[Simulated] = []

    def ours(context: Any) -> Simulated:
        made.append(factory(context))
        return made[-1]

    began = time.process_time()
    result = run.run(ours)
    spent_us = 1e6 * (time.process_time() - began) / len(case.events)
    policy = made[0].policy
    others = {}
    for name, other in simulator.baselines(bounded, 1).items():
        if not getattr(other, "offline", False) and (name in known or "all" in known):
            others[name] = run.run(other)["j_tb_month"]
    best = min(others, key=lambda name: others[name], default=None)
    return {
        "case": case.name,
        "hot": case.hot,
        **result,
        "cpu_us": spent_us,
        "bytes_object": policy.nbytes / len(policy.signals) if policy is not None else 0.0,
        "known": others,
        "best": best,
        "ratio": result["j_tb_month"] / others[best] if best is not None else None,
    }


def _line(row: dict[str, Any]) -> str:
    against = f", {row['best']} {row['known'][row['best']]:.1f}" if row["best"] else ""
    return f"{row['case']}, hot {row['hot']:g}: J {row['j_tb_month']:.1f}{against}"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="J: dollars per TB and month, waiting at $1 an hour")
    for column in ("case", "hot", "J", "best known", "its J", "ratio", "hit %", "byte hit %", "cold bytes %",
                   "moved x", "bounces %", "forced", "us", "B/object"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("case", "best known") else "right")
    for row in rows:
        table.add_row(
            row["case"],
            f"{row['hot']:g}",
            f"{row['j_tb_month']:.1f}",
            row["best"] or "",
            f"{row['known'][row['best']]:.1f}" if row["best"] else "",
            f"{row['ratio']:.3f}" if row["ratio"] else "",
            f"{100 * row['hot_hit']:.1f}",
            f"{100 * row['hot_byte_hit']:.1f}",
            f"{100 * row['cold_byte']:.1f}",
            f"{row['moved_x']:.2f}",
            f"{100 * row['bounce']:.1f}",
            str(row["forced"]),
            f"{row['cpu_us']:.0f}",
            f"{row['bytes_object']:.0f}",
        )
    return table

"""Encoding and decoding of stripes on one core, beside memcpy: GB of payload per second."""

import argparse
import os
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code, Codec
from stratumfs.erasure.engine import PortableEngine
from stratumfs.erasure.stripe import encode
from stratumfs.ids import CellIndex
from stratumfs.limits import STRIPE_PAYLOAD_MAX


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench coding", description=__doc__)
    parser.add_argument("-k", type=int, default=4)
    parser.add_argument("-m", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    given = parser.parse_args(argv)
    code = Code(given.k, given.m)
    codec = Codec(code)
    payload = os.urandom(STRIPE_PAYLOAD_MAX)
    memcpy = _rate(lambda: bytearray(payload), len(payload), given.seconds)

    table = Table(title=f"{code.k}+{code.m}, stripes of {len(payload) >> 10} KiB, {codec.engine.name}")
    for column in ("", "GB/s", "of memcpy"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {"memcpy": memcpy, **_rates(codec, payload, given.seconds)}
    for name, rate in rows.items():
        table.add_row(name, f"{rate:.2f}", f"{rate / memcpy:.2f}")
    Console().print(table)
    return 0


def _rates(codec: Codec, payload: bytes, seconds: float) -> dict[str, float]:
    code = codec.code
    cells = encode(payload, codec)
    size = len(cells[0])
    lost = [CellIndex(at) for at in range(min(code.m, code.k))]
    left = {CellIndex(at): cell for at, cell in enumerate(cells) if at not in lost}
    portable = Codec(code, PortableEngine())
    calls: dict[str, Callable[[], object]] = {
        "encode": lambda: encode(payload, codec),
        f"decode, {len(lost)} data cells lost": lambda: codec.recover(left, lost, size),
        "BLAKE3 of all cells": lambda: [digest(cell) for cell in cells],
        "encode without ISA-L": lambda: encode(payload, portable),
    }
    return {name: _rate(call, len(payload), seconds) for name, call in calls.items()}


def _rate(call: Callable[[], object], size: int, seconds: float) -> float:
    """GB of payload a second, by processor time: other programs shall not count."""
    call()
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        call()
        count += 1
    return count * size / (time.process_time() - began) / 1e9

"""Memory while large objects go in and out: so many PUTs beside as many GETs, each of a whole object, through S3.

Prints what was resident at most, by VmHWM of the owner, before and behind it, and how fast it went. Ends with 1 if that
is more than 300 MiB.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.doors import Doors, opened_doors
from tools.measure.endpoint import UNSIGNED, Endpoint
from tools.measure.load import download, upload

MIB = 1 << 20
_BUCKET = "memory"
_MOST, _MIB_MAX = "MiB resident at most", 300


def _resident_max(doors: Doors) -> float:
    """MiB, since the owner began."""
    lines = Path(f"/proc/{doors.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def run(doors: Doors, folder: Path, size: int, at_once: int) -> dict[str, float]:
    (doors.mount / _BUCKET).mkdir()
    body = folder / "body"
    with body.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    endpoint = Endpoint(doors.port, *doors.credentials)

    def put(prefix: str) -> list[bytes]:
        paths = [f"/{_BUCKET}/{prefix}{number}" for number in range(at_once)]
        return [endpoint.head("PUT", path, sha256=UNSIGNED, length=size) for path in paths]

    before = _resident_max(doors)
    upload(endpoint.port, put("first"), body, at_once)
    gets = [endpoint.head("GET", f"/{_BUCKET}/first{number}", sha256=UNSIGNED) for number in range(at_once)]
    began, failures = time.perf_counter(), list[BaseException]()

    def beside(call: object, *args: object) -> None:
        try:
            call(*args)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=beside, args=(upload, endpoint.port, put("second"), body, at_once)),
        threading.Thread(target=beside, args=(download, endpoint.port, gets, size, at_once)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    took = time.perf_counter() - began
    return {
        "MiB resident before": before,
        _MOST: _resident_max(doors),
        "MB/s, in and out together": 2 * at_once * size / took / 1e6,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench memory", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each object")
    parser.add_argument("--at-once", type=int, default=8, help="PUTs, and as many GETs")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, opened_doors(Path(folder), seconds=7200) as doors:
        found = run(doors, Path(folder), given.size * MIB, given.at_once)
    if given.json:
        print(json.dumps(found))
    else:
        table = Table("what", "", title=f"{given.at_once} objects of {given.size} MiB in, and as many out")
        for name, value in found.items():
            table.add_row(name, f"{value:,.0f}")
        Console().print(table)
    return 0 if found[_MOST] < _MIB_MAX else 1

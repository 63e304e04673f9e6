"""The rows of the S3 door. All requests are signed, by headers; those of 64 MiB sign no payload, as SDKs do on TLS."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw

from tools.measure.endpoint import UNSIGNED, Endpoint
from tools.measure.load import Load, WrongAnswer, clocked, download, drive, fetched, upload
from tools.measure.row import Measure, Row, Sample, Target
from tools.measure.setting import MB, Setting, distinct, measured
from tools.measure.systems import BARE_HTTP, BUCKET, LISTED, RCLONE, SEAWEED, System

MIB = 1 << 20
LARGE = 64 * MIB
APSW = "APSW"
_CONNECTIONS = 16
_SMALL = 4096
_OBJECTS, _GETS, _PUTS = 1000, 3000, 1500
_PAGES, _PAGE = 30, 1000
_AT_ONCE = (1, 4)
_LARGE_EACH = 4
_FILLERS = 64
_ROWS = (
    "select e.name, i.size, i.etag, i.modified_ns, i.object from entry e join inode i on i.ino = e.inode"
    " where e.parent = ? and e.name > ? order by e.name limit ?"
)


def get4k(setting: Setting) -> list[Row]:
    """Objects that were put before, drawn at random."""
    lanes: dict[str, Measure] = {}
    bodies = distinct(setting.random("get4k"), _SMALL, _OBJECTS)
    for system, endpoint in _doors(setting, BARE_HTTP):
        requests = [endpoint.put(f"/{BUCKET}/get4k/{number}", body) for number, body in enumerate(bodies)]
        drive(endpoint.port, requests, _CONNECTIONS, _any)
        lanes[system.name] = measured(partial(_get4k, setting, system, endpoint, bodies))
    targets = [Target(SEAWEED, 1.0), Target(SEAWEED, 0.7, "cpu")]
    return [Row("get4k", f"GET of 4 KiB, {_CONNECTIONS} connections", "requests", lanes, targets)]


def _get4k(
    setting: Setting, system: System, endpoint: Endpoint, bodies: list[bytes], round_: int
) -> tuple[float, Load]:
    drawn = setting.random("get4k", round_).choices(range(_OBJECTS), k=_GETS)
    heads = [endpoint.head("GET", f"/{BUCKET}/get4k/{number}") for number in range(_OBJECTS)]
    requests = [heads[number] for number in drawn]
    load = drive(endpoint.port, requests, _CONNECTIONS, lambda index, body: body == bodies[drawn[index]], system.cpu_s)
    return _GETS, load


def put4k(setting: Setting) -> list[Row]:
    """New keys, other bytes in each."""
    lanes: dict[str, Measure] = {}
    for system, endpoint in _doors(setting, BARE_HTTP):
        lanes[system.name] = measured(partial(_put4k, setting, system, endpoint))
    return [Row("put4k", f"PUT of 4 KiB, {_CONNECTIONS} connections", "requests", lanes, [Target(SEAWEED, 1.0)])]


def _put4k(setting: Setting, system: System, endpoint: Endpoint, round_: int) -> tuple[float, Load]:
    bodies = distinct(setting.random("put4k", round_), _SMALL, _PUTS)
    requests = [endpoint.put(f"/{BUCKET}/put4k/{round_}/{number}", body) for number, body in enumerate(bodies)]
    return _PUTS, drive(endpoint.port, requests, _CONNECTIONS, _any, system.cpu_s)


def list_pages(setting: Setting) -> list[Row]:
    """Pages of a bucket with many keys from random places on; beside it the same rows out of a copy of the catalog."""
    lanes: dict[str, Measure] = {}
    for system, endpoint in _doors(setting, BARE_HTTP, RCLONE):
        if system.name == SEAWEED:
            _fill(setting, endpoint)
        lanes[system.name] = measured(partial(_list, setting, system, endpoint))
    lanes[APSW] = partial(_rows, setting)
    title = f"page of {_PAGE:,} keys out of {setting.keys:,}"
    return [Row("list", title, "pages", lanes, [Target(APSW, 1 / 8), Target(SEAWEED, 4.0)])]


def listed_key(number: int) -> str:
    return f"{number:08d}-{hashlib.md5(number.to_bytes(8, 'big'), usedforsecurity=False).hexdigest()[:12]}"


def _starts(setting: Setting, round_: int) -> list[str]:
    drawn = setting.random("list", round_)
    return [listed_key(drawn.randrange(max(1, setting.keys - _PAGE))) for _ in range(_PAGES)]


def _list(setting: Setting, system: System, endpoint: Endpoint, round_: int) -> tuple[float, Load]:
    query = f"list-type=2&max-keys={_PAGE}&start-after="
    requests = [endpoint.head("GET", f"/{LISTED}", query + start) for start in _starts(setting, round_)]
    return _PAGES, drive(endpoint.port, requests, 1, lambda _, body: body.count(b"<Key>") == _PAGE, system.cpu_s)


def _rows(setting: Setting, round_: int) -> Sample:
    connection = apsw.Connection(str(setting.folder / "catalog.db"), flags=apsw.SQLITE_OPEN_READONLY)
    (bucket,) = connection.execute("select ino from bucket where name = ?", (LISTED,)).fetchone()
    found: list[Load] = []
    with clocked(time.process_time, found):
        for start in _starts(setting, round_):
            rows = connection.execute(_ROWS, (bucket, start.encode(), _PAGE)).fetchall()
            assert len(rows) == _PAGE
    connection.close()
    return Sample(_PAGES, found[0].seconds, found[0].cpu_s, 0.0)


def _fill(setting: Setting, endpoint: Endpoint) -> None:
    """A peer's bucket, by its own door: empty objects."""
    drive(endpoint.port, [endpoint.head("PUT", f"/{LISTED}")], 1, _any)
    step = 10_000
    for start in range(0, setting.keys, step):
        setting.say(f"{start:,} of {setting.keys:,} keys put into {SEAWEED}")
        numbers = range(start, min(start + step, setting.keys))
        requests = [endpoint.head("PUT", f"/{LISTED}/{listed_key(number)}") for number in numbers]
        drive(endpoint.port, requests, _FILLERS, _any)


def put64m(setting: Setting) -> list[Row]:
    body = setting.folder / "large"
    body.write_bytes(setting.random("large").randbytes(LARGE))
    return _large(setting, "put64m", "PUT", partial(_put64m, body), (0.9, 1.2), 2.0)


def get64m(setting: Setting) -> list[Row]:
    body = setting.folder / "large"
    body.write_bytes(setting.random("large").randbytes(LARGE))
    digest = hashlib.md5(body.read_bytes(), usedforsecurity=False).digest()
    for system, endpoint in _doors(setting):
        head = endpoint.head("PUT", f"/{BUCKET}/large", sha256=UNSIGNED, length=LARGE)
        upload(endpoint.port, [head], body, 1)
        got = fetched(endpoint.port, endpoint.head("GET", f"/{BUCKET}/large"))
        if system.name != BARE_HTTP and hashlib.md5(got, usedforsecurity=False).digest() != digest:
            raise WrongAnswer(f"{system.name} gives other bytes than it got")
    return _large(setting, "get64m", "GET", _get64m, (0.6, 0.6), 1.2)


def _put64m(body: Path, system: System, endpoint: Endpoint, at_once: int, _: int) -> tuple[float, Load]:
    count = _LARGE_EACH * (2 if at_once > 1 else 1)
    # Keys that come again: what they held before is freed meanwhile.
    heads = [endpoint.head("PUT", f"/{BUCKET}/put64m/{n}", sha256=UNSIGNED, length=LARGE) for n in range(count)]
    return count * LARGE / MB, upload(endpoint.port, heads, body, at_once, system.cpu_s)


def _get64m(system: System, endpoint: Endpoint, at_once: int, _: int) -> tuple[float, Load]:
    count = 2 * _LARGE_EACH
    heads = [endpoint.head("GET", f"/{BUCKET}/large") for _ in range(count)]
    return count * LARGE / MB, download(endpoint.port, heads, LARGE, at_once, system.cpu_s)


def _large(
    setting: Setting,
    name: str,
    method: str,
    call: Callable[[System, Endpoint, int, int], tuple[float, Load]],
    floors: tuple[float, float],
    peer: float,
) -> list[Row]:
    """One row for each number of requests at once; *floors* are the targets beside the bare application."""
    rows = []
    for at_once, floor in zip(_AT_ONCE, floors, strict=True):
        lanes = {each.name: measured(partial(call, each, endpoint, at_once)) for each, endpoint in _doors(setting)}
        title = f"{method} of 64 MiB, {at_once} at once"
        rows.append(Row(name, title, "MB", lanes, [Target(BARE_HTTP, floor), Target(SEAWEED, peer)]))
    return rows


def _doors(setting: Setting, *without: str) -> list[tuple[System, Endpoint]]:
    found = [(each, each.endpoint) for each in setting.systems.values() if each.endpoint is not None]
    return [(each, endpoint) for each, endpoint in found if each.name not in without]


def _any(_: int, __: bytes) -> bool:
    return True

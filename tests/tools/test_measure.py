"""What tools/bench measures with: whose processor time counts, what it sends, and when a target is met."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.auth import sigv4
from tools.benches.doors import ROWS
from tools.measure.endpoint import Endpoint
from tools.measure.load import WrongAnswer, download, drive, fetched, upload
from tools.measure.processes import cpu_s
from tools.measure.report import as_json, table
from tools.measure.row import OURS, Row, Sample, Target

ROOT = Path(__file__).parents[2]

_BURNS = """
import subprocess, sys, time
def burn():
    while time.process_time() < 0.2:
        pass
burn()
if sys.argv[1] == "parent":
    subprocess.run([sys.executable, "-c", sys.argv[2], "child", ""], check=True)
    print("done", flush=True)
    sys.stdin.read()
"""


def test_the_time_of_children_counts_also_of_those_that_have_ended() -> None:
    command = [sys.executable, "-c", _BURNS, "parent", _BURNS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert cpu_s(parent.pid) >= 0.38
        parent.communicate()


def test_heads_are_signed_as_the_gate_expects() -> None:
    endpoint = Endpoint(1234, "the-key", "the-secret")
    line, *headers = endpoint.head("GET", "/bucket", "list-type=2&max-keys=7").decode().split("\r\n")[:-2]
    assert line == "GET /bucket?list-type=2&max-keys=7 HTTP/1.1"
    found = dict(header.split(": ", 1) for header in headers)
    claim = sigv4.parse_authorization(found.pop("Authorization"))
    canonical = sigv4.canonical_request(
        "GET",
        b"/bucket",
        [("list-type", "2"), ("max-keys", "7")],
        [(name.lower().encode(), value.encode()) for name, value in found.items()],
        claim.signed_headers,
        found["x-amz-content-sha256"],
    )
    key = sigv4.derive_key("the-secret", claim.scope)
    assert sigv4.matches(key, sigv4.string_to_sign(found["x-amz-date"], claim.scope, canonical), claim.signature)


@contextmanager
def answering(*answers: bytes, body: int = 0) -> Iterator[int]:
    """The port of a server that takes one connection, and for each answer a head and *body* bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as received:
                for answer in answers:
                    while received.readline().strip():
                        pass
                    received.read(body)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


_HEAD = b"GET / HTTP/1.1\r\n\r\n"
_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


def test_answers_are_whole_and_looked_at() -> None:
    with answering(_PLAIN, _CHUNKED) as port:
        seen: list[bytes] = []
        drive(port, [_HEAD, _HEAD], 1, lambda _, body: not seen.append(body))
    assert seen == [b"hello", b"hello"]


@pytest.mark.parametrize(
    "answer", [_PLAIN, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent"]
)
def test_what_goes_wrong_is_no_measurement(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(WrongAnswer):
        drive(port, [_HEAD], 1, lambda *_: False)


def test_large_bodies_go_both_ways(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(100_000))
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", body=100_000) as port:
        upload(port, [_HEAD], body, 1)
    with answering(_PLAIN) as port:
        download(port, [_HEAD], 5, 1)
    with answering(_PLAIN) as port, pytest.raises(WrongAnswer):
        download(port, [_HEAD], 6, 1)
    with answering(_PLAIN) as port:
        assert fetched(port, _HEAD) == b"hello"


def made_row(targets: list[Target]) -> Row:
    """Ours is twice as fast in the median, at half the processor time."""
    row = Row("name", "a title", "things", {}, targets)
    row.samples = {
        OURS: [Sample(100, seconds, 1.0, 0.1) for seconds in (1, 1, 9)],
        "other": [Sample(100, seconds, 2.0, 0.1) for seconds in (2, 4, 9)],
    }
    return row


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [
        (Target("other", 2.0), 2.0, True),
        (Target("other", 2.1), 2.0, False),
        (Target("other", 0.5, "cpu"), 0.5, True),
        (Target("other", 0.4, "cpu"), 0.5, False),
    ],
)
def test_a_target_is_held_against_the_median_of_the_rounds(target: Target, ratio: float, met: bool) -> None:
    row = made_row([target])
    assert row.ratio(target) == ratio
    assert target.holds(ratio) is met
    assert f'"met": {str(met).lower()}' in as_json([row], 1)
    assert table([row]).row_count == 2


def test_a_target_beside_somebody_who_was_not_measured_is_not_judged() -> None:
    target = Target("nobody", 2.0)
    assert made_row([target]).ratio(target) is None
    assert '"met": null' in as_json([made_row([target])], 1)


def test_the_manual_names_every_row() -> None:
    page = (ROOT / "man" / "stratumfs-performance.7").read_text().replace("\\-", "-")
    for name in ROWS:
        assert f"\n.B {name}\n" in page

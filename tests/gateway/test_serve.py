"""Sockets, TLS and the end: what a gateway does when it comes and when it goes."""

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import trio
import trio.testing
from botocore.config import Config

from gateway.response import Buffer
from gateway.serve import Tls, bind, serve, split_address
from stratumfs.errors import ConfigError
from stratumfs.values import Checksum
from tests.gateway.memory import ACCESS_KEY, SECRET, Running, Stored, running
from tests.gateway.requests import signed


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application without lifespan."""
    raise NotImplementedError


async def no_trigger() -> None:
    await trio.sleep_forever()


async def test_a_busy_port_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen on {address}.*another program") as caught:
            await serve(nothing, [address], None, no_trigger)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "9000", "host", "host:", "host:x", "::1:9000x", "a:70000", "::1:9000"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        await bind([address])


async def test_a_host_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        await bind(["192.0.2.1:0"])
    with pytest.raises(ConfigError, match="needs an address"):
        await bind([])


def test_addresses() -> None:
    assert split_address("127.0.0.1:9000") == ("127.0.0.1", 9000)
    assert split_address("[::1]:9000") == ("::1", 9000)
    assert split_address(":9000") == ("", 9000)


async def test_all_sockets_or_none() -> None:
    """A later address that fails closes the earlier ones: an unclosed socket is a warning, and so an error here."""
    with pytest.raises(ConfigError):
        await bind(["127.0.0.1:0", "nonsense"])


async def test_a_missing_or_wrong_certificate_is_said_in_one_line(tls: Tls, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        await serve(nothing, ["127.0.0.1:0"], Tls(tmp_path / "none", tls.key), no_trigger)
    with pytest.raises(ConfigError, match="no certificate and its key"):
        await serve(nothing, ["127.0.0.1:0"], Tls(tls.key, tls.certificate), no_trigger)


@pytest.mark.client
async def test_a_client_speaks_tls(tls: Tls) -> None:
    async with running(tls) as gateway:
        assert gateway.url.startswith("https://")
        s3 = boto3.client(
            "s3",
            endpoint_url=f"https://localhost:{gateway.port}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            verify=str(tls.certificate),
            config=Config(s3={"addressing_style": "path"}),
        )

        def talk() -> bytes:
            s3.create_bucket(Bucket="bucket")
            # Over TLS boto3 sends its checksum as a trailer, in unsigned chunks.
            s3.put_object(Bucket="bucket", Key="k", Body=b"over tls" * 100_000)
            data: bytes = s3.get_object(Bucket="bucket", Key="k")["Body"].read()
            return data

        assert await trio.to_thread.run_sync(talk) == b"over tls" * 100_000
        payloads = [request.headers["x-amz-content-sha256"] for request in gateway.service.seen]
        assert "STREAMING-UNSIGNED-PAYLOAD-TRAILER" in payloads


@pytest.mark.client
async def test_http_2_works_over_tls(tls: Tls) -> None:
    async with running(tls) as gateway:
        gateway.service.buckets["b"] = {}
        url = f"https://localhost:{gateway.port}"

        async def curl(method: str, body: bytes, *options: str) -> bytes:
            found = signed(method, f"{url}/b/k", {}, ACCESS_KEY, SECRET, body=body)
            headers = [f"-H{name.decode()}: {value.decode()}" for name, value in found.raw_headers if name != b"host"]
            command = ["curl", "-sS", "--http2", "--cacert", str(tls.certificate), "-X", method, *headers, *options]
            done = await trio.run_process([*command, f"{url}/b/k"], capture_stdout=True, stdin=body)
            return done.stdout

        await curl("PUT", b"hello", "--data-binary", "@-")
        answer = await curl("GET", b"", "-w", " %{http_version}")
        assert answer == b"hello 2"


@pytest.mark.client
async def test_an_answer_over_http_2_that_fails_midway_does_not_hang(
    tls: Tls, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(data: bytes) -> AsyncIterator[Buffer]:
        yield data[:100]
        raise ValueError("a bug")

    async with running(tls) as gateway:
        fill(gateway.service, 1000)
        gateway.service.chunks = failing
        url = f"https://localhost:{gateway.port}/b/k"
        found = signed("GET", url, {}, ACCESS_KEY, SECRET)
        headers = [f"-H{name.decode()}: {value.decode()}" for name, value in found.raw_headers if name != b"host"]
        command = ["curl", "-sS", "-m", "60", "--http2", "--cacert", str(tls.certificate), *headers, url]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode not in (0, 28), done.stderr


async def test_plain_bytes_at_a_tls_port_hurt_nobody(tls: Tls) -> None:
    async with running(tls) as gateway:
        for data in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01", b""):
            stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
            async with stream:
                await stream.send_all(data)
        context = ssl.create_default_context(cafile=str(tls.certificate))
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        secure = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        await secure.send_all(b"GET /stratum/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await secure.receive_some()).startswith(b"HTTP/1.1 200")
        await tcp.aclose()


async def download(port: int) -> trio.SocketStream:
    """A GET of /b/k under way."""
    found = signed("GET", f"http://127.0.0.1:{port}/b/k", {}, ACCESS_KEY, SECRET)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in found.raw_headers)
    await stream.send_all(b"GET /b/k HTTP/1.1\r\n" + head + b"\r\n")
    return stream


def fill(service: Any, size: int) -> None:
    service.buckets["b"] = {b"k": Stored(b"x" * size, "e" * 32, {}, Checksum("CRC32", "AAAAAA=="))}


async def test_requests_under_way_are_finished_before_the_end() -> None:
    async with running() as gateway:
        fill(gateway.service, (1 << 20) + 5)
        gateway.service.hold = True
        idle = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = await download(gateway.port)
        received = b""
        while not received.endswith(b"x" * (1 << 20)):
            received += await stream.receive_some()
        gateway.stop.set()
        assert await idle.receive_some() == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", gateway.port)
        gateway.service.gate.set()
        received += b"".join([chunk async for chunk in stream])
        assert received.endswith(b"x" * ((1 << 20) + 5))
        await idle.aclose()
        await stream.aclose()


async def test_a_client_that_does_not_read_cannot_hold_the_end_up(mock_clock: trio.testing.MockClock) -> None:
    """The clock jumps when everything waits; the client's kernel buffers are full long before."""
    async with running() as gateway:
        fill(gateway.service, 64 << 20)
        stream = await download(gateway.port)
        while not gateway.door.statistics().in_flight:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gateway.stop.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(11)
        while gateway.door.statistics().in_flight:
            await trio.lowlevel.checkpoint()
        await stream.aclose()


async def test_a_cancelled_gateway_ends_at_once() -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            gateway = await nursery.start(_run_gateway)
            fill(gateway.service, 64 << 20)
            stream = await download(gateway.port)
            while not gateway.door.statistics().in_flight:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


async def _run_gateway(*, task_status: trio.TaskStatus[Running]) -> None:
    async with running() as gateway:
        task_status.started(gateway)
        await trio.sleep_forever()

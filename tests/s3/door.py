"""A real store behind a real gateway on loopback, run beside the tests in a thread of its own."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import trio
from botocore.config import Config

from gateway.app import Door, Readiness, make_app
from gateway.auth.gate import Gate
from gateway.serve import serve
from gateway.service import StoreService
from stratumfs.store.store import Store
from tests.faults.audit import audit_rows, audit_shards
from tests.stores import running_store

ACCESS_KEY, SECRET_KEY = "AKIDTESTS", "secret/of+tests"
REGION = "us-east-1"


class _OneKey:
    def secret(self, access_key: str) -> str | None:
        return SECRET_KEY if access_key == ACCESS_KEY else None


@dataclass(frozen=True, slots=True)
class Gateway:
    """url: of the gateway; home: a folder for the clients' own files."""

    url: str
    home: Path
    door: Door
    store: Store
    token: trio.lowlevel.TrioToken

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def client(self, **config: Any) -> Any:
        """boto3 as it comes, but for retries: an error is an error at once."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
        )

    def environment(self) -> dict[str, str]:
        """For client programs: nothing of the machine's own settings."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_PAGER": "",
            "S3_ENDPOINT_URL": self.url,
        }


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """Serve the store below *folder*; made if it is not there."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    running: list[Gateway] = []
    failure: list[BaseException] = []
    wrong: list[str] = []
    ready = threading.Event()
    stop = trio.Event()

    async def run() -> None:
        async with running_store(folder / "store") as store, trio.open_nursery() as nursery:
            door = make_app(StoreService(store, REGION), Gate(_OneKey()), readiness=lambda: Readiness(True))
            urls: list[str] = await nursery.start(serve, door, ["127.0.0.1:0"], None, stop.wait)
            running.append(Gateway(urls[0], home, door, store, trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()
            if store.read_only is None:
                await store.maintenance.round()
                wrong.extend(await audit_rows(store, tidy=True) + await audit_shards(store))

    def main() -> None:
        try:
            trio.run(run)
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="gateway")
    thread.start()
    ready.wait()
    try:
        if running:
            yield running[0]
    finally:
        if running and not failure:
            trio.from_thread.run_sync(stop.set, trio_token=running[0].token)
        thread.join()
        if failure:
            raise failure[0]
    assert running[0].door.statistics().unexpected_errors == 0
    assert not wrong, "\n".join(wrong)

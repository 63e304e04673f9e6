"""What Prometheus is told while both doors are used."""

import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.doors import BIN, Doors, run
from tools.measure.processes import free_port

pytestmark = [pytest.mark.mount, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "man" / "stratumfs-metrics.7"
LARGE = bytes(range(256)) * 20_000


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[tuple[Doors, str]]:
    """Both doors, and where metrics are to be had."""
    doors, address = Doors(tmp_path), f"127.0.0.1:{free_port()}"
    try:
        doors.make()
        with (doors.store / "stratumfs.toml").open("a") as file:
            file.write(f'\n[metrics]\nlisten = "{address}"\n')
        yield doors, address
    finally:
        doors.destroy()


def scrape(address: str) -> dict[str, Metric]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        return {metric.name: metric for metric in text_string_to_metric_families(answer.read().decode())}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float:
    """The sum of all samples of that name that have these labels, with others or without."""
    return sum(
        each.value
        for metric in found.values()
        for each in metric.samples
        if each.name == sample and labels.items() <= each.labels.items()
    )


def test_what_the_doors_do_is_counted(listen: tuple[Doors, str]) -> None:
    doors, address = listen
    doors.start()
    client = doors.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="large", Body=LARGE)
    for _ in range(2):
        assert client.get_object(Bucket="bucket", Key="large")["Body"].read() == LARGE
    with pytest.raises(ClientError):
        client.get_object(Bucket="bucket", Key="none")
    (doors.mount / "bucket" / "file").write_bytes(LARGE)
    assert (doors.mount / "bucket" / "large").read_bytes() == LARGE
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(doors.mount / "bucket" / "file", "user.none")
    found = scrape(address)

    def s3(operation: str, status: int) -> float:
        return value(found, "stratumfs_s3_requests_total", operation=operation, status=str(status))

    assert (s3("PutObject", 200), s3("GetObject", 200), s3("GetObject", 404)) == (1, 2, 1)
    assert value(found, "stratumfs_s3_request_seconds_count", operation="GetObject") == 3
    assert value(found, "stratumfs_s3_sent_bytes_total") >= 2 * len(LARGE)
    assert value(found, "stratumfs_s3_received_bytes_total") >= len(LARGE)
    assert value(found, "stratumfs_fuse_request_seconds_count", call="create") == 1
    assert value(found, "stratumfs_fuse_refusals_total", call="getxattr", errno="ENODATA") >= 1
    assert value(found, "stratumfs_fuse_written_bytes_total") == len(LARGE)
    assert value(found, "stratumfs_fuse_read_bytes_total") >= len(LARGE)
    assert value(found, "stratumfs_stripes_encoded_total", tier="hot") >= 2 * -(-len(LARGE) // 2**20)
    assert value(found, "stratumfs_cells_verified_total") > 0
    assert value(found, "stratumfs_cell_cache_hits_total") > 0
    rounds = value(found, "stratumfs_catalog_round_seconds_count")
    assert rounds == value(found, "stratumfs_catalog_round_commits_count") > 0
    assert value(found, "stratumfs_device_state", state="online") == 6
    for device in doors.devices:
        assert value(found, "stratumfs_device_call_seconds_count", device=str(device), call="write") > 0
    assert value(found, "stratumfs_read_only") == value(found, "stratumfs_writes_waiting") == 0
    assert (value(found, "stratumfs_devices_survived"), value(found, "stratumfs_durability_green")) == (2, 1)
    assert value(found, "stratumfs_shards_not_sealed") == value(found, "stratumfs_shards_good") == 6
    assert value(found, "process_cpu_seconds_total") > 0
    wanted = {"accept": "application/openmetrics-text"}
    request = urllib.request.Request(f"http://{address}/metrics", headers=wanted)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert list(openmetrics.text_string_to_metric_families(answer.read().decode()))
    doors.stop()
    assert doors.complaints() == []


def test_what_buckets_hold_and_what_is_verified_is_told(listen: tuple[Doors, str]) -> None:
    doors, address = listen
    doors.start()
    (doors.mount / "bucket" / "below").mkdir(parents=True)
    (doors.mount / "bucket" / "below" / "file").write_bytes(LARGE)
    doors.restart()  # which seals the volume
    run([BIN / "stratumfs", "scrub", "--now", doors.store])
    counted = json.loads(run([BIN / "stratumfs", "usage", "--now", "--json", doors.mount / "bucket"]))
    assert (counted["objects"], counted["bytes"]) == (2, len(LARGE))  # the directory is a key
    assert [each["path"] for each in counted["below"]] == ["bucket/below/"]
    found = scrape(address)
    assert value(found, "stratumfs_bucket_objects", bucket="bucket") == 2
    assert value(found, "stratumfs_bucket_bytes", bucket="bucket") == len(LARGE)
    assert value(found, "stratumfs_durability_green") == 1
    assert value(found, "stratumfs_shards_verified") == value(found, "stratumfs_shards") == 6
    assert 0 < value(found, "stratumfs_oldest_verified_seconds") <= time.time()
    doors.stop()
    assert doors.complaints() == []


def test_the_manual_names_each_series_and_no_other(listen: tuple[Doors, str]) -> None:
    doors, address = listen
    doors.start()
    own = {name for name in scrape(address) if name.startswith("stratumfs")}
    named = set(re.findall(r"^\.B (stratumfs\w*)$", PAGE.read_text(), flags=re.MULTILINE))
    assert {name.removesuffix("_total") for name in named} == own


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name"])
def test_where_the_address_cannot_be_had_the_store_goes_on_without(listen: tuple[Doors, str], host: str) -> None:
    doors, address = listen
    settings = doors.store / "stratumfs.toml"
    settings.write_text(settings.read_text().replace("127.0.0.1", host))
    doors.expected.append("no_metrics")
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        doors.start()
    doors.client().create_bucket(Bucket="bucket")
    assert (doors.mount / "bucket").is_dir()
    doors.stop()
    assert "no_metrics" in doors.log.read_text()
    assert doors.complaints() == []

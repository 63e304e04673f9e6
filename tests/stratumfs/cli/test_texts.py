import pytest

from stratumfs.cli.explain_text import explanation_lines
from stratumfs.cli.status_text import render_status, survives_text
from stratumfs.cli.units import size_text


def test_sizes_have_a_unit_that_reads_well() -> None:
    assert [size_text(count) for count in (0, 1023, 1024, 1536 * 1024, 5 * 1024**4, None)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "5.0 TiB",
        "?",
    ]


def test_what_survives_is_said_in_words() -> None:
    assert survives_text(2, 0) == "all data survives the loss of any 2 devices, of no disk"
    assert survives_text(1, 1) == "all data survives the loss of any 1 device, of any 1 disk"
    assert survives_text(0, 0) == "all data survives the loss of no device, of no disk"
    assert "CANNOT BE READ" in survives_text(-1, -1)


def test_status_shows_a_path_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/srv/[red]/pci:100:/" + "x" * 200
    device = {"tier": "hot", "slot": 0, "state": "failed", "free": None, "total": None, "path": path}
    sizes = ("used", "inline", "dead", "unfinished_uploads", "usable_free", "usable_total", "raw_total")
    space = dict.fromkeys(sizes, 0)
    render_status(
        {
            "store": path,
            "k": 1,
            "m": 0,
            "owner": 7,
            "read_only": path,
            "waiting": None,
            "refused": f"{path} holds the catalog",
            "devices_survived": 0,
            "disks_survived": 0,
            "devices": [
                device | {"reason": f"{path} is gone", "again": 3600.0, "catalog": None, "catalog_reason": path}
            ],
            "tiers": [],
            "remote_tiers": [],
            "moves": [{"path": "photos", "to": "warm", "bytes": 1, "total": 2, "waits": "too few devices"}],
            "volumes": {"open": 0},
            "missing_shards": 0,
            "unknown_shards": 9,
            "damaged_shards": 0,
            "store_folder": {"catalog": "primary", "catalog_reason": None},
            "put_off": {"volumes": 3, "again": 7200.0},
            "space": space,
            "repairs": [],
            "compaction": {"under_way": [], "waiting": {"half_dead": 1, "narrow": 0, "small": 0}},
            "scrub": {"period_s": 1209600.0, "passes": []},
            "doors": [{"kind": "mount", "where": [path], "state": "open", "since": 0}],
        }
    )
    said = capsys.readouterr().out
    assert said.count(path) == 7
    assert f"NO NEW DATA IS TAKEN: {path} holds" in said
    assert "hot 0 is failed: /srv" in said
    assert "is gone; tried again at 1970-01-01T01:00:00Z" in said
    assert "damaged: 0, not known: 9" in said
    assert "catalog: on the store folder (written to first)" in said
    assert "catalog: NOT on hot 0: /srv" in said
    assert "3; tried again at 1970-01-01T02:00:00Z" in said
    assert "WAITS: too few devices" in said


def test_an_explanation_counts_what_is_not_there() -> None:
    shards = [{"cell": cell, "device": f"/d{cell}", "state": "missing" if cell < 2 else "present"} for cell in range(6)]
    volume = {
        "id": "ab",
        "tier": "warm",
        "k": 4,
        "m": 2,
        "state": "sealed",
        "bytes": 2048,
        "extents": 1,
        "since": "x",
        "shards": shards,
    }
    found = {
        "kind": "file",
        "size": 2060,
        "tier": "warm",
        "tiers": {"warm": 2048},
        "moved": {
            "from": "hot",
            "to": "warm",
            "at": "2026-02-01T00:00:00Z",
            "uid": 1000,
            "user": "ann",
            "named": "photos/",
            "reason": "it is old",
        },
        "placed": None,
        "then": None,
        "tiering": None,
        "since": "2026-01-01T00:00:00Z",
        "inline_bytes": 12,
        "volumes": [volume],
        "volumes_left_off": 3,
        "devices_survived": 0,
        "disks_survived": 0,
    }
    lines = list(explanation_lines("/mnt/x", found))
    assert lines[0] == "/mnt/x: file, 2.0 KiB, tier warm, written 2026-01-01T00:00:00Z"
    assert lines[1] == "  moved from hot to warm 2026-02-01T00:00:00Z for ann (uid 1000), with photos/: it is old"
    assert "  12 B in the catalog" in lines
    assert "    shard 1: missing on /d1" in lines
    assert "  and 3 volumes more" in lines
    assert "  shards: 4 present, 2 missing" in lines
    assert lines[-1] == "  it survives the loss of no device, of no disk"

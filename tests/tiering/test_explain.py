"""Explanations of files, also of those in more volumes than are shown."""

import json
from pathlib import Path

import pytest

from stratumfs.catalog.volumes import SEALED, volumes
from stratumfs.ids import CellIndex, InodeNo
from stratumfs.owner import create
from stratumfs.store.store import Store
from tests.faults import acts
from tests.stratumfs.owner.test_create import KEYS, devices
from tests.stratumfs.owner.test_exchange import opened
from tiering import attribute, explain

SIZE = 40_000


async def in_three_volumes(store: Store) -> InodeNo:
    await store.objects.create_bucket("bucket", 1)
    ino = (await acts.make(store, "bucket/key")).ino
    for at in range(3):
        await acts.publish(store, ino, [(at * SIZE, bytes(SIZE))], (at + 1) * SIZE, durable=True)
        await store.writer.volumes.seal_idle(0)
    return ino


async def test_regression_what_a_file_survives_is_the_least_over_all_its_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not shown too."""
    monkeypatch.setattr(explain, "VOLUMES_SHOWN_MAX", 1)
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    async with opened(tmp_path / "store") as running:
        store = running.store
        ino = await in_three_volumes(store)
        found = await running.explainer.explain(inode=ino)
        assert (len(found["volumes"]), found["volumes_left_off"], found["devices_survived"]) == (1, 2, 2)
        shown = found["volumes"][0]["id"]
        [hurt, _] = [row for row in await store.catalog.read(volumes, SEALED) if row.id.hex() != shown]
        store.repairer.seen.note(hurt.id, {CellIndex(1), CellIndex(4)})
        found = await running.explainer.explain(inode=ino)
        assert found["volumes"][0]["id"] == shown
        assert (found["volumes"][0]["devices_survived"], found["devices_survived"]) == (2, 0)


async def test_regression_volumes_are_left_off_that_an_attribute_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    async with opened(tmp_path / "store") as running:
        ino = await in_three_volumes(running.store)
        whole = await running.explainer.attribute(ino, trusted=True)
        assert len(json.loads(whole)["volumes"]) == 3
        monkeypatch.setattr(attribute, "XATTR_VALUE_MAX", len(whole) - 1)
        short = await running.explainer.attribute(ino, trusted=True)
        found = json.loads(short)
        assert len(short) < len(whole)
        assert (len(found["volumes"]), found["volumes_left_off"], found["devices_survived"]) == (2, 1, 2)
        assert found | {"volumes": [], "volumes_left_off": 0} == json.loads(whole) | {"volumes": []}

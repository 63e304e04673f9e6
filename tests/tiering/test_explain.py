"""Explanations of files, also of those in more volumes than are shown."""

import json
from pathlib import Path

import pytest

from stratumfs.catalog.volumes import SEALED, volumes
from stratumfs.cli.explain_text import explanation_lines
from stratumfs.errors import ColdUnavailable
from stratumfs.ids import CellIndex, InodeNo
from stratumfs.limits import REMOTE_FAILURES
from stratumfs.owner import create
from stratumfs.store.store import Store
from tests.faults import acts
from tests.stratumfs.owner.helpers import KEYS, devices, opened
from tests.stratumfs.store.helpers import put
from tests.stratumfs.store.test_remote_tier import DATA, Refusing, move, rows, with_cold
from tests.tiering.engines import prices
from tiering import attribute, explain
from tiering.explain import Explainer

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


async def test_regression_an_object_in_the_cold_tier_that_is_damaged_or_that_nobody_can_ask_for_is_not_present(
    tmp_path: Path,
) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        ino = (await put(store, b"key", DATA)).ino
        await move(store, "key", "cold")
        explainer = Explainer(store, lambda ident: None, {}, prices().tiers, None)

        async def told() -> tuple[str, int]:
            found = await explainer.explain(inode=ino)
            assert list(explanation_lines("key", found))
            return found["volumes"][0]["shards"][0]["state"], found["devices_survived"]

        state, whole = await told()
        assert state == "present"
        assert whole >= 0
        remote.refuses = {"get"}
        for _ in range(REMOTE_FAILURES):
            with pytest.raises(ColdUnavailable):
                await store.remotes["cold"].source.read(remote.get, "name", 0, 1)
        state, survived = await told()
        assert state.startswith("not known: it refuses; it is asked again in ")
        assert survived == whole
        [row] = await rows(store, SEALED)
        store.remotes["cold"].bad.miss(row.id, "there is no object")
        assert await told() == ("damaged: there is no object", -1)

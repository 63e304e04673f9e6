"""The rehearsal of staleness in short form; ``tools/rehearse stale`` is the long one."""

from collections.abc import Iterator

import pytest

from tests.doors import Doors
from tools.rehearsals import stale
from tools.rehearsals._stale_kinds import BY_MOUNT, BY_S3
from tools.rehearsals._stale_look import Stale
from tools.rehearsals._stale_scene import Scene
from tools.rehearsals.stale import Rehearsal, with_metrics

SEED = 3
ROUNDS = 500

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


@pytest.fixture
def rehearsal(doors: Doors) -> Iterator[Rehearsal]:
    with_metrics(doors)
    found = Rehearsal(doors, SEED)
    yield found
    found.close()


def test_no_door_shows_anything_stale(rehearsal: Rehearsal) -> None:
    while rehearsal.round < ROUNDS:
        rehearsal.sit(stale.SITTING)
    assert rehearsal.counts["rounds in a busy directory"] == stale.SITTING
    assert rehearsal.counts["warm stats"], "the kernel's cache was on"
    assert sum(count for what, count in rehearsal.counts.items() if what.startswith(("S3", "mount"))) == ROUNDS


def _lie_to_the_mount(scene: Scene) -> Iterator[None]:
    scene.put(scene.top)
    yield
    scene.set(scene.top, scene.data(7))


def _lie_to_s3(scene: Scene) -> Iterator[None]:
    scene.write(scene.top)
    yield
    del scene.keys[scene.top]


def test_the_rehearsal_notices_what_is_stale(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "BY_S3", (_lie_to_the_mount,))
    monkeypatch.setattr(stale, "BY_MOUNT", (_lie_to_s3,))
    for first in range(2):
        rehearsal.round = first
        with pytest.raises(Stale, match="_lie_to_"):
            rehearsal.sit(1)


def test_all_kinds_have_their_turn() -> None:
    assert 2 * max(len(BY_S3), len(BY_MOUNT)) <= ROUNDS

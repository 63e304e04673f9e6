"""What is carried out of a batch of which a part cannot be read."""

from pathlib import Path

from stratumfs.catalog.decisions import DONE
from stratumfs.errors import DeviceFailed
from stratumfs.ids import random_id
from tests.remotes import MemoryRemote
from tests.stratumfs.store.helpers import put
from tests.stratumfs.store.test_remote_tier import DATA, move, with_cold
from tiering.carrier import Carrier
from tiering.signals import Use
from tiering.verdict import Cause, Inputs, Verdict


class Partial(MemoryRemote):
    """withholds: objects that are not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.withholds: set[str] = set()

    def get(self, name: str, offset: int, length: int) -> bytes:
        if name in self.withholds:
            raise DeviceFailed("it refuses", self.label)
        return super().get(name, offset, length)


async def test_what_a_remote_tier_does_not_give_fails_alone(tmp_path: Path) -> None:
    remote = Partial()
    async with with_cold(tmp_path, remote) as store:
        inos = [(await put(store, key, DATA)).ino for key in (b"one", b"two")]
        await move(store, "one", "cold")
        remote.withholds = {name for name in remote.objects if "/volumes/" in name}
        await move(store, "two", "cold")
    async with with_cold(tmp_path, remote) as store:  # nothing is cached
        inputs = Inputs(Use(len(DATA), 0.0, 1.0, None, 1.0, None, 1.0, 0, 0), 0, (0, 0), 1, 0, 1, 0, 0)
        moves = [Verdict(ino, 1, 0, 0.0, Cause.POLICY, inputs, None) for ino in inos]
        carried = await Carrier(store, ["hot", "cold"]).carry(0, moves, random_id())
        assert carried.outcomes[inos[1]] == DONE
        assert "it refuses" in carried.outcomes[inos[0]]
        assert not carried.stopped

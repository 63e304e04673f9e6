"""Move a large part of this machine's own files hot to warm to cold and back, while both doors are used, and worse.

One bucket is filled through the mount, another one through S3, and both are moved, as ``tools/rehearse move`` does it;
the cold tier is a real S3 service on loopback behind a proxy. At each station everything is compared with the source
through both doors, times and ETags too. Then the service goes away, by refusing all and by answering nothing: what lies
in the hot and the warm tier is read and written as before, what lies in the cold one fails in time and says why. Then
the owner is killed with kill -9 in the midst of moves both ways, again and again. At last every byte is compared once
more, fsck reads every cell, and nothing is left at either end that nobody knows.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console

from stratumfs.owner.messages import TierReport
from tests.doors import Doors
from tests.faults.proxy import Proxy, proxy
from tests.remotes import opened_cold, remote_at, write_keys
from tools.measure.endpoint import Endpoint
from tools.measure.systems import seaweed
from tools.rehearsals import move
from tools.rehearsals._tiers_away import DEADLINE_S, Away
from tools.rehearsals._tiers_kills import WAYS, Kills
from tools.rehearsals._tree_sample import Entry
from tools.rehearsals.tree import BY_MOUNT, BY_S3, FILL_S, Different, Tell

AWAY_S = 30.0
KILLS = 4
SETTINGS = f"deadline_s = {DEADLINE_S:.0f}\nkeep_days = 0\n"
"""Bytes go each way each time: none goes back by a swap alone."""
KILL, ORPHANS = "kill the owner while it moves", "look for what nobody knows"
TIDY_S = 300.0
"""Until objects are deleted whose bytes lie elsewhere by now: a minute is kept for readers."""
_ROUNDS_MAX = 4
"""For each kill that is wanted: a move may be over too early."""


class Rehearsal(move.Rehearsal):
    """Of a store with three tiers; *between* is in front of the *service* of the cold one.

    away_s   how long it is watched in each state of the service
    kills    how many there are to be in each direction
    objects  of the cold tier, at the end
    """

    def __init__(
        self,
        doors: Doors,
        entries: list[Entry],
        tell: Tell,
        between: Proxy,
        service: Endpoint,
        *,
        seed: int = 1,
        away_s: float = AWAY_S,
        kills: int = KILLS,
    ) -> None:
        super().__init__(doors, entries, tell, seed)
        self._service, self._away_s, self._wanted = service, away_s, kills
        self.away = Away(doors, between, self.load, BY_MOUNT, seed)
        self.kills = Kills(doors, BY_S3, self._files, seed)
        self.objects = 0

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        return {
            "fill a bucket through the mount": self.fill_by_mount,
            "fill a bucket through S3": self.fill_by_s3,
            "move from hot to warm": partial(self.move, "warm"),
            "move from warm to cold": partial(self.move, "cold"),
            "use all tiers without the service": self.use_without_service,
            "move back to hot": partial(self.move, "hot"),
            KILL: self.kill_owner,
            "compare": self.compare,
            ORPHANS: self.look_for_orphans,
        }

    def use_without_service(self) -> None:
        """A part of one bucket comes back to hot and warm; the other one stays cold. Raises: Wrong."""
        top = self.doors.mount / BY_S3 / "usr"
        for number, folder in enumerate(sorted(top.iterdir())):
            self._move(folder, ("warm", "hot")[number % 2])
        self.load.read_from = (BY_S3,)
        self.away.run([entry for entry in self._files if self._tier(entry) == "cold"], self._away_s)
        self.load.clear()
        self.load.read_from = (BY_MOUNT, BY_S3)

    def kill_owner(self) -> None:
        """Raises: Lost, Different."""
        kills = self.kills
        for _ in range(_ROUNDS_MAX * self._wanted * len(WAYS)):
            done = [min(kills.killed(way), self._wanted) for way in WAYS]
            self._tell(KILL, sum(done), self._wanted * len(WAYS))
            if min(done) >= self._wanted:
                break
            kills.run_round()
        else:
            raise Different(f"too many moves were over before their owner was killed: {dict(kills.counts)}")
        kills.wait_moved()

    def look_for_orphans(self) -> None:
        """The objects of the cold tier are those that rows name as sealed, all and no others. Raises: Different."""
        deadline = time.monotonic() + TIDY_S
        remote = remote_at(self._service, self.doors.folder.name, page=1000)
        while True:
            there = {name for name in remote.names("") if "/volumes/" in name}
            known, others = self._objects()
            if there == known and not others:
                break
            if time.monotonic() > deadline:
                raise Different(
                    f"objects that no sealed volume is of: {sorted(there - known)[:5]}, that are missing: "
                    f"{sorted(known - there)[:5]}, not freed: {sorted(others)[:5]}"
                )
            time.sleep(1.0)
        remote.close()
        self.objects = len(there)

    def _objects(self) -> tuple[set[str], set[str]]:
        """Those of sealed volumes, and those of others, as the store knows them."""
        [left] = self.doors.ask(TierReport())["left_site"]
        assert left["objects_count"] == len(left["objects"]), "the report names no more than a thousand"
        sealed = {each["object"] for each in left["objects"] if each["state"] == "sealed"}
        return sealed, {each["object"] for each in left["objects"]} - sealed

    def _tier(self, entry: Entry) -> str:
        return os.getxattr(self.doors.mount / BY_MOUNT / entry.path, "user.stratum.tier").decode()


def main(argv: list[str]) -> int:
    options, entries = move.chosen("tiers", __doc__, argv, _arguments)
    folder, console = options.folder, Console()
    seaweeds, keys = folder / "service", folder / "keys"
    seaweeds.mkdir()
    with seaweed(seaweeds, mount=False) as system, proxy(_endpoint(system.endpoint)) as between:
        service = _endpoint(system.endpoint)
        write_keys(keys, service)
        opening = opened_cold(folder, between.url, keys, SETTINGS, warm=move.WARM, seconds=16 * FILL_S)
        with opening as doors:
            rehearsal = move.carry_out(
                lambda tell: Rehearsal(
                    doors, entries, tell, between, service, seed=options.seed, away_s=options.away, kills=options.kills
                ),
                console,
            )
        move.print_moves(rehearsal, console)
        _print_more(rehearsal, between, console)
        if not move.is_whole(doors, console):
            return 1
    console.print("at each station everything was the same through both doors, and nothing is left that nobody knows")
    if options.temporary:
        shutil.rmtree(folder)
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--away", type=float, default=AWAY_S, help="seconds in each state of the service")
    parser.add_argument("--kills", type=int, default=KILLS, help="in each direction")


def _endpoint(found: Endpoint | None) -> Endpoint:
    assert found is not None
    return found


def _print_more(rehearsal: Rehearsal, between: Proxy, console: Console) -> None:
    away = rehearsal.away
    for name, rates in away.rates.items():
        console.print(f"service {name}: " + ", ".join(f"{what} {rate:.0f}/s" for what, rate in sorted(rates.items())))
    for what, count in sorted(away.counts.items()):
        console.print(f"service {what}: {count}")
    for what, seconds in sorted(away.slowest.items()):
        console.print(f"service {what}: {seconds:.2f} s at most")
    for what, count in sorted(rehearsal.kills.counts.items()):
        console.print(f"{what}: {count}")
    console.print(f"requests of the service: {dict(sorted(between.asked.items()))}; objects left: {rehearsal.objects}")

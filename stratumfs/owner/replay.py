"""``stratum-tier replay``: the accesses that were recorded, under the store's own policy and under another one.

It runs in the command, not in the owner: hundreds of thousands of decisions would be felt at the doors. The owner is
asked what there is; what was accessed is read from the store folder.
"""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stratumfs import config
from stratumfs.errors import ConfigError
from tiering.costs import price_list
from tiering.prices import DAY_S, PriceList
from tiering.recording import RECORDING_FOLDER, Access, Kind, recorded
from tiering.replay import Stored, compared, replay
from tiering.worths import PolicySettings


def replayed(folder: Path, policy: Path, since_s: float, inventory: Mapping[str, Any]) -> dict[str, Any]:
    """Both policies for JSON; *policy*: settings of which only what differs need be said.

    Raises: ConfigError, also where nothing was recorded since; OSError.
    """
    own, other = _settings(folder, policy)
    accesses = sorted(recorded(folder / RECORDING_FOLDER, since_s))
    if not accesses:
        raise ConfigError(f"{folder} has recorded no access since then")
    since, until = max(since_s, accesses[0].at), max(time.time(), accesses[-1].at)
    stored = list(_stored(inventory, accesses))
    room = inventory["capacities"]
    ours, theirs = _prices(own, room, None), _prices(other, room, own)
    if [tier.name for tier in ours.tiers][: len(inventory["tiers"])] != inventory["tiers"]:
        raise ConfigError(f"{folder}: its settings have other tiers than its owner")
    before = replay(stored, accesses, ours, _policy(own), since, until)
    after = replay(stored, accesses, theirs, _policy(other), since, until)
    now, then = ([tier.name for tier in each.tiers] for each in (ours, theirs))
    return {
        "policy": str(policy),
        "accesses": len(accesses),
        "objects": len(stored),
        "objects_left_off": inventory["left_off"],
        **compared(now, before, then, after),
    }


def _settings(folder: Path, policy: Path) -> tuple[config.Settings, config.Settings]:
    path = folder / config.SETTINGS_FILE
    own = config.load(path)
    try:
        text = policy.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{policy} cannot be read: {error}") from error
    return own, config.parse(text, str(policy), path.read_text("utf-8"))


def _prices(settings: config.Settings, room: Mapping[str, int], own: config.Settings | None) -> PriceList:
    """With the room that tiers have now, where *settings* do not give another one than the store's *own*."""
    made = price_list(settings.priced, settings.tiering.usd_wait_hour)
    capacities = []
    for tier in made.tiers:
        said, was = settings.priced[tier.name].capacity, own.priced.get(tier.name) if own is not None else None
        differs = own is not None and (was is None or was.capacity != said)
        capacities.append(tier.capacity_bytes if differs else float(room.get(tier.name, math.inf)))
    return made.with_capacities(capacities)


def _policy(settings: config.Settings) -> PolicySettings:
    return PolicySettings(warmup_s=0.0, payback_s=settings.tiering.payback_days * DAY_S)


def _stored(inventory: Mapping[str, Any], accesses: list[Access]) -> Iterator[Stored]:
    """What was there before the first access: of what was written as a whole first nothing was."""
    first: dict[int, Access] = {}
    for access in accesses:
        first.setdefault(access.ino, access)
    for ino, size, tier in inventory["objects"]:
        begun = first.get(ino)
        if begun is None or begun.kind != Kind.WRITE or begun.length < begun.size:
            yield Stored(ino, size, tier)

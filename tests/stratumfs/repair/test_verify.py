"""Verification of whole volumes."""

import trio

from stratumfs.erasure.checksum import digest
from stratumfs.ids import CellIndex
from stratumfs.location import Location
from stratumfs.repair.verify import Damage, verify_volume
from stratumfs.volumes.format import HEADER_SIZE, CellHeader, pack_headers, stripes_of, unpack_header
from tests.suites.tier import STORE, Tier, payload


async def verified(tier: Tier, locations: list[Location]) -> list[Damage]:
    stripes = [at for location in locations for at in stripes_of(location, 1000)]
    limiter = trio.CapacityLimiter(1)
    return await verify_volume(STORE, tier.info(locations[0]), stripes, tier.devices, limiter)


async def test_a_sound_volume_has_no_damage() -> None:
    tier = Tier()
    locations = [await tier.append(payload(1000, number)) for number in range(3)]
    assert await verified(tier, locations) == []
    await tier.writer.close()
    assert await verified(tier, locations) == []


async def test_every_kind_of_damage_is_named() -> None:
    tier = Tier()
    locations = [await tier.append(payload(1000, number)) for number in range(2)]
    volume = locations[0].volume
    tier.shard(volume, 5)[200] ^= 1
    tier.shards_of(volume, 0).contents = {}
    del tier.devices[tier.info(locations[0]).devices[1]]
    found = await verified(tier, locations)
    assert sorted((damage.index, damage.stripe.stripe) for damage in found) == [(0, 0), (0, 1), (1, 0), (1, 1), (5, 0)]


async def test_parity_that_agrees_with_its_own_hash_only_is_found() -> None:
    tier = Tier()
    at = await tier.append(payload(1000))
    shard = tier.shard(at.volume, 4)
    header = unpack_header(shard[:HEADER_SIZE])
    wrong = payload(250, 9)
    forged = CellHeader(
        header.store,
        header.volume,
        header.code,
        header.index,
        header.stripe,
        header.nonce,
        header.payload_length,
        header.cell_length,
        digest(wrong),
    )
    shard[: HEADER_SIZE + 250] = pack_headers([forged])[0] + wrong
    assert [damage.index for damage in await verified(tier, [at])] == [CellIndex(4)]

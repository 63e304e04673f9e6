"""Where new data is written that is known not to belong into the fastest tier: by a pin of its directory, or a hint.

What is not pinned or hinted goes to the fastest tier whatever is known of it: nobody has read it yet. A tier elsewhere
takes none: there the slowest on devices does, and the engine moves it on.
"""

from collections.abc import Callable, Sequence

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.residence import pin_above, pin_of_key
from stratumfs.ids import InodeNo
from stratumfs.values import ObjectSpec
from tiering.signals import Hint
from tiering.wishes import hint_of, pinned_to


class HintedLanding:
    """A `Landing`.

    tiers  all names, fastest first; devices: how many of them lie on devices
    pins   whether any directory may be pinned: as long as none is, none is looked for
    """

    def __init__(self, catalog: Catalog, tiers: Sequence[str], devices: int, pins: Callable[[], bool]) -> None:
        self._catalog, self._tiers, self._slowest, self._pins = catalog, tiers, devices - 1, pins

    async def of_object(self, bucket: InodeNo, key: bytes, spec: ObjectSpec) -> str | None:
        pin = await self._catalog.read(pin_of_key, bucket, key) if self._pins() else None
        at = pinned_to(pin, self._tiers)
        if at is None and hint_of(spec.metadata, spec.storage_class) == Hint.COLD:
            at = self._slowest
        return self._on_devices(at)

    async def of_file(self, ino: InodeNo) -> str | None:
        pin = await self._catalog.read(pin_above, ino) if self._pins() else None
        return self._on_devices(pinned_to(pin, self._tiers))

    def _on_devices(self, tier: int | None) -> str | None:
        return None if tier is None else self._tiers[min(tier, self._slowest)]

"""Places that can hold the catalog, and what is found at them. All of it blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from stratumfs.catalog.chains import Manifest, last_sequence, read_manifest
from stratumfs.catalog.epochs import FoundChain, Named
from stratumfs.errors import StratumError
from stratumfs.ids import Disk, PlaceId

_log = structlog.get_logger(__name__)


class Place(Protocol):
    """The store folder or a device, reachable and locked by us.

    disk    equal for places that fail together
    label   for messages
    folder  its catalog folder, which may not be there yet
    """

    @property
    def id(self) -> PlaceId: ...

    @property
    def disk(self) -> Disk: ...

    @property
    def label(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    def read_named(self) -> Named | None:
        """What its identity file says of epochs; None if nothing. Raises: StratumError, OSError."""
        ...

    def write_named(self, named: Named) -> None:
        """Replace what it says; durable on return. Raises: StratumError, OSError; then the old text is whole."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at a place; ``problem`` says why some of it cannot be read."""

    named: Named | None
    manifest: Manifest | None
    problem: str = ""


def look(place: Place) -> Found:
    """Identity file and manifest of a place. Changes nothing."""
    try:
        named = place.read_named()
    except (StratumError, OSError) as error:
        return Found(None, None, str(error))
    try:
        return Found(named, read_manifest(place.folder))
    except (StratumError, OSError) as error:
        return Found(named, None, str(error))


def chain_of(place: Place, manifest: Manifest) -> FoundChain | None:
    """The chain there, if it can be read."""
    try:
        sequence = last_sequence(place.folder, manifest)
    except (StratumError, OSError) as error:
        _log.warning("a copy of the catalog cannot be read", place=place.label, reason=str(error))
        return None
    return FoundChain(manifest.epoch, sequence)


def labels(places: Mapping[PlaceId, Place]) -> dict[PlaceId, str]:
    return {ident: place.label for ident, place in places.items()}

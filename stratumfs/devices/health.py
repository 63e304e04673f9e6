"""The states of a device, and which may follow which."""

from enum import StrEnum

from stratumfs.errors import InvalidArgument


class DeviceState(StrEnum):
    """ONLINE     takes reads and writes
    FULL       healthy, but takes no new volumes
    SUSPECT    slow or erring beside its peers: read last, written still
    DRAINING   what it holds is made on others: it takes no new volumes, and may be removed when it holds nothing
    READ_ONLY  a sync failed: nothing is written to it again, it serves verified reads
    FAILED     struck: not counted upon; comes back only when verified and caught up
    JOINING    about to become one of the store's: it has not been up yet
    GONE       removed from the store for good
    """

    __hash__ = str.__hash__  # the same number; Enum computes it in Python, and each write asks

    ONLINE = "online"
    FULL = "full"
    SUSPECT = "suspect"
    DRAINING = "draining"
    READ_ONLY = "read_only"
    FAILED = "failed"
    JOINING = "joining"
    GONE = "gone"


_S = DeviceState
_LOST = frozenset({_S.READ_ONLY, _S.FAILED})
TRANSITIONS: dict[DeviceState, frozenset[DeviceState]] = {
    _S.ONLINE: _LOST | {_S.FULL, _S.SUSPECT, _S.DRAINING},
    _S.FULL: _LOST | {_S.ONLINE, _S.SUSPECT, _S.DRAINING},
    _S.SUSPECT: _LOST | {_S.ONLINE, _S.FULL, _S.DRAINING},
    _S.DRAINING: _LOST | {_S.ONLINE, _S.GONE},
    _S.READ_ONLY: frozenset({_S.ONLINE, _S.DRAINING, _S.FAILED, _S.GONE}),  # up again: verified, caught up
    _S.FAILED: frozenset({_S.ONLINE, _S.DRAINING, _S.GONE}),
    _S.JOINING: frozenset({_S.ONLINE}),
    _S.GONE: frozenset(),
}
assert TRANSITIONS.keys() == set(DeviceState)

TAKES_VOLUMES = frozenset({_S.ONLINE, _S.SUSPECT})
STRUCK = frozenset({_S.READ_ONLY, _S.FAILED, _S.JOINING, _S.GONE})
"""Nothing is written to these, and they count as lost."""
UP = frozenset(_S) - STRUCK
"""All others: these take writes, full ones and those that are drained too."""


def moved(state: DeviceState, to: DeviceState) -> DeviceState:
    """*to*, if a device in *state* may go there (staying is allowed). Raises: InvalidArgument."""
    if to is not state and to not in TRANSITIONS[state]:
        raise InvalidArgument(f"a device that is {state} cannot become {to}")
    return to

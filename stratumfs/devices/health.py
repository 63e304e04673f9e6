"""The states of a device, and which may follow which."""

from enum import StrEnum

from stratumfs.errors import InvalidArgument


class DeviceState(StrEnum):
    """ONLINE     takes reads and writes
    FULL       healthy, but takes no new volumes
    SUSPECT    slow or erring beside its peers: read last, written still
    READ_ONLY  a sync failed: nothing is written to it again, it serves verified reads
    FAILED     struck: not counted upon; comes back only when verified and caught up
    JOINING    about to take another one's slot: it has not been up yet
    GONE       removed from the store for good
    """

    ONLINE = "online"
    FULL = "full"
    SUSPECT = "suspect"
    READ_ONLY = "read_only"
    FAILED = "failed"
    JOINING = "joining"
    GONE = "gone"


_S = DeviceState
TRANSITIONS: dict[DeviceState, frozenset[DeviceState]] = {
    _S.ONLINE: frozenset({_S.FULL, _S.SUSPECT, _S.READ_ONLY, _S.FAILED}),
    _S.FULL: frozenset({_S.ONLINE, _S.SUSPECT, _S.READ_ONLY, _S.FAILED}),
    _S.SUSPECT: frozenset({_S.ONLINE, _S.FULL, _S.READ_ONLY, _S.FAILED}),
    _S.READ_ONLY: frozenset({_S.ONLINE, _S.FAILED, _S.GONE}),  # online again: verified, caught up
    _S.FAILED: frozenset({_S.ONLINE, _S.GONE}),
    _S.JOINING: frozenset({_S.ONLINE}),
    _S.GONE: frozenset(),
}
assert TRANSITIONS.keys() == set(DeviceState)

TAKES_VOLUMES = frozenset({_S.ONLINE, _S.SUSPECT})
STRUCK = frozenset({_S.READ_ONLY, _S.FAILED, _S.JOINING, _S.GONE})
"""Nothing is written to these, and they count as lost. All others are *up*, a full one too."""


def moved(state: DeviceState, to: DeviceState) -> DeviceState:
    """*to*, if a device in *state* may go there (staying is allowed). Raises: InvalidArgument."""
    if to is not state and to not in TRANSITIONS[state]:
        raise InvalidArgument(f"a device that is {state} cannot become {to}")
    return to

"""File descriptors: as many as this process may have, and how many of them S3's connections get.

Clients come as they like, and devices and catalog must never lack what they need to take a byte or to give one.
"""

import resource

import structlog

from stratumfs.limits import CONNECTIONS_MAX, CONNECTIONS_MIN, DEVICE_DESCRIPTORS, OWNER_DESCRIPTORS

_log = structlog.get_logger(__name__)


def raise_limit() -> None:
    """Have as many as the administrator lets us: the usual soft limit (1024) is for programs that call select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_max(devices: int) -> int:
    """Connections that one S3 door may have with so many devices, by the limit of this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = connections_within(limit, devices)
    if found < CONNECTIONS_MAX:
        _log.warning("few_descriptors", limit=limit, devices=devices, connections=found)
    return found


def connections_within(limit: int, devices: int) -> int:
    """What *limit* leaves to clients, within bounds. It may be RLIM_INFINITY, which is below zero."""
    if limit == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    left = limit - OWNER_DESCRIPTORS - devices * DEVICE_DESCRIPTORS
    return min(max(left, CONNECTIONS_MIN), CONNECTIONS_MAX)

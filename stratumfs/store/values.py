"""Moved."""

from stratumfs.values import *  # noqa: F403
